/* What the parts of the launcher share. */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <stddef.h>
#include <sys/types.h>

/* How a path may be used. */
enum use { READ, RUN, WRITE };

struct place {
	enum use use;
	const char *path; /* as given: absolute */
	char *real;       /* without links */
	int directory;
};

struct cage {
	int namespaces, landlock, seccomp; /* layers that were asked for */
	int narrow;                        /* the program is for 32 bits */
	int threads, sockets;              /* what a PKCS #11 module may do besides */
	int ports[8], port_count;          /* TCP ports that it may connect to */
	const char *directory;             /* where the program runs, which it may write to */
	int own_tmp;                       /* it gets a /tmp of its own, which only namespaces can give it */
	const char *preload;               /* a library that is loaded into it first */
	struct place places[96];
	size_t place_count;
};

/* End with exit code 126 and a line of text, as a shell does that cannot start a program. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

void enter_namespaces(const struct cage *cage);
void set_up_root(const struct cage *cage);
int landlock_abi(void);
void restrict_files(const struct cage *cage);
void restrict_calls(const struct cage *cage);

/* System calls that a program in the cage may make; each list ends with -1. */
extern const int allowed_native[], module_native[], socket_native[];
#ifdef __x86_64__
extern const int allowed_i386[], module_i386[], socket_i386[];
#endif

#endif
