/*
 *     orphans ROUNDS ; ROW ; ROW ...     prints `ROW CPU OLDEST MOST`
 *     orphans command COUNT              what the rows run: leaves that many orphans behind, and waits
 *
 * Each row is PID 1 of a PID namespace of its own (needs root), as in a container. CPU: nanoseconds that the init
 * itself has computed (/proc/PID/schedstat), from before the first orphan until no zombie is left. OLDEST: the longest
 * time in nanoseconds that one child of the init was seen to be a zombie, MOST: how many at one time.
 */
#include "rows.h"
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

enum { BATCH = 100, SAMPLE_MS = 5, MOST_PIDS = 65536, PATIENCE_S = 60 };

/* ---- the command ------------------------------------------------------------------------------------------------- */

/* Its children wait for its end, which closes the pipe, and end a moment later than it: as orphans. */
static void leave_orphans(int count) {
  int ends[2];
  char nothing;
  must(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  while (count-- > 0) {
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid > 0) continue;
    close(ends[1]);
    _exit(read(ends[0], &nothing, 1) != 0);
  }
  _exit(0);
}

static int run_command(int count) {
  char nothing;
  send_number(1, 0);
  if (read(0, &nothing, 1) != 1) return 1;
  for (int left = count; left > 0; left -= BATCH) {
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) leave_orphans(left < BATCH ? left : BATCH);
    waitpid(pid, NULL, 0);
  }
  send_number(1, 0);
  return read(0, &nothing, 1) != 0; /* the end of stdin is ours */
}

/* ---- the driver -------------------------------------------------------------------------------------------------- */

static pid_t start_as_pid_1(const struct row *row, int input, int output) {
  int text = said();
  pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, NULL);
  must(pid >= 0, "a PID namespace");
  if (pid > 0) return pid;
  must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("proc", "/proc", "proc", 0, NULL) == 0, "/proc");
  dup2(input, 0);
  dup2(output, 1);
  dup2(text, 2);
  execve(row->argv[0], row->argv, row->envp);
  _exit(127);
}

static size_t read_file(const char *file, char *text, size_t room) {
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? 0 : read(fd, text, room - 1);
  if (fd >= 0) close(fd);
  text[size > 0 ? size : 0] = '\0';
  return size > 0 ? (size_t)size : 0;
}

static long long cpu_ns(pid_t pid) {
  char file[64], text[128];
  snprintf(file, sizeof file, "/proc/%d/schedstat", pid);
  must(read_file(file, text, sizeof text) > 0, file);
  return atoll(text);
}

/* Returns how many children of the init are zombies now; `oldest` grows with how long one has been seen as such. */
static int count_zombies(pid_t init, long long *oldest) {
  static struct { long long born, seen; int sample; } known[MOST_PIDS]; /* a pid may come again: born tells */
  static char children[1 << 20];
  static int sample;
  char file[64], text[512];
  int zombies = 0;
  sample++;
  snprintf(file, sizeof file, "/proc/%d/task/%d/children", init, init);
  read_file(file, children, sizeof children);
  for (char *rest = children, *word; (word = strtok(rest, " ")) != NULL; rest = NULL) {
    int pid = atoi(word), at = pid % MOST_PIDS;
    long long born = 0;
    snprintf(file, sizeof file, "/proc/%d/stat", pid);
    read_file(file, text, sizeof text);
    const char *fields = strrchr(text, ')');
    if (fields == NULL || fields[2] != 'Z') continue;
    zombies++;
    sscanf(fields + 2, "%*c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%lld", &born);
    long long now = now_ns();
    if (known[at].sample != sample - 1 || known[at].born != born) known[at].seen = now;
    known[at].born = born;
    known[at].sample = sample;
    if (now - known[at].seen > *oldest) *oldest = now - known[at].seen;
  }
  return zombies;
}

static void measure(int at, const struct row *row) {
  int input[2], output[2], status, most = 0, zombies = 1;
  long long oldest = 0;
  must(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0, "pipe");
  pid_t init = start_as_pid_1(row, input[0], output[1]);
  close(input[0]);
  close(output[1]);
  await_number(output[0], row->argv[0]);
  usleep(300000); /* node, where there is one, has said its part */
  long long before = cpu_ns(init), give_up = now_ns() + PATIENCE_S * 1000000000LL;
  must(write(input[1], "", 1) == 1, "write");
  for (int is_done = 0; !is_done || zombies > 0;) {
    struct pollfd ready = {is_done ? -1 : output[0], POLLIN, 0};
    if (poll(&ready, 1, SAMPLE_MS) == 1) {
      await_number(output[0], row->argv[0]);
      is_done = 1;
    }
    zombies = count_zombies(init, &oldest);
    if (zombies > most) most = zombies;
    errno = ETIMEDOUT;
    must(now_ns() < give_up, row->argv[0]);
  }
  printf("%d %lld %lld %d\n", at, cpu_ns(init) - before, oldest, most);
  close(input[1]);
  close(output[0]);
  must(waitpid(init, &status, 0) == init, "waitpid");
  expect_success(row, status);
}

int main(int argc, char **argv) {
  struct row rows[MOST_ROWS];
  if (argc == 3 && strcmp(argv[1], "command") == 0) return run_command(atoi(argv[2]));
  int rounds = atoi(argv[1]), count = read_rows(argv + 2, rows);
  for (int round = 0; round < rounds; round++)
    for (int at = 0; at < count; at++) measure(at, &rows[at]);
  return 0;
}
