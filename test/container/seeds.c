/* Ends as it is told, for verdict.test.ts: each by the real thing, not by a signal that somebody sends. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int zero, *nowhere;

static void forbid_getppid(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) exit(99);
    getppid();
}

/* Megabytes, one every so many microseconds, each written to; it keeps them until it is ended. */
static void leak(int megabytes, int pause_us) {
    for (int count = 0; count < megabytes; count++) {
        char *memory = malloc(1 << 20);
        if (memory == NULL) exit(98);
        memset(memory, count + 1, 1 << 20);
        usleep(pause_us);
    }
}

static void read_beyond_the_end(void) {
    int file = open("/tmp/short", O_RDWR | O_CREAT, 0600);
    if (ftruncate(file, 4096) != 0) exit(97);
    volatile char *map = mmap(NULL, 8192, PROT_READ, MAP_SHARED, file, 0);
    zero = map[4096];
}

int main(int count, char **words) {
    const char *how = count > 1 ? words[1] : "";
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "divide") == 0) return 7 / zero; /* gcc makes a comparison of 1 / x */
    if (strcmp(how, "segfault") == 0) return *nowhere;
    if (strcmp(how, "trap") == 0) __builtin_trap();
    if (strcmp(how, "bus") == 0) read_beyond_the_end();
    if (strcmp(how, "forbidden") == 0) forbid_getppid();
    if (strcmp(how, "spin") == 0) for (;;) zero++;
    if (strcmp(how, "leak") == 0 && count > 3) leak(atoi(words[2]), atoi(words[3]));
    return count > 4 ? atoi(words[4]) : 0;
}
