/* load --cpu 0.75 --mem 200M --seconds 20 --period-ms 100: a known load.
 *
 * Its memory touched, each period ends with its own CPU clock at cpu x (time since then), so the fraction holds
 * on a busy machine too, as long as the machine has that much to give. Prints "cpu_s wall_s" at its end. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>


static int64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static size_t bytes(const char *text)
{
    char *end;
    double n = strtod(text, &end);
    switch (*end) {
    case 'G': n *= 1024; /* fall through */
    case 'M': n *= 1024; /* fall through */
    case 'K': n *= 1024; /* fall through */
    default: return (size_t)n;
    }
}

int main(int argc, char **argv)
{
    int64_t start, used, end, tick, period = 100000000;
    double cpu = 1, seconds = 1;
    size_t mem = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--cpu")) cpu = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--mem")) mem = bytes(argv[i + 1]);
        else if (!strcmp(argv[i], "--period-ms")) period = (int64_t)(atof(argv[i + 1]) * 1e6);
        else if (!strcmp(argv[i], "--seconds")) seconds = atof(argv[i + 1]);
        else return fprintf(stderr, "usage: load [--cpu F] [--mem N[KMG]] [--seconds S] [--period-ms P]\n"), 2;
    }
    if (mem) {
        void *held = mmap(NULL, mem, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (held == MAP_FAILED) return perror("mmap"), 1;
        memset(held, 1, mem);
    }
    start = now(CLOCK_MONOTONIC); /* steady from here: touching the memory was a burst of its own */
    used = now(CLOCK_PROCESS_CPUTIME_ID);
    end = start + (int64_t)(seconds * 1e9);
    for (tick = start; tick < end;) {
        tick = tick + period < end ? tick + period : end;
        while (now(CLOCK_PROCESS_CPUTIME_ID) - used < (int64_t)(cpu * (double)(tick - start)) && now(CLOCK_MONOTONIC) < end)
            for (volatile int i = 0; i < 2000; i++) {}
        struct timespec until = {tick / 1000000000, tick % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    printf("%.6f %.6f\n", now(CLOCK_PROCESS_CPUTIME_ID) / 1e9, (now(CLOCK_MONOTONIC) - start) / 1e9);
    return 0;
}
