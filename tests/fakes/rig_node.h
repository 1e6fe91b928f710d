/* One node's /proc stand-in, and the trace of its job cgroups (v1), for powerrig.c. */
#ifndef RIG_NODE_H
#define RIG_NODE_H

#include "curve.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_NS 10000000LL /* USER_HZ = 100 */
#define PATH 2048
#define STAT_MAX 65536

struct node {
    char name[WORD], cpuacct[WORD], memory[WORD], jobs[WORD], proc[WORD];
    int64_t cpus, mem_bytes;
    struct curve load, used; /* micro-CPUs, bytes */
    int stat_fd, meminfo_fd, usage_fd;
    int looked; /* the first look at the cgroup takes its usage as the zero */
    int64_t usage_seen, usage_total, usage_raw, idle_ticks, job_bytes, btime;
};

static void read_node(struct node *n, struct script *s)
{
    strcpy(n->name, next_word(s));
    n->cpus = next_number(s);
    n->mem_bytes = next_number(s);
    strcpy(n->cpuacct, next_word(s));
    strcpy(n->memory, next_word(s));
    strcpy(n->jobs, next_word(s));
    strcpy(n->proc, next_word(s));
    n->load = read_curve(s);
    n->used = read_curve(s);
    if (n->cpus <= 0 || n->cpus > 1024)
        s->bad = 1;
}

static int open_proc(const char *folder, const char *name)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
    if (fd < 0) {
        perror(path);
        exit(2);
    }
    return fd;
}

static void open_node(struct node *n)
{
    n->usage_fd = -1;
    n->usage_raw = -1;
    n->stat_fd = open_proc(n->proc, "stat");
    n->meminfo_fd = open_proc(n->proc, "meminfo");
    n->btime = (int64_t)time(NULL) - boot_ns() / NS_PER_S;
}

/* ---- CPU time of the node's cgroup ---- */

static int read_int(int fd, int64_t *value)
{
    char text[64];
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    if (length <= 0)
        return -1;
    text[length] = 0;
    *value = strtoll(text, NULL, 10);
    return 0;
}

/* A removed cgroup gives ENODEV; a removed plain file, as in tests, has no name left. */
static int usage_is_alive(struct node *n, int64_t *value)
{
    struct stat st;
    return n->usage_fd >= 0 && !fstat(n->usage_fd, &st) && st.st_nlink && !read_int(n->usage_fd, value);
}

static int reopen_usage(struct node *n, int64_t *value)
{
    char path[PATH];
    if (n->usage_fd >= 0)
        close(n->usage_fd);
    snprintf(path, sizeof path, "%s/%s/cpuacct.usage", n->cpuacct, n->jobs);
    n->usage_fd = open(path, O_RDONLY | O_CLOEXEC);
    n->usage_seen = 0;
    if (!usage_is_alive(n, value))
        return 0;
    if (!n->looked)
        n->usage_seen = *value;
    return 1;
}

/* CPU time that the cgroup has used since the start of the rig, over all its lives. */
static void follow_usage(struct node *n)
{
    int64_t value = 0;
    int alive = usage_is_alive(n, &value) || reopen_usage(n, &value);
    n->looked = 1;
    n->usage_raw = alive ? value : -1;
    if (!alive)
        return;
    n->usage_total += value - (value < n->usage_seen ? 0 : n->usage_seen);
    n->usage_seen = value;
}

static int64_t system_ns(const struct node *n, int64_t now)
{
    return (int64_t)(curve_work(&n->load, now) / 1000000);
}

/* ---- /proc/stat and /proc/meminfo ---- */

/* CPU i of n gets its part of a total so that the parts add up and none ever falls. */
static int64_t part(int64_t total, int64_t cpus, int64_t i)
{
    return total / cpus + (i < total % cpus);
}

/* Job time is `user`, the scripted load is `system`, spread evenly over the CPUs. */
static void play_stat(struct node *n, int64_t now)
{
    static char text[STAT_MAX];
    int64_t elapsed = now - n->load.phases[0].start_ns;
    follow_usage(n);
    int64_t user = n->usage_total / TICK_NS, system = system_ns(n, now) / TICK_NS;
    int64_t idle = (elapsed < 0 ? 0 : elapsed * n->cpus / TICK_NS) - user - system;
    if (idle > n->idle_ticks)
        n->idle_ticks = idle;
    int used = 0;
    for (int64_t i = -1; i < n->cpus; i++) {
        int64_t cpus = i < 0 ? 1 : n->cpus, place = i < 0 ? 0 : i;
        char label[32] = "cpu ";
        if (i >= 0)
            snprintf(label, sizeof label, "cpu%" PRId64, i);
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "%s %" PRId64 " 0 %" PRId64 " %" PRId64 " 0 0 0 0 0 0\n", label,
                         part(user, cpus, place), part(system, cpus, place), part(n->idle_ticks, cpus, place));
    }
    used += snprintf(text + used, sizeof text - (size_t)used,
                     "intr 0\nctxt 0\nbtime %" PRId64 "\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"
                     "softirq 0 0 0 0 0 0 0 0 0 0 0\n",
                     n->btime);
    /* numbers only grow, so the text never shrinks and can be written in place */
    if (pwrite(n->stat_fd, text, (size_t)used, 0) != used)
        perror("stat");
}

static int64_t used_bytes(const struct node *n, int64_t now)
{
    int64_t used = curve_level(&n->used, now) + n->job_bytes;
    return used < n->mem_bytes ? used : n->mem_bytes;
}

static void play_meminfo(struct node *n, int64_t now)
{
    static const char *zeros[] = {"Buffers:", "Cached:", "SwapCached:", "Active:", "Inactive:", "SwapTotal:",
                                  "SwapFree:", "Shmem:", "Slab:", "SReclaimable:", "SUnreclaim:"};
    char text[2048];
    int64_t total = n->mem_bytes / 1024, free_kb = (n->mem_bytes - used_bytes(n, now)) / 1024;
    int used = snprintf(text, sizeof text,
                        "MemTotal:       %12" PRId64 " kB\nMemFree:        %12" PRId64
                        " kB\nMemAvailable:   %12" PRId64 " kB\n",
                        total, free_kb, free_kb);
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%-16s%12d kB\n", zeros[i], 0);
    if (pwrite(n->meminfo_fd, text, (size_t)used, 0) != used)
        perror("meminfo");
}

/* ---- job cgroups ---- */

static int64_t read_usage(const char *folder)
{
    char path[PATH];
    int64_t value = -1;
    snprintf(path, sizeof path, "%.1900s/cpuacct.usage", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (read_int(fd, &value))
        value = -1;
    close(fd);
    return value;
}

static int64_t stat_value(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    return line ? strtoll(line + strlen(key), NULL, 10) : 0;
}

static int64_t read_rss(const char *folder)
{
    char path[PATH], text[8192];
    snprintf(path, sizeof path, "%.1900s/memory.stat", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return stat_value(text, "total_rss ") + stat_value(text, "total_shmem ");
}

/* `inner` is the job's folder below the node's, `job` its id. */
static void scan_job(struct node *n, const char *inner, const char *job, FILE *trace)
{
    char folder[PATH];
    snprintf(folder, sizeof folder, "%s/%s/%s", n->cpuacct, n->jobs, inner);
    int64_t now = boot_ns(), cpu = read_usage(folder);
    if (cpu < 0)
        return;
    snprintf(folder, sizeof folder, "%s/%s/%s", n->memory, n->jobs, inner);
    int64_t rss = read_rss(folder);
    n->job_bytes += rss;
    if (trace)
        fprintf(trace, "job %" PRId64 " %s %s %" PRId64 " %" PRId64 "\n", now, n->name, job, cpu, rss);
}

static void scan_user(struct node *n, const char *uid, FILE *trace)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s/%s", n->cpuacct, n->jobs, uid);
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (!strncmp(entry->d_name, "job_", 4)) {
            snprintf(path, sizeof path, "%.256s/%.256s", uid, entry->d_name);
            scan_job(n, path, entry->d_name + 4, trace);
        }
    closedir(folder);
}

/* OAR's <user>_<id> lie in one folder; a user may have any number of underscores. */
static void scan_entry(struct node *n, const char *name, FILE *trace)
{
    if (strcmp(n->jobs, "oar")) {
        if (!strncmp(name, "uid_", 4))
            scan_user(n, name, trace);
    } else if (strrchr(name, '_') && strspn(strrchr(name, '_') + 1, "0123456789") == strlen(strrchr(name, '_') + 1)) {
        scan_job(n, name, strrchr(name, '_') + 1, trace);
    }
}

/* One trace line for each living job, then one for the node. */
static void scan_jobs(struct node *n, FILE *trace)
{
    char path[PATH];
    n->job_bytes = 0;
    snprintf(path, sizeof path, "%s/%s", n->cpuacct, n->jobs);
    DIR *folder = opendir(path);
    if (folder) {
        for (struct dirent *entry; (entry = readdir(folder));)
            scan_entry(n, entry->d_name, trace);
        closedir(folder);
    }
    follow_usage(n);
    int64_t now = boot_ns();
    if (trace)
        fprintf(trace, "node %" PRId64 " %s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", now, n->name,
                n->usage_raw, n->usage_total, system_ns(n, now), used_bytes(n, now));
}

#endif
