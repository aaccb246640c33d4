/*
 * What our two programs in C share: a line on stderr, and the start of a command as every shell would start it.
 */
#ifndef DDBG_START_H
#define DDBG_START_H
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OWN_FAILURE = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

/* ---- saying ------------------------------------------------------------------------------------------------------ */

/* Nobody may read from there any more: what finds no room soon is lost. */
static void print(const char *text, size_t length) {
    struct pollfd ready = {STDERR_FILENO, POLLOUT, 0};
    if (poll(&ready, 1, 100) > 0 && write(STDERR_FILENO, text, length) < 0) return;
}

/* One line on stderr, as src/log.ts would write it. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    char text[1024], line[2 * sizeof text];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    const char *log = getenv("DDBG_LOG");
    bool json = log != NULL && strcmp(log, "json") == 0;
    size_t at = (size_t)sprintf(line, json ? "{\"level\":\"warn\",\"message\":\"" : "ddbg-entry: ");
    for (const char *c = text; *c != '\0' && at < sizeof line - 8; c++) {
        if (json && (*c == '"' || *c == '\\')) line[at++] = '\\';
        line[at++] = (unsigned char)*c < ' ' ? '?' : *c;
    }
    at += (size_t)sprintf(line + at, json ? "\"}\n" : "\n");
    print(line, at);
}

#define FAIL(...) (say(__VA_ARGS__), exit(OWN_FAILURE))

static void *must(void *memory) {
    if (memory == NULL) FAIL("cannot go on: out of memory");
    return memory;
}

static size_t count_of(char **list) {
    size_t count = 0;
    while (list[count] != NULL) count++;
    return count;
}

/* FOLDER/NAME; the empty folder is the one we are in, as in PATH. */
static char *join(const char *folder, size_t length, const char *name) {
    char *file;
    return asprintf(&file, "%.*s%s%s", (int)length, folder, length > 0 ? "/" : "", name) < 0 ? must(NULL) : file;
}

/* ---- exec -------------------------------------------------------------------------------------------------------- */

/* What execvp(3) of glibc and every shell do with a file that the kernel does not know: text is sh's. A program that is
   damaged is none, wherever its first NUL is. */
static void exec_text(const char *file, char **argv, char **envp) {
    char head[128];
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, head, sizeof head);
    if (fd >= 0) close(fd);
    errno = ENOEXEC;
    if (size < 0 || memchr(head, '\0', (size_t)size) != NULL) return;
    if (size >= 4 && memcmp(head, "\177ELF", 4) == 0) return;
    size_t count = count_of(argv);
    char **words = must(malloc((count + 2) * sizeof *words));
    words[0] = (char *)"sh";
    words[1] = (char *)file;
    memcpy(words + 2, argv + 1, count * sizeof *words); /* with the NULL at its end */
    execve("/bin/sh", words, envp);
}

static int try_exec(const char *file, char **argv, char **envp) {
    execve(file, argv, envp);
    if (errno == ENOEXEC) exec_text(file, argv, envp);
    return errno;
}

/* execvpe(3), with that. Returns only when it cannot, with the reason. */
static int exec(char **argv, char **envp) {
    if (strchr(argv[0], '/') != NULL || argv[0][0] == '\0') return try_exec(argv[0], argv, envp);
    const char *path = "/bin:/usr/bin"; /* where PATH is not set: as src/process/resolve.ts */
    for (char **entry = envp; *entry != NULL; entry++)
        if (strncmp(*entry, "PATH=", 5) == 0) path = *entry + 5;
    int found = ENOENT;
    for (const char *rest;; path = rest + 1) {
        rest = path + strcspn(path, ":");
        char *file = join(path, (size_t)(rest - path), argv[0]);
        int reason = try_exec(file, argv, envp); /* file is not freed: that would be two system calls an entry */
        if (reason == EACCES) found = EACCES; /* search on, and remember that something was there */
        else if (reason != ENOENT && reason != ENOTDIR && reason != ENAMETOOLONG) return reason;
        if (*rest == '\0') return found;
    }
}

static int status_of_errno(int reason) {
    return reason == ENOENT || reason == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE;
}

/* close_range(2) is of Linux 5.9; before that, or where a seccomp profile does not know it, as far as programs go. */
static void close_range_of(int first, int last) {
    if (first > last || syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0U) == 0) return;
    for (long fd = first, most = sysconf(_SC_OPEN_MAX); fd <= last && fd < most && fd < 65536; fd++) close((int)fd);
}

#endif
