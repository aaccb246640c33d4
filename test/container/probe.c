/*
 * What a process can see of how it was started, one fact a line; static, so that it runs in an image that has
 * nothing.
 *
 *     probe                     says it
 *     probe show COMMAND...     says it, then becomes COMMAND: what is said before and after belongs to one process
 *     probe odd COMMAND...      the same, after it has made everything that is inherited as unusual as it can
 *     probe hear                says each signal that it gets, ends with 0 at the last of them (64)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* The lines of a file below /proc/self that begin with one of these words; NULL: all. */
static void copy_lines(const char *file, const char *const *words) {
    char line[1024];
    FILE *stream = fopen(file, "re");
    while (stream != NULL && fgets(line, sizeof line, stream) != NULL)
        for (int at = 0; words == NULL || words[at] != NULL; at++) {
            if (words != NULL && strncmp(line, words[at], strlen(words[at])) != 0) continue;
            fputs(line, stdout);
            break;
        }
    if (stream != NULL) fclose(stream);
}

static void say_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    for (int fd = 0; fd < 1024; fd++) {
        char name[64], target[PATH_MAX] = "";
        if (fd == dirfd(folder)) continue;
        int flags = fcntl(fd, F_GETFL), own = fcntl(fd, F_GETFD);
        if (flags < 0) continue;
        sprintf(name, "/proc/self/fd/%d", fd);
        if (readlink(name, target, sizeof target - 1) < 0) continue;
        printf("fd %d: %s flags %o,%d at %ld\n", fd, target, flags, own, (long)lseek(fd, 0, SEEK_CUR));
    }
    closedir(folder);
}

static void say_state(void) {
    static const char *const STATUS[] = {"Umask", "Uid", "Gid", "Groups", "Threads", "SigPnd", "SigBlk", "SigIgn", "SigCgt", "ShdPnd", "Cap", "NoNewPrivs",
                                         "Seccomp:", "Cpus_allowed:", NULL};
    char folder[PATH_MAX];
    mode_t mask = umask(0);
    umask(mask);
    printf("pid: %d\nppid: %d\npgid: %d\nsid: %d\n", getpid(), getppid(), getpgrp(), getsid(0));
    printf("cwd: %s\numask: %o\n", getcwd(folder, sizeof folder), (unsigned)mask);
    printf("nice: %d\nscheduler: %d\n", getpriority(PRIO_PROCESS, 0), (int)syscall(SYS_sched_getscheduler, 0));
    int subreaper = -1, death_signal = -1;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    prctl(PR_GET_PDEATHSIG, &death_signal);
    printf("subreaper: %d\ndeath signal: %d\n", subreaper, death_signal);
    printf("timer slack: %d\ndumpable: %d\n", prctl(PR_GET_TIMERSLACK), prctl(PR_GET_DUMPABLE));
    copy_lines("/proc/self/status", STATUS);
    copy_lines("/proc/self/limits", NULL);
    printf("oom_score_adj: ");
    copy_lines("/proc/self/oom_score_adj", NULL);
    printf("children: ");
    copy_lines("/proc/thread-self/children", NULL);
    printf("\n");
    say_descriptors();
    for (char **entry = environ; *entry != NULL; entry++) {
        printf("env: ");
        for (const char *c = *entry; *c != '\0'; c++) printf("%02x", (unsigned char)*c);
        printf("\n");
    }
    fflush(stdout);
}

static void become_odd(void) {
    static char *odd_environment[512];
    size_t count = 0;
    for (; environ[count] != NULL && count < 500; count++) odd_environment[count] = environ[count];
    odd_environment[count++] = (char *)"TWICE=one";
    odd_environment[count++] = (char *)"TWICE=two";
    odd_environment[count++] = (char *)"NOT_UTF8=\xff\xfe";
    odd_environment[count++] = (char *)"without_a_sign";
    odd_environment[count++] = (char *)"=no name";
    odd_environment[count] = NULL;
    environ = odd_environment;

    uint64_t blocked = 1ULL << (SIGUSR1 - 1) | 1ULL << (SIGTERM - 1) | 3ULL << 31 /* 32 and 33, libc's own */ | 1ULL << 39;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, sizeof blocked);
    static const int IGNORED[] = {SIGHUP, SIGPIPE, SIGCHLD, SIGXFSZ, 50};
    for (size_t at = 0; at < sizeof IGNORED / sizeof *IGNORED; at++) signal(IGNORED[at], SIG_IGN);

    umask(027);
    if (chdir("/var/lib") < 0) perror("chdir");
    setpriority(PRIO_PROCESS, 0, 3);
    syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &(struct sched_param){0}); /* musl's own refuses */
    prctl(PR_SET_TIMERSLACK, 77777);
    int adjustment = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (adjustment < 0 || write(adjustment, "500", 3) < 0) perror("oom_score_adj");
    close(adjustment);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){200, 3000});
    setrlimit(RLIMIT_CORE, &(struct rlimit){4096, 8192});
    int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    lseek(file, 7, SEEK_SET);
    dup2(file, 5);
    dup2(file, 150);
    dup2(1, 17);
    close(file);
}

static _Noreturn void hear(void) {
    uint64_t all = ~0ULL;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    printf("up\n");
    for (int number = 0; number != 64;) {
        fflush(stdout);
        number = (int)syscall(SYS_rt_sigtimedwait, &all, NULL, NULL, sizeof all);
        if (number > 0) printf("got %d\n", number);
    }
    fflush(stdout);
    exit(0);
}

int main(int count, char **argv) {
    const char *word = count > 1 ? argv[1] : "";
    if (strcmp(word, "hear") == 0) hear();
    if (strcmp(word, "odd") == 0) become_odd();
    say_state();
    if (count < 3 || (strcmp(word, "odd") != 0 && strcmp(word, "show") != 0)) {
        for (int at = 1; at < count; at++) {
            printf("arg: ");
            for (const char *c = argv[at]; *c != '\0'; c++) printf("%02x", (unsigned char)*c);
            printf("\n");
        }
        return 0;
    }
    printf("=====\n");
    fflush(stdout);
    execvp(argv[2], argv + 2);
    fprintf(stderr, "cannot become %s: %s\n", argv[2], strerror(errno));
    return 99;
}
