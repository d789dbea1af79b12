/* Namespaces, and a root directory that has only what the program needs. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_mount_setattr
#define __NR_mount_setattr 442
#endif
#ifndef __NR_open_tree
#define __NR_open_tree 428
#define __NR_move_mount 429
#endif
/* uapi/linux/mount.h */
enum { TREE_CLONE = 1, TREE_CLOEXEC = O_CLOEXEC, RECURSIVE = 0x8000, EMPTY_PATH = 0x1000, MOVE_FROM_EMPTY = 4 };
enum { ATTR_RDONLY = 1, ATTR_NOSUID = 2 };
struct attributes { uint64_t set, clear, propagation, userns; };
enum { NOBODY = 65534 };

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, text, strlen(text)) < 0)
		fail("%s: %s", path, strerror(errno));
	close(file);
}

void enter_namespaces(const struct cage *cage)
{
	unsigned user = geteuid(), group = getegid();
	/* A module that connects to a port of this host needs its network. */
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | (cage->port_count ? 0 : CLONE_NEWNET);
	char text[64];
	if (unshare(flags | CLONE_NEWUSER))
		fail("namespaces: %s", strerror(errno));
	/* Whoever the daemon is, the program is nobody, without capabilities from the moment that it runs. */
	write_file("/proc/self/setgroups", "deny");
	snprintf(text, sizeof text, "%d %u 1", NOBODY, user);
	write_file("/proc/self/uid_map", text);
	snprintf(text, sizeof text, "%d %u 1", NOBODY, group);
	write_file("/proc/self/gid_map", text);
}

/* Make the folders of a path below the current directory, and its last part if it is a folder. */
static void make_folders(char *path, int directory)
{
	for (char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
		*end = 0;
		mkdir(path, 0755);
		*end = '/';
	}
	if (directory)
		mkdir(path, 0755);
}

/* Whether a place is there already, below a folder that is mounted before it. */
static int is_below(const struct cage *cage, size_t number)
{
	const struct place *place = &cage->places[number];
	for (size_t i = 0; i < number && place->use != WRITE; i++) {
		size_t length = strlen(cage->places[i].real);
		if (cage->places[i].use != WRITE && !strncmp(cage->places[i].real, place->real, length) &&
		    (place->real[length] == 0 || place->real[length] == '/'))
			return 1;
	}
	return 0;
}

static int take(const struct place *place)
{
	int tree = (int)syscall(__NR_open_tree, AT_FDCWD, place->real, TREE_CLONE | TREE_CLOEXEC | RECURSIVE);
	struct attributes attributes = {.set = ATTR_NOSUID | (place->use == WRITE ? 0 : ATTR_RDONLY)};
	if (tree < 0 || syscall(__NR_mount_setattr, tree, "", EMPTY_PATH | RECURSIVE, &attributes, sizeof attributes))
		fail("mount %s: %s", place->path, strerror(errno));
	return tree;
}

static void put(const struct place *place, int tree)
{
	char *below = place->real + 1;
	if (tree >= 0) {
		make_folders(below, place->directory);
		if (!place->directory)
			close(open(below, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
		if (syscall(__NR_move_mount, tree, "", AT_FDCWD, below, MOVE_FROM_EMPTY))
			fail("mount %s: %s", place->path, strerror(errno));
		close(tree);
	}
	if (strcmp(place->path, place->real)) {
		char link[4096];
		snprintf(link, sizeof link, "%s", place->path + 1);
		make_folders(link, 0);
		/* It can be there already, below another place. */
		if (symlink(place->real, link)) {}
	}
}

void set_up_root(const struct cage *cage)
{
	int trees[sizeof cage->places / sizeof *cage->places];
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		fail("mount /: %s", strerror(errno));
	for (size_t i = 0; i < cage->place_count; i++)
		trees[i] = is_below(cage, i) ? -1 : take(&cage->places[i]);
	/* The new root is built over the program's directory, which is a tree of its own by now. */
	if (mount("tmpfs", cage->directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k") ||
	    chdir(cage->directory))
		fail("mount: %s", strerror(errno));
	/* Before the places, of which some may be below it. */
	if (cage->own_tmp && (mkdir("tmp", 0700) ||
	    mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700,size=256k,nr_inodes=64")))
		fail("mount /tmp: %s", strerror(errno));
	for (size_t i = 0; i < cage->place_count; i++)
		put(&cage->places[i], trees[i]);
	struct attributes attributes = {.set = ATTR_RDONLY};
	if (syscall(__NR_mount_setattr, AT_FDCWD, ".", 0, &attributes, sizeof attributes) ||
	    syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		fail("root directory: %s", strerror(errno));
}
