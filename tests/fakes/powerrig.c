/* Plays scripted energy counters, and a /proc for each node, into files until SIGTERM.
 *
 *   powerrig SCRIPT          play; prints "ready" after the first round of writes
 *   powerrig --eval SCRIPT   for each time (ns) on stdin, print what every counter says at that time
 *
 * A script is words between white space, written by rig.py:
 *   tick NS
 *   trace PATH
 *   counter PATH <counter>                                   <counter>, <curve>: see curve.h
 *   node NAME CPUS MEM_BYTES CPUACCT MEMORY JOBS PROC <curve of micro-CPUs> <curve of bytes>
 *
 * Counters are written in place on one kept descriptor. A shorter value keeps the width of the file with
 * leading zeros, so that a reader with a kept descriptor never meets an empty file or digits of an old value.
 *
 * Unreadable: root reads files of any mode, so the file itself fails. A kept descriptor meets end of file
 * where a number must be (the kernel has no way to fail a pread of a healthy regular file); a reader that
 * opens the path gets EIO, as the path is then a link to /proc/self/mem, whose page 0 is not mapped.
 * The same inode comes back afterwards: kept descriptors heal.
 */
#define _GNU_SOURCE
#include "rig_node.h"
#include <signal.h>
#include <sys/resource.h>

struct player { struct counter counter; char path[WORD], aside[WORD + 8]; int fd, width, broken; int64_t last; };

struct rig {
    int64_t tick_ns, max_late_ns;
    int player_count, node_count;
    struct player *players;
    struct node *nodes;
    FILE *trace;
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static void die(const char *what, const char *which)
{
    fprintf(stderr, "powerrig: %s %s\n", what, which);
    exit(2);
}

/* ---- counters ---- */

static void break_file(struct player *p)
{
    char link_path[WORD + 16];
    snprintf(link_path, sizeof link_path, "%s.broken", p->path);
    if (link(p->path, p->aside) || ftruncate(p->fd, 0) || symlink("/proc/self/mem", link_path) ||
        rename(link_path, p->path))
        die("cannot break", p->path);
    p->broken = 1;
    p->width = 0;
    p->last = -1;
}

static void write_value(struct player *p, int64_t value)
{
    char text[32];
    if (value == p->last)
        return;
    int length = snprintf(text, sizeof text, "%0*" PRId64 "\n", p->width, value);
    if (pwrite(p->fd, text, (size_t)length, 0) != length)
        die("cannot write", p->path);
    p->width = length - 1;
    p->last = value;
}

static void play_counter(struct player *p, int64_t now)
{
    if (unreadable(&p->counter, now)) {
        if (!p->broken)
            break_file(p);
        return;
    }
    write_value(p, counter_raw(&p->counter, now));
    if (p->broken && rename(p->aside, p->path))
        die("cannot heal", p->path);
    p->broken = 0;
}

static void open_player(struct player *p)
{
    snprintf(p->aside, sizeof p->aside, "%s.aside", p->path);
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0400);
    if (p->fd < 0)
        die("cannot open", p->path);
    p->last = -1;
    p->width = 0;
    if (ftruncate(p->fd, 0))
        die("cannot truncate", p->path);
}

/* ---- the script ---- */

static void *grow(void *array, int count, size_t size)
{
    void *grown = realloc(array, ((size_t)count + 1) * size);
    if (!grown)
        die("out of", "memory");
    memset((char *)grown + (size_t)count * size, 0, size);
    return grown;
}

static void read_line(struct rig *rig, struct script *s)
{
    if (!strcmp(s->word, "tick")) {
        rig->tick_ns = next_number(s);
    } else if (!strcmp(s->word, "trace")) {
        rig->trace = fopen(next_word(s), "we");
        if (!rig->trace)
            die("cannot write", s->word);
    } else if (!strcmp(s->word, "counter")) {
        rig->players = grow(rig->players, rig->player_count, sizeof *rig->players);
        struct player *p = &rig->players[rig->player_count++];
        strcpy(p->path, next_word(s));
        p->counter = read_counter(s);
    } else if (!strcmp(s->word, "node")) {
        rig->nodes = grow(rig->nodes, rig->node_count, sizeof *rig->nodes);
        read_node(&rig->nodes[rig->node_count++], s);
    } else {
        s->bad = 1;
    }
}

static struct rig read_rig(const char *path)
{
    struct rig rig = {.tick_ns = 5 * NS_PER_MS};
    struct script s = {.file = fopen(path, "re")};
    if (!s.file)
        die("cannot read", path);
    while (!s.bad && *next_word(&s))
        read_line(&rig, &s);
    if (s.bad || rig.tick_ns <= 0)
        die("bad script near", s.word);
    fclose(s.file);
    return rig;
}

static void evaluate(struct rig *rig)
{
    int64_t t_ns;
    while (scanf("%" SCNd64, &t_ns) == 1)
        for (int i = 0; i < rig->player_count; i++)
            printf("%" PRId64 "%c", counter_raw(&rig->players[i].counter, t_ns),
                   i + 1 < rig->player_count ? ' ' : '\n');
}

/* ---- the loop ---- */

/* Every 2nd tick (10 ms) stat, every 4th (20 ms) the trace, every 8th (40 ms) meminfo. */
static void play(struct rig *rig, int64_t round)
{
    for (int i = 0; i < rig->player_count; i++)
        play_counter(&rig->players[i], boot_ns());
    for (int i = 0; i < rig->node_count; i++) {
        struct node *n = &rig->nodes[i];
        if (round % 2 == 0)
            play_stat(n, boot_ns());
        if (round % 4 == 0)
            scan_jobs(n, rig->trace);
        if (round % 8 == 0)
            play_meminfo(n, boot_ns());
    }
    if (rig->trace && round % 40 == 0)
        fflush(rig->trace);
}

static void run(struct rig *rig)
{
    pid_t parent = getppid();
    int64_t next = boot_ns();
    /* an orphan ends too: nobody else would stop it */
    for (int64_t round = 0; !stopped && getppid() == parent; round++) {
        play(rig, round);
        if (round == 0 && (puts("ready") < 0 || fflush(stdout)))
            return;
        next += rig->tick_ns;
        if (next < boot_ns())
            next = boot_ns() + rig->tick_ns; /* late: no burst to catch up */
        struct timespec at = {.tv_sec = next / NS_PER_S, .tv_nsec = next % NS_PER_S};
        clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &at, NULL);
        int64_t late = boot_ns() - next;
        if (late > rig->max_late_ns)
            rig->max_late_ns = late;
    }
}

static void finish(struct rig *rig)
{
    struct rusage usage;
    if (!rig->trace)
        return;
    getrusage(RUSAGE_SELF, &usage);
    int64_t cpu_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec +
                     usage.ru_stime.tv_usec;
    fprintf(rig->trace, "end %" PRId64 " %" PRId64 " %" PRId64 "\n", boot_ns(), cpu_us * 1000,
            rig->max_late_ns);
    fclose(rig->trace);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--eval")) {
        struct rig rig = read_rig(argv[2]);
        evaluate(&rig);
        return 0;
    }
    if (argc != 2)
        die("usage: powerrig [--eval]", "SCRIPT");
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    signal(SIGINT, SIG_IGN); /* the test runner's Ctrl-C: the rig is stopped by its context manager */
    struct rig rig = read_rig(argv[1]);
    for (int i = 0; i < rig.player_count; i++)
        open_player(&rig.players[i]);
    for (int i = 0; i < rig.node_count; i++)
        open_node(&rig.nodes[i]);
    run(&rig);
    finish(&rig);
    return 0;
}
