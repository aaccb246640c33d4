/*
 *     start ROUNDS ; ROW ; ROW ...
 *
 * Starts every row once a round and prints `ROW FIRST END`: nanoseconds from before the spawn to what the row's
 * command, first-instruction.c, has read from the same clock (0: it says nothing), and to the row's end.
 */
#include "rows.h"

int main(int argc, char **argv) {
  struct row rows[MOST_ROWS];
  int rounds = atoi(argv[1]), count = read_rows(argv + 2, rows), nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  (void)argc;
  for (int round = 0; round < rounds; round++) {
    for (int at = 0; at < count; at++) {
      char text[32] = "";
      int ends[2], status;
      must(pipe2(ends, O_CLOEXEC) == 0, "pipe");
      long long started = now_ns();
      pid_t pid = start(&rows[at], nothing, ends[1]);
      close(ends[1]);
      ssize_t length = read(ends[0], text, sizeof text - 1);
      must(waitpid(pid, &status, 0) == pid, "waitpid");
      long long ended = now_ns();
      close(ends[0]);
      expect_success(&rows[at], status);
      printf("%d %lld %lld\n", at, length > 0 ? atoll(text) - started : 0, ended - started);
    }
  }
  return 0;
}
