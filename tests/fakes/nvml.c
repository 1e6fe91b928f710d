/* libnvidia-ml.so.1 for tests: analytic counters from a script, read at each first nvmlInit.
 *
 * FAKE_NVML names the script, words between white space, written by rig_gpu.py:
 *   nvml DRIVER_VERSION NVML_VERSION
 *   device UUID NAME MINOR PCI LIMIT_MW MEM_BYTES USED_BYTES MIG <counter>     in index order; see curve.h
 *   meters MASK ARCH AVERAGE_NS MODULE_MW SLICES  of the device before; see enum meter below
 *   instance UUID GI CI CI_SLICES GI_SLICES MEM_MB FROM TO     a MIG device of the device before
 *   busy PERCENT FROM TO                         the device before is so busy then, whatever it draws
 *   process PID GI CI FROM TO SM_PERCENT GRAPHICS              on the device before; GI -1: not in MIG mode
 *   reload CODE FROM TO 0                        for sessions older than TO: errors until a new nvmlInit
 *   fault CODE FROM TO N call...                 an error code; `*` is every call
 *   delay MS FROM TO N call...                   the call sleeps first
 * fault and delay after a device are for that device, before the first for the whole library.
 * Call names have no version suffix (nvmlDeviceGetCount); every kind of init is nvmlInit.
 *
 * Utilisation of processes is sampled every 100 ms of boot time, kept for 10 s and stamped by the wall clock in
 * microseconds. A call tells one line for each process that was seen busy since the asked time: the mean over the
 * samples from then to its last busy one.
 */
#define _GNU_SOURCE
#include "trouble.h"

#define API __attribute__((visibility("default")))
#define INSTANCE_0 0x1000 /* a MIG device's place in a handle: this, 64 for each GPU, its own number */
#define SAMPLE_NS (100 * NS_PER_MS)
#define SAMPLES_KEPT 100

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, RESET_REQUIRED = 16,
    LIB_RM_VERSION_MISMATCH = 18, UNKNOWN = 999
};

/* What a device has, bit by bit: the counter, nvmlDeviceGetPowerUsage, power fields by scope. */
enum meter { HAS_ENERGY = 1, HAS_USAGE = 2, HAS_INSTANT = 4, HAS_AVERAGE = 8, HAS_MODULE_INSTANT = 16,
             HAS_MODULE_AVERAGE = 32, HAS_ALL = 15 };

struct instance { char uuid[WORD]; int64_t gi, ci, ci_slices, gi_slices, mem_mb, from_ns, to_ns; };
struct process { int64_t pid, gi, ci, from_ns, to_ns, sm, graphics; };
struct busy { int64_t percent, from_ns, to_ns; };
struct device {
    char uuid[WORD], name[WORD], pci[WORD];
    int64_t minor, limit_mw, mem_bytes, used_bytes, mig;
    int64_t meters, arch, average_ns, module_mw, slices;
    struct counter counter;
    struct windows windows;
    int instance_count, process_count, busy_count;
    struct busy *busy;
    struct instance *instances;
    struct process *processes;
};
struct library {
    char driver[WORD], version[WORD];
    int device_count;
    struct device *devices;
    struct windows windows;
};
struct pci_info {
    char legacy_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char id[32];
};
struct attributes { unsigned counts[6], gi_slices, ci_slices; unsigned long long mem_mb; };
struct process_info { unsigned pid; unsigned long long used_bytes; unsigned gi, ci; };
struct process_sample { unsigned pid; unsigned long long wall_us; unsigned sm, mem, enc, dec; };
struct field {
    unsigned id, scope;
    int64_t wall_us, latency_us;
    unsigned type;
    int code;
    union { double real; unsigned number; unsigned long long big; } value;
};
struct profile { unsigned id, p2p, slices, instances, processors, engines[5]; unsigned long long mem_mb; };

/* A library that was shut down is kept: a call that hangs may still look at it. */
static struct library *library;
static int users;
static unsigned session;
static int64_t session_ns;

/* ---- the script ---- */

static void add_device(struct library *l, struct script *s)
{
    l->devices = realloc(l->devices, (size_t)(l->device_count + 1) * sizeof *l->devices);
    struct device *d = &l->devices[l->device_count++];
    memset(d, 0, sizeof *d);
    strcpy(d->uuid, next_word(s));
    strcpy(d->name, next_word(s));
    for (char *c = d->name; *c; c++)
        *c = *c == '~' ? ' ' : *c;
    d->minor = next_number(s);
    strcpy(d->pci, next_word(s));
    d->limit_mw = next_number(s);
    d->mem_bytes = next_number(s);
    d->used_bytes = next_number(s);
    d->mig = next_number(s);
    d->counter = read_counter(s);
    d->meters = HAS_ALL;
}

static void read_meters(struct device *d, struct script *s)
{
    d->meters = next_number(s);
    d->arch = next_number(s);
    d->average_ns = next_number(s);
    d->module_mw = next_number(s);
    d->slices = next_number(s);
}

static void add_instance(struct device *d, struct script *s)
{
    d->instances = realloc(d->instances, (size_t)(d->instance_count + 1) * sizeof *d->instances);
    struct instance *i = &d->instances[d->instance_count++];
    strcpy(i->uuid, next_word(s));
    i->gi = next_number(s);
    i->ci = next_number(s);
    i->ci_slices = next_number(s);
    i->gi_slices = next_number(s);
    i->mem_mb = next_number(s);
    i->from_ns = next_number(s);
    i->to_ns = next_number(s);
    if (d->instance_count > 64)
        s->bad = 1;
}

static void add_process(struct device *d, struct script *s)
{
    d->processes = realloc(d->processes, (size_t)(d->process_count + 1) * sizeof *d->processes);
    struct process *p = &d->processes[d->process_count++];
    p->pid = next_number(s);
    p->gi = next_number(s);
    p->ci = next_number(s);
    p->from_ns = next_number(s);
    p->to_ns = next_number(s);
    p->sm = next_number(s);
    p->graphics = next_number(s);
}

static void add_busy(struct device *d, struct script *s)
{
    d->busy = realloc(d->busy, (size_t)(d->busy_count + 1) * sizeof *d->busy);
    struct busy *b = &d->busy[d->busy_count++];
    b->percent = next_number(s);
    b->from_ns = next_number(s);
    b->to_ns = next_number(s);
}

static void read_part(struct device *d, struct script *s)
{
    if (!strcmp(s->word, "meters"))
        read_meters(d, s);
    else if (!strcmp(s->word, "instance"))
        add_instance(d, s);
    else if (!strcmp(s->word, "process"))
        add_process(d, s);
    else if (!strcmp(s->word, "busy"))
        add_busy(d, s);
    else
        s->bad = 1;
}

static struct library *read_library(void)
{
    const char *path = getenv("FAKE_NVML");
    struct script s = {.file = path ? fopen(path, "re") : NULL};
    struct library *l = calloc(1, sizeof *l);
    if (!s.file)
        return NULL;
    while (!s.bad && *next_word(&s)) {
        struct windows *w = l->device_count ? &l->devices[l->device_count - 1].windows : &l->windows;
        if (!strcmp(s.word, "nvml")) {
            strcpy(l->driver, next_word(&s));
            strcpy(l->version, next_word(&s));
        } else if (!strcmp(s.word, "device"))
            add_device(l, &s);
        else if (!strcmp(s.word, "reload") || !strcmp(s.word, "fault") || !strcmp(s.word, "delay"))
            add_window(w, s.word[0], &s);
        else if (l->device_count)
            read_part(&l->devices[l->device_count - 1], &s);
        else
            s.bad = 1;
    }
    fclose(s.file);
    if (s.bad)
        fprintf(stderr, "fake nvml: bad script near %s\n", s.word);
    return s.bad ? NULL : l;
}

/* ---- what a call meets ---- */

static int enter(const char *call, const struct device *d)
{
    const struct library *l = library;
    if (!users || !l)
        return UNINITIALIZED;
    sleep_through(&l->windows, call);
    if (d)
        sleep_through(&d->windows, call);
    int code = error_now(&l->windows, call, session_ns);
    return code || !d ? code : error_now(&d->windows, call, session_ns);
}

/* A handle carries its session, so that one kept over nvmlShutdown is refused. */
static void *handle_of(int index)
{
    return (void *)(((uintptr_t)session << 16) | (uintptr_t)(index + 1));
}

static struct device *device_of(const void *handle)
{
    uintptr_t number = (uintptr_t)handle, place = number & 0xffff;
    if (place >= INSTANCE_0)
        place = (place - INSTANCE_0) / 64 + 1;
    if (!library || number >> 16 != session || place < 1 || place > (uintptr_t)library->device_count)
        return NULL;
    return &library->devices[place - 1];
}

/* The MIG device of a handle; NULL for a whole GPU's. Its GPU is device_of(handle). */
static struct instance *instance_of(const void *handle)
{
    uintptr_t place = (uintptr_t)handle & 0xffff;
    struct device *d = device_of(handle);
    return d && place >= INSTANCE_0 ? &d->instances[(place - INSTANCE_0) % 64] : NULL;
}

static int enter_device(const char *call, const void *handle, struct device **d)
{
    *d = users ? device_of(handle) : NULL;
    if (users && !*d)
        return INVALID_ARGUMENT;
    return enter(call, *d);
}

static int give(const char *text, char *out, unsigned length)
{
    if (strlen(text) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return OK;
}

/* A call that works on both kinds of handle. */
#define EITHER(call)                                                                                         \
    struct device *d;                                                                                        \
    int code = enter_device(call, handle, &d);                                                               \
    if (code)                                                                                                \
        return code

/* A call that works on a whole GPU's handle alone. */
#define DEVICE(call)                                                                                         \
    EITHER(call);                                                                                            \
    if (instance_of(handle))                                                                                 \
        return NOT_SUPPORTED

#include "nvml_calls.h"
