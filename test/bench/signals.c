/*
 *     signals ROUNDS ; ROW ; ROW ...     prints `ROW SIGNAL NANOSECONDS`
 *     signals command                    what the rows run: says when its handler ran
 *
 * All rows are started first and wait; then each gets one signal a round, in turn. The time is from before kill(2) to
 * the first thing the command's handler does. The command ends when its stdin does, whatever becomes of us.
 */
#include "rows.h"

/* Node, told of each signal, has done with it by then, and does not slow the next row. */
enum { PAUSE_US = 2000 };

static const int SIGNALS[] = {SIGUSR1, SIGTERM};

static void on_signal(int number) {
  (void)number;
  send_number(1, now_ns());
}

static int run_command(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  char nothing;
  for (int at = 0; at < 2; at++) sigaction(SIGNALS[at], &action, NULL);
  send_number(1, 0);
  while (read(0, &nothing, 1) != 0) continue;
  return 0;
}

int main(int argc, char **argv) {
  struct row rows[MOST_ROWS];
  struct { pid_t pid; int input, output; } running[MOST_ROWS];
  if (argc == 2) return run_command();
  int rounds = atoi(argv[1]), count = read_rows(argv + 2, rows);
  for (int at = 0; at < count; at++) {
    int input[2], output[2];
    must(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0, "pipe");
    running[at].pid = start(&rows[at], input[0], output[1]);
    running[at].input = input[1];
    running[at].output = output[0];
    close(input[0]);
    close(output[1]);
    await_number(output[0], rows[at].argv[0]);
  }
  usleep(300000); /* node, where there is one, has said its part */
  for (int round = 0; round < rounds; round++) {
    for (int which = 0; which < 2; which++) {
      for (int at = 0; at < count; at++) {
        usleep(PAUSE_US);
        long long sent = now_ns();
        must(kill(running[at].pid, SIGNALS[which]) == 0, "kill");
        long long took = await_number(running[at].output, rows[at].argv[0]) - sent;
        printf("%d %s %lld\n", at, SIGNALS[which] == SIGTERM ? "TERM" : "USR1", took);
      }
    }
  }
  for (int at = 0; at < count; at++) {
    int status;
    close(running[at].input);
    must(waitpid(running[at].pid, &status, 0) > 0, "waitpid");
    expect_success(&rows[at], status);
  }
  return 0;
}
