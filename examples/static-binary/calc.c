/* A static program with a bug: `calc 6 0` divides by zero and dies of SIGFPE. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  volatile int dividend = argc > 1 ? atoi(argv[1]) : 1;
  volatile int divisor = argc > 2 ? atoi(argv[2]) : 1;
  printf("%d\n", dividend / divisor);
  return 0;
}
