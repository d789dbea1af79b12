/* tmpfile(3) for a cst that has no /tmp: an unnamed file in the directory where it runs, which is its own.

   cst needs one to sign AHAB containers. glibc makes it in /tmp and nowhere else, whatever TMPDIR says. Loaded by LD_PRELOAD
   where the cage cannot give cst a /tmp of its own. It uses only names that every C library has, so that it works with
   whichever cst has; so it includes nothing either. */
typedef struct file FILE;
extern int open(const char *, int, ...);
extern int unlink(const char *);
extern FILE *fdopen(int, const char *);

/* uapi/asm-generic/fcntl.h; of the architectures of the launcher, arm and arm64 have another O_DIRECTORY. */
#if defined(__arm__) || defined(__aarch64__)
#define DIRECTORY 040000
#else
#define DIRECTORY 0200000
#endif
enum { READ_WRITE = 02, CREATE = 0100, EXCLUSIVE = 0200, UNNAMED = 020000000 | DIRECTORY };

FILE *tmpfile(void)
{
	static const char name[] = "digsigd-tmpfile";
	int file = open(".", READ_WRITE | EXCLUSIVE | UNNAMED, 0600);
	if (file < 0) {
		/* Not every file system has unnamed files. */
		file = open(name, READ_WRITE | CREATE | EXCLUSIVE, 0600);
		if (file >= 0)
			unlink(name);
	}
	return file < 0 ? 0 : fdopen(file, "w+");
}

FILE *tmpfile64(void) { return tmpfile(); }
