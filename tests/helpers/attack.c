/* A stand-in for cst that tries what an exploited one would, and prints what succeeded. Compiled with DAEMON (a process
   id), PORT and OTHER_PORT, UNIX (a listening socket), ABSTRACT (the name of another), SECRETS (a list of files), FOLDERS
   (folders to write to), and MARK; and for a run with a token MODULE, the PKCS #11 module that it
   loads first, and TOKEN, a label. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <mqueue.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/inotify.h>
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
	/* An access mode that neither reads nor writes, but is enough for fchmod, and for O_TRUNC to empty a file. */
	int neither = open(secrets[0], 3);
	tries(neither >= 0, "open to neither read nor write");
	tries(fchmod(neither, 0600) == 0, "fchmod");
	tries(open("../artifact", 3 | O_TRUNC) >= 0, "empty the artifact by another mode");
	tries(reads("/proc/sys/kernel/hostname"), "read a sysctl");
	tries(open("/proc/self/oom_score_adj", O_WRONLY) >= 0, "write to its own /proc");
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
	tries(chmod(".", 0) == 0, "take the rights from its directory");
	tries(utimensat(AT_FDCWD, "../artifact", NULL, 0) == 0, "change the times of the artifact");
	close(open("plain", O_WRONLY | O_CREAT, 0600));
	tries(chmod("plain", 04777) == 0, "a setuid file");
	tries(link("plain", "linked") == 0, "a hard link");
	tries(syscall(SYS_renameat2, AT_FDCWD, "plain", AT_FDCWD, "moved", 4) == 0, "leave a device by renaming");
	unlink("plain"), unlink("moved");
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
	struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0" ABSTRACT};
	one = socket(AF_UNIX, SOCK_STREAM, 0);
	tries(connect(one, (void *)&abstract, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof ABSTRACT)) == 0,
	      "connect to an abstract socket");
	struct sockaddr_in other = tcp;
	other.sin_port = htons(OTHER_PORT);
	one = socket(AF_INET, SOCK_STREAM, 0);
	tries(connect(one, (void *)&other, sizeof other) == 0, "connect to another port");
	one = socket(AF_INET, SOCK_STREAM, 0);
	tries(sendto(one, "x", 1, MSG_FASTOPEN, (void *)&other, sizeof other) == 1, "connect by sending");
	one = socket(AF_INET, SOCK_STREAM, 262);
	tries(connect(one, (void *)&other, sizeof other) == 0, "connect by MPTCP");
	tries(socket(AF_INET, SOCK_SEQPACKET, 132) >= 0 || errno != EPERM, "SCTP");
	tries(socket(AF_VSOCK, SOCK_STREAM, 0) >= 0, "vsock");
	tries(socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0, "AF_ALG");
	tries(socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}) == 0, "a pair of sockets");
}

/* Ways into the kernel, and to others by way of it. */
static void kernel(void)
{
	char room[256] = {0};
	cpu_set_t cpus;
	struct rlimit lower = {16, 16};
	/* An owner of a descriptor gets a signal when something happens to it. */
	tries(fcntl(1, F_SETOWN, DAEMON) == 0, "F_SETOWN");
	tries(fcntl(1, F_SETSIG, SIGUSR1) == 0, "F_SETSIG");
	tries(fcntl(1, F_SETPIPE_SZ, 1 << 20) > 0, "F_SETPIPE_SZ");
	int pair = socket(AF_UNIX, SOCK_STREAM, 0), owner = DAEMON;
	tries(ioctl(pair, FIOSETOWN, &owner) == 0, "FIOSETOWN");
	tries(ioctl(1, TIOCSTI, "x") == 0 || errno != EPERM, "TIOCSTI");
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	tries(sched_setaffinity(DAEMON, sizeof cpus, &cpus) == 0, "sched_setaffinity of the daemon");
	tries(prlimit(DAEMON, RLIMIT_NOFILE, NULL, &lower) == 0, "prlimit of the daemon");
	tries(setpriority(PRIO_PROCESS, DAEMON, 19) == 0, "setpriority of the daemon");
	tries(syscall(SYS_tgkill, DAEMON, DAEMON, 0) == 0, "tgkill of the daemon");
	tries(syscall(SYS_tkill, DAEMON, 0) == 0, "tkill of the daemon");
	tries(syscall(SYS_rt_sigqueueinfo, DAEMON, 0, room) == 0, "rt_sigqueueinfo of the daemon");
	tries(setpgid(0, DAEMON) == 0, "setpgid");
	tries(prctl(PR_SET_PDEATHSIG, 0) == 0, "take back its signal of death");
	tries(syscall(SYS_memfd_create, "x", 0) >= 0, "memfd_create");
	tries(syscall(SYS_execveat, AT_FDCWD, "/nowhere", NULL, NULL, 0) == -1 && errno != EPERM, "execveat");
	tries(syscall(SYS_userfaultfd, 1) >= 0, "userfaultfd");
	tries(syscall(SYS_bpf, 0, room, 0) >= 0 || errno != EPERM, "bpf");
	tries(syscall(SYS_perf_event_open, room, 0, -1, -1, 0) >= 0 || errno != EPERM, "perf_event_open");
	tries(syscall(SYS_add_key, "user", "x", "x", 1, -3) >= 0, "add_key");
	tries(syscall(SYS_request_key, "user", "x", "x", 0) >= 0 || errno != EPERM, "request_key");
	tries(syscall(SYS_fsopen, "tmpfs", 0) >= 0, "fsopen");
	tries(syscall(SYS_open_tree, AT_FDCWD, "/", 0) >= 0, "open_tree");
	tries(syscall(SYS_move_mount, -1, "", -1, "", 0) == -1 && errno != EPERM, "move_mount");
	tries(mount("x", "/nowhere", "tmpfs", 0, NULL) == 0 || errno != EPERM, "mount");
	tries(chroot("/nowhere") == 0 || errno != EPERM, "chroot");
	struct file_handle handle = {.handle_bytes = 0};
	int id;
	tries(name_to_handle_at(AT_FDCWD, ".", &handle, &id, 0) == 0 || errno != EPERM, "name_to_handle_at");
	tries(open_by_handle_at(AT_FDCWD, &handle, 0) >= 0 || errno != EPERM, "open_by_handle_at");
	tries(syscall(SYS_fanotify_init, 0, 0) >= 0 || errno != EPERM, "fanotify");
	tries(inotify_init() >= 0, "inotify");
	/* What succeeds is removed: without a cage it would stay on the host. */
	int ours = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	tries(ours >= 0, "shared memory of System V");
	shmctl(ours, IPC_RMID, NULL);
	ours = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	tries(ours >= 0, "semaphores of System V");
	semctl(ours, 0, IPC_RMID);
	ours = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	tries(ours >= 0, "messages of System V");
	msgctl(ours, IPC_RMID, NULL);
	tries(mq_open("/digsigd-" MARK, O_CREAT | O_RDWR, 0600, NULL) >= 0, "messages of POSIX");
	mq_unlink("/digsigd-" MARK);
	tries(syscall(SYS_seccomp, 2, 0, NULL) == 0 || errno != EPERM, "seccomp");
	tries(syscall(SYS_kcmp, DAEMON, DAEMON, 0, 0, 0) >= 0, "kcmp");
	tries(syscall(SYS_process_madvise, -1, NULL, 0, 0, 0) == -1 && errno != EPERM, "process_madvise");
	tries(syscall(SYS_setns, -1, 0) == -1 && errno != EPERM, "setns");
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
	kernel();
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

#ifdef MODULE
/* The first call that failed is what a PKCS #11 function returned, or where it is missing. */
static void *function(void *module, const char *name)
{
	void *found = dlsym(module, name);
	if (!found)
		printf("the module has no %s\n", name), exit(2);
	return found;
}

static void must(unsigned long code, const char *name)
{
	if (code)
		printf("%s returned %#lx\n", name, code), exit(2);
}

/* Load the module, and use the token TOKEN with the PIN in the configuration that cst gets; count its private keys. */
static void open_token(void)
{
	char line[256], pin[64] = "", information[512];
	unsigned long slots[16], count = 16, session, class = 3, keys[16], found = 0;
	struct { unsigned long type; void *value; unsigned long length; } private = {0, &class, sizeof class};
	FILE *configuration = fopen("../openssl.cnf", "r");
	while (configuration && fgets(line, sizeof line, configuration))
		sscanf(line, "PIN = \"%63[^\"]", pin);
	void *module = dlopen(MODULE, RTLD_NOW);
	if (!module)
		puts(dlerror()), exit(2);
	unsigned long (*initialize)(void *) = function(module, "C_Initialize");
	unsigned long (*list)(int, unsigned long *, unsigned long *) = function(module, "C_GetSlotList");
	unsigned long (*describe)(unsigned long, void *) = function(module, "C_GetTokenInfo");
	unsigned long (*open_session)(unsigned long, unsigned long, void *, void *, unsigned long *) =
		function(module, "C_OpenSession");
	unsigned long (*login)(unsigned long, unsigned long, char *, unsigned long) = function(module, "C_Login");
	unsigned long (*find)(unsigned long, void *, unsigned long) = function(module, "C_FindObjectsInit");
	unsigned long (*next)(unsigned long, unsigned long *, unsigned long, unsigned long *) =
		function(module, "C_FindObjects");
	must(initialize(NULL), "C_Initialize");
	must(list(1, slots, &count), "C_GetSlotList");
	unsigned long slot = 0;
	while (slot < count && !(describe(slots[slot], information) == 0 && !strncmp(information, TOKEN " ", sizeof TOKEN)))
		slot++;
	must(slot == count, "a search for the token");
	must(open_session(slots[slot], 4, NULL, NULL, &session), "C_OpenSession");
	must(login(session, 1, pin, strlen(pin)), "C_Login");
	must(find(session, &private, 1), "C_FindObjectsInit");
	must(next(session, keys, 16, &found), "C_FindObjects");
	printf("%lu private keys on the token\n", found);
	fflush(stdout);
}
#endif

int main(int argc, char **argv, char **environment)
{
	(void)argc, (void)argv;
#ifdef MODULE
	open_token();
#endif
	signal(SIGXFSZ, SIG_IGN);
	files();
	network();
	processes(environment);
	return 1;
}
