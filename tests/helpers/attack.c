/* A stand-in for cst that tries what an exploited one would, and prints what succeeded. Compiled with DAEMON (a process
   id), PORT, UNIX (a listening socket), SECRETS (a list of files), FOLDERS (folders to write to), and MARK. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int tried;

static void report(int succeeded, const char *what, const char *detail)
{
	tried++;
	if (succeeded)
		printf("SUCCEEDED %s%s%s\n", what, *detail ? " " : "", detail);
	fflush(stdout);
}

static void tries(int succeeded, const char *what) { report(succeeded, what, ""); }

static int reads(const char *path)
{
	char byte;
	int file = open(path, O_RDONLY | O_NONBLOCK);
	int got = file >= 0 && pread(file, &byte, 1, 0) == 1;
	close(file);
	return got;
}

static void files(void)
{
	static const char *const secrets[] = {SECRETS}, *const folders[] = {FOLDERS};
	static const char *const of_daemon[] = {"environ", "cmdline", "maps", "status", "fd"};
	char path[4096];
	for (size_t i = 0; i < sizeof of_daemon / sizeof *of_daemon; i++) {
		snprintf(path, sizeof path, "/proc/%d/%s", DAEMON, of_daemon[i]);
		report(open(path, O_RDONLY) >= 0, "read /proc of the daemon:", of_daemon[i]);
	}
	snprintf(path, sizeof path, "/proc/%d/mem", DAEMON);
	tries(open(path, O_RDWR) >= 0, "open the daemon's memory");
	for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
		report(reads(secrets[i]), "read", secrets[i]);
	tries(reads("/etc/passwd"), "read /etc/passwd");
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		report(opendir(folders[i]) != NULL, "list", folders[i]);
		snprintf(path, sizeof path, "%s/attack-%s", folders[i], MARK);
		report(open(path, O_WRONLY | O_CREAT, 0600) >= 0, "write to", folders[i]);
		report(mkdir(path, 0700) == 0, "make a folder in", folders[i]);
	}
	tries(open("../artifact", O_WRONLY) >= 0, "write to the artifact");
	tries(open("../artifact", O_RDONLY | O_TRUNC) >= 0, "empty the artifact");
	tries(truncate("../artifact", 1) == 0, "truncate the artifact");
	tries(chmod("../artifact", 0666) == 0, "change the mode of the artifact");
	tries(rename("../artifact", "../other") == 0, "rename the artifact");
	tries(unlink("../artifact") == 0, "remove the artifact");
	tries(link("../artifact", "linked") == 0, "link the artifact");
	tries(mkfifo("fifo", 0600) == 0, "leave a FIFO");
	tries(mknod("device", S_IFCHR | 0600, 0x103) == 0, "make a device");
	tries(symlink("/etc/passwd", "link") == 0, "leave a link");
	int sparse = open("sparse", O_RDWR | O_CREAT, 0600);
	tries(sparse >= 0 && ftruncate(sparse, 10LL << 30) == 0, "leave a file of 10 GiB");
}

static void network(void)
{
	struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct sockaddr_un unix_address = {.sun_family = AF_UNIX, .sun_path = UNIX}, left = {.sun_family = AF_UNIX};
	strcpy(left.sun_path, "socket");
	int one = socket(AF_INET, SOCK_STREAM, 0);
	tries(connect(one, (void *)&tcp, sizeof tcp) == 0, "connect by TCP");
	one = socket(AF_INET, SOCK_STREAM, 0);
	tries(bind(one, (void *)&any, sizeof any) == 0 && listen(one, 5) == 0, "listen");
	one = socket(AF_INET, SOCK_DGRAM, 0);
	tries(sendto(one, "x", 1, 0, (void *)&tcp, sizeof tcp) == 1, "send by UDP");
	one = socket(AF_UNIX, SOCK_STREAM, 0);
	tries(connect(one, (void *)&unix_address, sizeof unix_address) == 0, "connect by AF_UNIX");
	one = socket(AF_UNIX, SOCK_STREAM, 0);
	tries(bind(one, (void *)&left, sizeof left) == 0, "leave a socket");
	tries(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) >= 0, "netlink");
	tries(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0, "a raw socket");
	tries(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)) >= 0, "a packet socket");
	tries(socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}) == 0, "a pair of sockets");
}

static void processes(char **environment)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {processes, 1};
	int pidfd = (int)syscall(SYS_pidfd_open, DAEMON, 0);
	tries(pidfd >= 0, "pidfd_open");
	tries(syscall(SYS_pidfd_getfd, pidfd, 0, 0) >= 0, "pidfd_getfd");
	tries(process_vm_readv(DAEMON, &here, 1, &there, 1, 0) >= 0 || errno == EFAULT, "process_vm_readv");
	tries(kill(DAEMON, 0) == 0, "signal the daemon");
	tries(kill(-1, 0) == 0, "signal all");
	tries(kill(0, 0) == 0, "signal the group");
	int children = 0;
	for (int i = 0; i < 300; i++) {
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		children += child > 0;
	}
	while (wait(NULL) > 0) {}
	tries(children > 0, "fork");
	pid_t child = vfork();
	if (child == 0)
		_exit(0);
	tries(child > 0, "vfork");
	child = fork();
	if (child == 0) {
		setsid();
		if (fork() == 0)
			sleep(1000);
		_exit(0);
	}
	while (wait(NULL) > 0) {}
	tries(child > 0, "fork twice with setsid");
	tries(unshare(CLONE_NEWUSER) == 0, "a user namespace");
	tries(unshare(CLONE_NEWNET) == 0, "a network namespace");
	tries(syscall(SYS_io_uring_setup, 1, (char[256]){0}) >= 0, "io_uring");
	tries(syscall(SYS_keyctl, 0, -3, 0) >= 0, "keyctl");
	tries(setsid() >= 0, "setsid");
	tries(ptrace(PTRACE_SEIZE, DAEMON, 0, 0) == 0, "ptrace");
	/* Last: what succeeds does not return. */
	printf("%d tried\n", tried);
	fflush(stdout);
	execve("/bin/sh", (char *[]){"sh", "-c", "echo SUCCEEDED exec sh", NULL}, environment);
	/* The loader may be run; it must find nothing to load. */
	if (reads("/bin/sh"))
		execve("/lib64/ld-linux-x86-64.so.2", (char *[]){"ld", "/bin/sh", "-c", "echo SUCCEEDED exec by ld.so", NULL}, environment);
}

int main(int argc, char **argv, char **environment)
{
	(void)argc, (void)argv;
	signal(SIGXFSZ, SIG_IGN);
	files();
	network();
	processes(environment);
	return 1;
}
