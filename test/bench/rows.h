/*
 * What the C programs of the benches share: the clock, and rows. A row is a command line, with NAME=VALUE words in
 * front of it as for env(1); on our own command line each row follows a word ";". They are C because Node's own spawn
 * and kill take longer, and vary by more, than what is measured.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ROWS = 32 };

extern char **environ;

struct row { char **argv, **envp; };

static inline long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* What rows say on stderr. A file, for a container's stderr is a pipe: neither a terminal nor /dev/null. */
static inline int said(void) {
  static int fd = -1;
  return fd >= 0 ? fd : (fd = memfd_create("said", MFD_CLOEXEC));
}

static inline void must(bool is_fine, const char *what) {
  if (is_fine) return;
  char text[2048];
  fprintf(stderr, "%s: %s\n", what, errno == 0 ? "did not do its work" : strerror(errno));
  ssize_t length = pread(said(), text, sizeof text, 0);
  fprintf(stderr, "%.*s\n", length > 0 ? (int)length : 0, text);
  exit(1);
}

/* A row that did not do its work must not look fast. */
static inline void expect_success(const struct row *row, int status) {
  errno = 0;
  must(WIFEXITED(status) && WEXITSTATUS(status) == 0, row->argv[0]);
  must(ftruncate(said(), 0) == 0 && lseek(said(), 0, SEEK_SET) == 0, "ftruncate");
}

/* words: from the first ";" on. Returns how many rows. */
static inline int read_rows(char **words, struct row *rows) {
  int count = 0;
  for (bool is_last = *words == NULL; !is_last; count++) {
    char **row = ++words;
    int own = 0, inherited = 0;
    while (*words != NULL && strcmp(*words, ";") != 0) words++;
    is_last = *words == NULL;
    *words = NULL; /* the end of its argv */
    must(row < words && count < MOST_ROWS, "rows");
    while (strchr(row[own], '=') != NULL) own++;
    while (environ[inherited] != NULL) inherited++;
    char **envp = calloc(own + inherited + 1, sizeof *envp);
    memcpy(envp, row, own * sizeof *envp);
    memcpy(envp + own, environ, inherited * sizeof *envp);
    rows[count] = (struct row){row + own, envp};
  }
  return count;
}

static inline pid_t start(const struct row *row, int input, int output) {
  posix_spawn_file_actions_t files;
  pid_t pid;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, input, 0);
  posix_spawn_file_actions_adddup2(&files, output, 1);
  posix_spawn_file_actions_adddup2(&files, said(), 2);
  errno = posix_spawn(&pid, row->argv[0], &files, NULL, row->argv, row->envp);
  must(errno == 0, row->argv[0]);
  posix_spawn_file_actions_destroy(&files);
  return pid;
}

/* A number of eight bytes, or the end of the bench: what does not come within ten seconds does not come. */
static inline long long await_number(int fd, const char *from) {
  struct pollfd ready = {fd, POLLIN, 0};
  long long number;
  errno = ETIMEDOUT;
  must(poll(&ready, 1, 10000) == 1 && read(fd, &number, sizeof number) == sizeof number, from);
  return number;
}

static inline void send_number(int fd, long long number) {
  must(write(fd, &number, sizeof number) == sizeof number, "write");
}
