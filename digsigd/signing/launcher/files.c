/* Landlock: which files may be read, run and written. Constants are those of the kernel's uapi/linux/landlock.h: the
   headers of a system can be older than its kernel. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif

enum {
	EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3, REMOVE_FILE = 1 << 5,
	MAKE_REG = 1 << 8, REFER = 1 << 13, TRUNCATE = 1 << 14, IOCTL_DEV = 1 << 15,
	ONLY_DIRECTORY = READ_DIR | REMOVE_FILE | MAKE_REG,
};
enum { BIND_TCP = 1 << 0, CONNECT_TCP = 1 << 1, SCOPE_ABSTRACT_UNIX = 1 << 0, SCOPE_SIGNAL = 1 << 1 };

struct ruleset { uint64_t files, net, scoped; };
struct path_rule { uint64_t allowed; int32_t parent; } __attribute__((packed));
struct port_rule { uint64_t allowed, port; };

int landlock_abi(void)
{
	return (int)syscall(__NR_landlock_create_ruleset, NULL, 0, 1);
}

void restrict_files(const struct cage *cage)
{
	int abi = landlock_abi();
	if (abi < 1)
		fail("Landlock: %s", strerror(errno));
	/* All rights that this kernel knows are denied unless a rule grants them. */
	struct ruleset ruleset = {.files = REFER - 1};
	ruleset.files |= abi >= 2 ? REFER : 0;
	ruleset.files |= abi >= 3 ? TRUNCATE : 0;
	ruleset.files |= abi >= 5 ? IOCTL_DEV : 0;
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	if (abi >= 4)
		ruleset.net = BIND_TCP | CONNECT_TCP;
	if (abi >= 6)
		ruleset.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	int rules = (int)syscall(__NR_landlock_create_ruleset, &ruleset, size, 0);
	if (rules < 0)
		fail("Landlock: %s", strerror(errno));
	for (size_t i = 0; i < cage->place_count; i++) {
		const struct place *place = &cage->places[i];
		uint64_t rights = READ_FILE | READ_DIR;
		if (place->use == RUN)
			rights |= EXECUTE;
		if (place->use == WRITE)
			rights |= WRITE_FILE | TRUNCATE | IOCTL_DEV | REMOVE_FILE | MAKE_REG;
		if (!place->directory)
			rights &= ~(uint64_t)ONLY_DIRECTORY;
		struct path_rule rule = {.allowed = rights & ruleset.files};
		rule.parent = open(place->real, O_PATH | O_CLOEXEC);
		if (rule.parent < 0 || syscall(__NR_landlock_add_rule, rules, 1, &rule, 0))
			fail("Landlock: %s: %s", place->path, strerror(errno));
		close(rule.parent);
	}
	if (cage->own_tmp && cage->namespaces) {
		/* Only an unnamed file (O_TMPFILE), for which no right to make one is needed. */
		struct path_rule rule = {.allowed = READ_FILE | WRITE_FILE};
		rule.parent = open("/tmp", O_PATH | O_CLOEXEC);
		if (rule.parent < 0 || syscall(__NR_landlock_add_rule, rules, 1, &rule, 0))
			fail("Landlock: /tmp: %s", strerror(errno));
		close(rule.parent);
	}
	for (int i = 0; abi >= 4 && i < cage->port_count; i++) {
		struct port_rule rule = {CONNECT_TCP, (uint64_t)cage->ports[i]};
		if (syscall(__NR_landlock_add_rule, rules, 2, &rule, 0))
			fail("Landlock: port %d: %s", cage->ports[i], strerror(errno));
	}
	if (syscall(__NR_landlock_restrict_self, rules, 0))
		fail("Landlock: %s", strerror(errno));
	close(rules);
}
