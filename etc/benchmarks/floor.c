/* The floor of a benchmark: run bare cst COUNT times, CLIENTS at a time, in prepared directories.
 *
 *     floor CLIENTS COUNT FOLDER OUT PROGRAM [ARGUMENT ...]
 *
 * Run number N uses the directory FOLDER/K with K < CLIENTS that is free. A run counts if it leaves a file OUT that is not empty,
 * which is removed: cst's exit code proves nothing. One that leaves none is repeated, up to one in twenty: SoftHSM fails now and
 * then when several processes log in at once. Prints a line for each run that counts, microseconds of wall time and of CPU time
 * and KiB of peak memory, and a last line "= seconds own-microseconds repeated": from the first start to the last end, the CPU
 * time of this program itself, and how many were repeated. What a run prints is in FOLDER/K/output until the next one; the end
 * of it is shown if too many fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct slot {
    pid_t pid;
    double began;
    char folder[4096];
    char out[4352];
    char output[4352];
};

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static long microseconds(const struct rusage *used)
{
    return (used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000L + used->ru_utime.tv_usec + used->ru_stime.tv_usec;
}

static void fail(const char *what, int error)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
    exit(1);
}

/* The run wrote no blob: say what it printed last. */
static void fail_run(const struct slot *slot, long number, const char *out)
{
    char said[1024];
    size_t size = 0;
    FILE *output = fopen(slot->output, "r");

    if (output) {
        if (fseek(output, -(long)sizeof said, SEEK_END))
            rewind(output);
        size = fread(said, 1, sizeof said, output);
        fclose(output);
    }
    fprintf(stderr, "floor: run %ld in %s wrote no %s: %.*s\n", number, slot->folder, out, (int)size, said);
    exit(1);
}

static void start(struct slot *slot, char **command)
{
    posix_spawn_file_actions_t actions;
    int error;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, slot->folder);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "output", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    slot->began = now();
    error = posix_spawn(&slot->pid, command[0], &actions, NULL, command, environ);
    if (error)
        fail(command[0], error);
    posix_spawn_file_actions_destroy(&actions);
}

int main(int argc, char **argv)
{
    struct rusage used, own;
    struct stat made;
    double began;
    long clients, count, started = 0, ended = 0, repeated = 0;
    struct slot *slots;

    if (argc < 6 || (clients = atol(argv[1])) < 1 || (count = atol(argv[2])) < 1) {
        fprintf(stderr, "usage: floor CLIENTS COUNT FOLDER OUT PROGRAM [ARGUMENT ...]\n");
        return 2;
    }
    if (clients > count)
        clients = count;
    slots = calloc((size_t)clients, sizeof *slots);
    if (!slots)
        fail("memory", ENOMEM);
    for (long number = 0; number < clients; number++) {
        snprintf(slots[number].folder, sizeof slots[number].folder, "%s/%ld", argv[3], number);
        snprintf(slots[number].output, sizeof slots[number].output, "%s/output", slots[number].folder);
        snprintf(slots[number].out, sizeof slots[number].out, "%s/%s", slots[number].folder, argv[4]);
    }
    began = now();
    for (; started < clients; started++)
        start(&slots[started], argv + 5);
    while (ended < count) {
        int status;
        struct slot *slot = NULL;
        pid_t pid = wait4(-1, &status, 0, &used);

        if (pid < 0)
            fail("wait4", errno);
        for (long number = 0; number < clients; number++)
            if (slots[number].pid == pid)
                slot = &slots[number];
        if (!slot)
            continue;
        if (!WIFEXITED(status) || stat(slot->out, &made) || !made.st_size) {
            if (++repeated > count / 20)
                fail_run(slot, ended + repeated, argv[4]);
            start(slot, argv + 5);
            continue;
        }
        ended++;
        unlink(slot->out);
        printf("%ld %ld %ld\n", (long)((now() - slot->began) * 1e6), microseconds(&used), used.ru_maxrss);
        slot->pid = 0;
        if (started < count) {
            start(slot, argv + 5);
            started++;
        }
    }
    getrusage(RUSAGE_SELF, &own);
    printf("= %.6f %ld %ld\n", now() - began, microseconds(&own), repeated);
    return 0;
}
