/* Start a program with limits, in a cage: digsigd-cage [OPTION...] -- PROGRAM ARGUMENT...

   It prepares everything, waits for a line on standard input, and then becomes the program, or with namespaces waits
   for it and ends as it does. Exit code 126 and a line of text: it could not be started. digsigd/signing/cage.py has
   the other side. */
#define _GNU_SOURCE
#include "launcher.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct cage cage;

void fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("digsigd-start: ", stdout);
	vprintf(format, arguments);
	putchar('\n');
	fflush(stdout);
	_exit(126);
}

static void add_place(enum use use, const char *path, int needed)
{
	struct stat status;
	struct place *place = &cage.places[cage.place_count];
	if (cage.place_count == sizeof cage.places / sizeof *cage.places)
		fail("too many paths");
	*place = (struct place){use, path, realpath(path, NULL), 0};
	if (!place->real || stat(place->real, &status)) {
		if (needed)
			fail("%s: %s", path, strerror(errno));
		return;
	}
	place->directory = S_ISDIR(status.st_mode);
	cage.place_count++;
}

static unsigned long number(const char *text)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || *end || end == text)
		fail("%s is not a number", text);
	return value;
}

static void limit(int which, unsigned long soft, unsigned long hard)
{
	struct rlimit limit = {soft, hard};
	if (setrlimit((__rlimit_resource_t)which, &limit))
		fail("limit: %s", strerror(errno));
}

static unsigned long soft(int which)
{
	struct rlimit limit;
	getrlimit((__rlimit_resource_t)which, &limit);
	return limit.rlim_cur;
}

static unsigned long hard(int which)
{
	struct rlimit limit;
	getrlimit((__rlimit_resource_t)which, &limit);
	return limit.rlim_max;
}

/* Add what the kernel opens to run an ELF program besides the program: its dynamic loader. */
static void add_loader(const char *program)
{
	static char interpreter[2][256];
	static int count;
	unsigned char head[4096];
	int file = open(program, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (file < 0)
		fail("%s: %s", program, strerror(errno));
	ssize_t size = read(file, head, sizeof head);
	close(file);
	if (size < (ssize_t)sizeof(Elf64_Ehdr) || memcmp(head, ELFMAG, SELFMAG) || count == 2)
		return;
	int wide = head[EI_CLASS] == ELFCLASS64;
	cage.narrow |= !wide;
	size_t start = wide ? ((Elf64_Ehdr *)head)->e_phoff : ((Elf32_Ehdr *)head)->e_phoff;
	unsigned entries = wide ? ((Elf64_Ehdr *)head)->e_phnum : ((Elf32_Ehdr *)head)->e_phnum;
	size_t each = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	for (unsigned i = 0; i < entries && start < sizeof head && start + (i + 1) * each <= (size_t)size; i++) {
		unsigned char *entry = head + start + i * each;
		unsigned type = wide ? ((Elf64_Phdr *)entry)->p_type : ((Elf32_Phdr *)entry)->p_type;
		size_t at = wide ? ((Elf64_Phdr *)entry)->p_offset : ((Elf32_Phdr *)entry)->p_offset;
		size_t length = wide ? ((Elf64_Phdr *)entry)->p_filesz : ((Elf32_Phdr *)entry)->p_filesz;
		if (type != PT_INTERP || at > (size_t)size || length > (size_t)size - at || length >= sizeof *interpreter)
			continue;
		memcpy(interpreter[count], head + at, length);
		add_place(RUN, interpreter[count++], 0);
		return;
	}
}

/* No capability now, and none by executing a program as root. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}}, has[2] = {{0, 0, 0}, {0, 0, 0}};
	prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
	      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0);
	/* Where there are none, a filter of system calls may forbid capset: SystemCallFilter=~@privileged of a systemd unit. */
	if (syscall(SYS_capget, &header, has) == 0 && memcmp(has, none, sizeof none) == 0)
		return;
	if (syscall(SYS_capset, &header, none))
		fail("capabilities: %s", strerror(errno));
}

static void die_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(126);
}

/* The first process of a process namespace: when it ends, the kernel ends all others there. It ends when the pipe does,
   which only the launcher holds open: however that ends. */
static pid_t start_init(int ends[2])
{
	char nothing;
	pid_t init;
	if (pipe2(ends, O_CLOEXEC) || (init = fork()) < 0)
		fail("fork: %s", strerror(errno));
	if (init)
		return init;
	signal(SIGCHLD, SIG_IGN);
	dup2(ends[0], 0);
	syscall(SYS_close_range, 1, ~0U, 0);
	while (read(0, &nothing, 1) < 0 && errno == EINTR) {}
	_exit(0);
}

/* Wait for the program, end all other processes of its namespace, and end as it did. */
__attribute__((noreturn)) static void end_as(pid_t program, pid_t init)
{
	int status;
	/* The group is signalled as a whole: this process has to stay until the program is gone. */
	while (waitpid(program, &status, 0) < 0 && errno == EINTR) {}
	kill(init, SIGKILL);
	while (waitpid(init, NULL, 0) < 0 && errno == EINTR) {}
	if (WIFSIGNALED(status)) {
		sigset_t none;
		signal(WTERMSIG(status), SIG_DFL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		kill(getpid(), WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

static void wait_for_turn(void)
{
	char line;
	ssize_t got;
	while ((got = read(0, &line, 1)) < 0 && errno == EINTR) {}
	if (got != 1)
		_exit(126); /* the daemon is gone */
}

static void parse(int count, char **arguments)
{
	for (int i = 0; i < count; i += 2) {
		const char *option = arguments[i], *value = arguments[i + 1];
		if (i + 1 >= count)
			fail("%s has no value", option);
		if (!strcmp(option, "layers")) {
			cage.namespaces = !!strchr(value, 'n');
			cage.landlock = !!strchr(value, 'l');
			cage.seccomp = !!strchr(value, 's');
		} else if (!strcmp(option, "directory")) {
			cage.directory = value;
			add_place(WRITE, value, 1);
		} else if (!strcmp(option, "read")) {
			add_place(READ, value, 1);
		} else if (!strcmp(option, "read-if-there")) {
			add_place(READ, value, 0);
		} else if (!strcmp(option, "run")) {
			add_place(RUN, value, 1);
			if (!cage.places[cage.place_count - 1].directory)
				add_loader(value);
		} else if (!strcmp(option, "write-if-there")) {
			add_place(WRITE, value, 0);
		} else if (!strcmp(option, "tmp")) {
			cage.own_tmp = 1;
		} else if (!strcmp(option, "preload")) {
			cage.preload = value;
			add_place(READ, value, 1);
		} else if (!strcmp(option, "module")) {
			cage.threads = 1;
			cage.sockets = !strcmp(value, "sockets");
		} else if (!strcmp(option, "port")) {
			if (cage.port_count == sizeof cage.ports / sizeof *cage.ports)
				fail("too many ports");
			cage.ports[cage.port_count++] = (int)number(value);
		} else if (!strcmp(option, "cpu")) {
			limit(RLIMIT_CPU, number(value), hard(RLIMIT_CPU));
		} else if (!strcmp(option, "hard-cpu")) {
			limit(RLIMIT_CPU, soft(RLIMIT_CPU), number(value));
		} else if (!strcmp(option, "file-size")) {
			limit(RLIMIT_FSIZE, number(value), number(value));
		} else if (!strcmp(option, "open-files")) {
			limit(RLIMIT_NOFILE, number(value), number(value));
		} else if (strcmp(option, "parent") && strcmp(option, "memory") && strcmp(option, "try")) {
			fail("%s is not an option", option);
		}
	}
}

/* What contains others comes first, so that it is mounted first, and of the same path what may be written last. */
static int by_depth(const void *one, const void *other)
{
	const struct place *a = one, *b = other;
	int difference = (int)strlen(a->real) - (int)strlen(b->real);
	return difference ? difference : (int)a->use - (int)b->use;
}

static const char *value_of(int count, char **arguments, const char *option)
{
	for (int i = 0; i + 1 < count; i += 2)
		if (!strcmp(arguments[i], option))
			return arguments[i + 1];
	return NULL;
}

int main(int argc, char **argv)
{
	int options = 0, ends[2] = {-1, -1};
	while (options + 1 < argc && strcmp(argv[options + 1], "--"))
		options++;
	char **program = argv + options + 2;
	const char *parent = value_of(options, argv + 1, "parent"), *memory = value_of(options, argv + 1, "memory");
	int trying = value_of(options, argv + 1, "try") != NULL;
	pid_t init = 0;

	/* What a library of the daemon left open. An old kernel has no such call, and the daemon's own are closed. */
	syscall(SYS_close_range, 3, ~0U, 0);
	if (dup2(1, 2) < 0)
		_exit(126);
	umask(077);
	if (setsid() < 0 && !trying)
		fail("setsid: %s", strerror(errno));
	/* Signals that the daemon ignores would stay ignored. */
	for (int i = 1; i < 32; i++)
		signal(i, SIG_DFL);
	sigset_t signals, before;
	sigfillset(&signals);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	sigemptyset(&before);
	if (!trying && (options + 1 >= argc || !program[0]))
		fail("there is no program");
	parse(options, argv + 1);
	qsort(cage.places, cage.place_count, sizeof *cage.places, by_depth);
	limit(RLIMIT_CORE, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("no new privileges: %s", strerror(errno));
	if (cage.directory && chdir(cage.directory))
		fail("%s: %s", cage.directory, strerror(errno));
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0)
		fail("/dev/null: %s", strerror(errno));
	if (cage.namespaces)
		enter_namespaces(&cage);
	if (parent)
		die_with((pid_t)number(parent));
	if (cage.namespaces) {
		set_up_root(&cage);
		if (cage.directory && chdir(cage.directory))
			fail("%s: %s", cage.directory, strerror(errno));
		init = start_init(ends);
		pid_t child = fork();
		if (child < 0)
			fail("fork: %s", strerror(errno));
		if (child) {
			close(0);
			close(1);
			close(2);
			end_as(child, init);
		}
		close(ends[1]);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	drop_capabilities();
	int abi = cage.landlock ? landlock_abi() : 0;
	if (cage.landlock)
		restrict_files(&cage);
	/* Not before: it is for the program, not for this one. */
	if (cage.preload && setenv("LD_PRELOAD", cage.preload, 1))
		fail("environment: %s", strerror(errno));
	if (memory)
		limit(RLIMIT_AS, number(memory), number(memory));
	if (cage.seccomp)
		restrict_calls(&cage);
	if (trying) {
		printf("%d\n", abi);
		fflush(stdout);
		_exit(0);
	}
	wait_for_turn();
	dup2(null, 0);
	execv(program[0], program);
	fail("%s: %s", program[0], strerror(errno));
}
