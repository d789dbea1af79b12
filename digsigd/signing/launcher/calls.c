/* seccomp: which system calls the program may make. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#elif defined(__i386__)
#define NATIVE AUDIT_ARCH_I386
#elif defined(__arm__)
#define NATIVE AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE AUDIT_ARCH_RISCV64
#else
#error "seccomp: an architecture that the launcher does not know"
#endif

/* Calls with arguments that matter. asm/unistd_32.h cannot be included beside the native numbers. */
struct numbers {
	int kill, tgkill, prlimit, ioctl, openat, open, clone, clone3, socket;
	int fcntl, fcntl64, renameat2, sched_setaffinity, sendto, sendmsg, sendmmsg;
	const int *allowed, *module, *sockets;
};

#ifndef __NR_open
#define __NR_open (-1)
#endif
#ifndef __NR_fcntl64
#define __NR_fcntl64 (-1)
#endif
static const struct numbers native = {
	__NR_kill, __NR_tgkill, __NR_prlimit64, __NR_ioctl, __NR_openat, __NR_open, __NR_clone, __NR_clone3, __NR_socket,
	__NR_fcntl, __NR_fcntl64, __NR_renameat2, __NR_sched_setaffinity, __NR_sendto, __NR_sendmsg, __NR_sendmmsg,
	allowed_native, module_native, socket_native,
};
#ifdef __x86_64__
static const struct numbers i386 = {
	37, 270, 340, 54, 295, 5, 120, 435, 359, 55, 221, 353, 241, 369, 370, 345, allowed_i386, module_i386, socket_i386,
};
#endif

static struct sock_filter program[1024];
static unsigned short length;

static void add(unsigned code, unsigned k, unsigned yes, unsigned no)
{
	if (length == sizeof program / sizeof *program)
		fail("seccomp: the filter is too long");
	program[length++] = (struct sock_filter){(unsigned short)code, (unsigned char)yes, (unsigned char)no, k};
}

static void answer(unsigned action) { add(BPF_RET | BPF_K, action, 0, 0); }
static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0); }
static unsigned refused(int error) { return SECCOMP_RET_ERRNO | (unsigned)error; }

/* Little-endian: the low half of an argument comes first. */
static void load_argument(int number) { load(offsetof(struct seccomp_data, args) + 8 * (size_t)number); }

static void allow_each(const int *calls)
{
	for (; *calls >= 0; calls++) {
		add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)*calls, 0, 1);
		answer(SECCOMP_RET_ALLOW);
	}
}

/* Answer a call by whether an argument, of which only the bits of `mask` count, is `value`. */
static void by_argument(int call, int number, unsigned mask, unsigned value, unsigned same, unsigned other)
{
	if (call < 0)
		return;
	add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 5);
	load_argument(number);
	add(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	answer(same);
	answer(other);
}

static void on_argument(int call, int number, unsigned mask, unsigned value, int equal, unsigned action)
{
	if (call < 0)
		return;
	add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 5);
	load_argument(number);
	add(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	add(BPF_JMP | BPF_JEQ | BPF_K, value, !equal, equal);
	answer(action);
	load(offsetof(struct seccomp_data, nr));
}

/* As above, but go on with the filter if the argument is another, or if it is the same. */
static void if_argument(int call, int number, unsigned mask, unsigned value, unsigned same)
{
	on_argument(call, number, mask, value, 1, same);
}

static void unless_argument(int call, int number, unsigned mask, unsigned value, unsigned other)
{
	on_argument(call, number, mask, value, 0, other);
}

/* Of fcntl, what concerns the program's own descriptors. The owner of a descriptor (F_SETOWN) gets signals, whoever it is;
   the size of the pipe to the daemon counts as the daemon's. */
static void allow_fcntl(int call)
{
	static const unsigned commands[] = {
		F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL,
		/* Locks, also of 32-bit programs and of open files. */
		5, 6, 7, 12, 13, 14, 36, 37, 38,
	};
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if_argument(call, 1, ~0U, commands[i], SECCOMP_RET_ALLOW);
}

/* Signals to the owner of a descriptor, and input to a terminal. */
static const unsigned refused_ioctls[] = {FIOSETOWN, SIOCSPGRP, FIOASYNC, TIOCSTI, TIOCLINUX, TIOCSCTTY, TIOCSETD};

static void filter(const struct cage *cage, const struct numbers *numbers)
{
	const unsigned all = ~0U, yes = SECCOMP_RET_ALLOW, no = refused(EPERM);
	load(offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	/* x32 has the same architecture and other numbers. */
	add(BPF_JMP | BPF_JSET | BPF_K, 0x40000000, 0, 1);
	answer(SECCOMP_RET_KILL_PROCESS);
#endif
	/* A file that is opened to neither read nor write (access mode 3) is none that Landlock looks at, but good for
	   fchmod, and O_TRUNC empties it. */
	if_argument(numbers->openat, 2, O_ACCMODE, O_ACCMODE, no);
	if_argument(numbers->open, 1, O_ACCMODE, O_ACCMODE, no);
	/* O_RDONLY with O_TRUNC empties a file. Landlock knows that only since Linux 6.2. */
	if_argument(numbers->openat, 2, O_ACCMODE | O_TRUNC, O_RDONLY | O_TRUNC, no);
	if_argument(numbers->open, 1, O_ACCMODE | O_TRUNC, O_RDONLY | O_TRUNC, no);
	allow_each(numbers->allowed);
	allow_fcntl(numbers->fcntl);
	allow_fcntl(numbers->fcntl64);
	/* RENAME_WHITEOUT makes a device. */
	by_argument(numbers->renameat2, 4, all, 0, yes, no);
	/* Signals to itself, as abort(3) sends them. */
	by_argument(numbers->kill, 0, all, (unsigned)getpid(), yes, no);
	by_argument(numbers->tgkill, 0, all, (unsigned)getpid(), yes, no);
	/* Limits of its own. */
	by_argument(numbers->prlimit, 0, all, 0, yes, no);
	/* The C library uses clone if there is no clone3, whose flags a filter cannot read. */
	by_argument(numbers->clone3, 0, 0, 0, refused(ENOSYS), refused(ENOSYS));
	if (cage->threads) {
		by_argument(numbers->clone, 0, CLONE_THREAD | CLONE_NEWUSER, CLONE_THREAD, yes, no);
		by_argument(numbers->sched_setaffinity, 0, all, 0, yes, no);
		for (size_t i = 0; i < sizeof refused_ioctls / sizeof *refused_ioctls; i++)
			if_argument(numbers->ioctl, 1, all, refused_ioctls[i], no);
		allow_each(numbers->module);
	} else
		by_argument(numbers->ioctl, 1, all, TCGETS, yes, no);
	if (cage->sockets || cage->port_count) {
		if (cage->sockets)
			if_argument(numbers->socket, 0, all, AF_UNIX, yes);
		if (cage->port_count) {
			/* TCP and nothing else: Landlock does not know the ports of MPTCP and SCTP. */
			unless_argument(numbers->socket, 1, 0xf, SOCK_STREAM, no);
			unless_argument(numbers->socket, 2, all & ~(unsigned)IPPROTO_TCP, 0, no);
			if_argument(numbers->socket, 0, all, AF_INET, yes);
			if_argument(numbers->socket, 0, all, AF_INET6, yes);
		}
		/* Connecting by sending goes past Landlock's ports. */
		if_argument(numbers->sendto, 3, MSG_FASTOPEN, MSG_FASTOPEN, no);
		if_argument(numbers->sendmsg, 2, MSG_FASTOPEN, MSG_FASTOPEN, no);
		if_argument(numbers->sendmmsg, 3, MSG_FASTOPEN, MSG_FASTOPEN, no);
		allow_each(numbers->sockets);
	}
	answer(no);
}

/* Jumps of one instruction reach 255 others, so each architecture begins with a long jump over its filter. */
static void for_architecture(unsigned architecture, const struct cage *cage, const struct numbers *numbers)
{
	load(offsetof(struct seccomp_data, arch));
	add(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0);
	unsigned short jump = length;
	add(BPF_JMP | BPF_JA, 0, 0, 0);
	filter(cage, numbers);
	program[jump].k = (unsigned)(length - jump - 1);
}

void restrict_calls(const struct cage *cage)
{
	for_architecture(NATIVE, cage, &native);
#ifdef __x86_64__
	if (cage->narrow)
		for_architecture(AUDIT_ARCH_I386, cage, &i386);
#endif
	answer(SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog filter_program = {length, program};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter_program))
		fail("seccomp: %s", strerror(errno));
}
