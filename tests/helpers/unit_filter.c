/* unit_filter PROGRAM ARGUMENT...: run a program as a systemd unit does with SystemCallFilter=, RestrictNamespaces=yes
   and CapabilityBoundingSet=.
   allowed.h, made by the test, has the numbers of the allowed calls, ALLOWED, and what happens at others, DENIED. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allowed.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | 0x02000000)
#define REFUSE(call, argument, bits) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4), \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[argument])), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

static const int allowed[] = {ALLOWED};

int main(int argc, char **argv)
{
	(void)argc;
	struct sock_filter program[1024] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		REFUSE(__NR_unshare, 0, NAMESPACES), REFUSE(__NR_clone, 0, NAMESPACES), REFUSE(__NR_setns, 1, ~0U),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};
	unsigned short length = 1 + 3 * 5 + 2;
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
		program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, DENIED);
	struct sock_fprog filter = {length, program};
	/* CapabilityBoundingSet=: root, too, has none then once it executes a program. */
	for (unsigned long capability = 0; capability < 64; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		return 99;
	execv(argv[1], argv + 1);
	return 98;
}
