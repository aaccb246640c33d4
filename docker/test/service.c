/*
 * A service that faults until somebody mends it: says what it was given and ends with the status that its
 * configuration, /app/status, has in it. No other file is needed, and static no libc either.
 */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    int status = 99;
    FILE *file = fopen("/app/status", "r");
    if (file != NULL && fscanf(file, "%d", &status) != 1) status = 98;
    const char *tenant = getenv("TENANT");
    printf("up, tenant %s\n", tenant != NULL ? tenant : "none");
    return status;
}
