/* libamd_smi.so for tests: analytic counters from a script, read at each first amdsmi_init. Laid out as version 7.0.
 *
 * FAKE_AMDSMI names the script, words between white space, written by rig_amd.py:
 *   device UUID BUS RENDER CAP_UW MASK <counter>     in index order; the counter in microjoules, see curve.h
 *   fault, delay                                     see trouble.h; after a device they are for that device
 * Without a script there is no driver. Names that the Python package binds and that are not here are made by
 * rig_build.py, and are not supported.
 */
#define _GNU_SOURCE
#include "trouble.h"

#define API __attribute__((visibility("default")))
#define COUNT_UJ 15.259f /* one count of the accumulator, on every GPU so far */

enum { OK = 0, INVAL = 1, NOT_SUPPORTED = 2, INIT_ERROR = 18, NOT_INIT = 32, DRIVER_NOT_LOADED = 34 };
enum meter { HAS_ENERGY = 1, HAS_CURRENT = 2, HAS_AVERAGE = 4, IS_SECOND_DIE = 8 };

struct device {
    char uuid[WORD];
    int64_t bus, render, cap_uw, meters;
    struct counter counter;
    struct windows windows;
};
struct library {
    int device_count;
    struct device *devices;
    struct windows windows;
};
struct power {
    uint64_t socket;
    uint32_t current, average;
    uint64_t volts[3];
    uint32_t limit, padding;
    uint64_t reserved[18];
};
struct cap { uint64_t now, standard, dpm, min, max, reserved[3]; };
struct activity { uint32_t gfx, umc, mm, reserved[13]; };
struct enumeration { uint32_t render, card, hsa, hip; char hip_uuid[256]; };

static struct library *library;

static void add_device(struct library *l, struct script *s)
{
    l->devices = realloc(l->devices, (size_t)(l->device_count + 1) * sizeof *l->devices);
    struct device *d = &l->devices[l->device_count++];
    memset(d, 0, sizeof *d);
    strcpy(d->uuid, next_word(s));
    d->bus = next_number(s);
    d->render = next_number(s);
    d->cap_uw = next_number(s);
    d->meters = next_number(s);
    d->counter = read_counter(s);
}

static struct library *read_library(void)
{
    const char *path = getenv("FAKE_AMDSMI");
    struct script s = {.file = path ? fopen(path, "re") : NULL};
    struct library *l = calloc(1, sizeof *l);
    if (!s.file)
        return NULL;
    while (!s.bad && *next_word(&s)) {
        struct windows *w = l->device_count ? &l->devices[l->device_count - 1].windows : &l->windows;
        if (!strcmp(s.word, "device"))
            add_device(l, &s);
        else if (!strcmp(s.word, "fault") || !strcmp(s.word, "delay"))
            add_window(w, s.word[0], &s);
        else
            s.bad = 1;
    }
    fclose(s.file);
    if (s.bad)
        fprintf(stderr, "fake amdsmi: bad script near %s\n", s.word);
    return s.bad ? NULL : l;
}

static int enter(const char *call, const struct library *l, const struct device *d)
{
    if (!l)
        return NOT_INIT;
    sleep_through(&l->windows, call);
    if (d)
        sleep_through(&d->windows, call);
    int code = error_now(&l->windows, call, 0);
    return code || !d ? code : error_now(&d->windows, call, 0);
}

static struct device *device_of(void *handle)
{
    struct device *d = handle;
    return library && d >= library->devices && d < library->devices + library->device_count ? d : NULL;
}

#define DEVICE(call)                                                                                         \
    struct device *d = device_of(handle);                                                                    \
    int code = library && !d ? INVAL : enter(call, library, d);                                              \
    if (code)                                                                                                \
        return code

API int amdsmi_init(uint64_t flags)
{
    (void)flags;
    struct library *fresh = read_library();
    int code = fresh ? enter("amdsmi_init", fresh, NULL) : DRIVER_NOT_LOADED;
    if (!code)
        library = fresh; /* an older one is kept: a call that hangs may still look at it */
    return code;
}

API int amdsmi_shut_down(void)
{
    int code = library ? OK : NOT_INIT;
    library = NULL;
    return code;
}

/* One socket for each device. */
API int amdsmi_get_socket_handles(uint32_t *count, void **sockets)
{
    int code = enter("amdsmi_get_socket_handles", library, NULL);
    if (code)
        return code;
    *count = (uint32_t)library->device_count;
    for (int i = 0; sockets && i < library->device_count; i++)
        sockets[i] = &library->devices[i];
    return OK;
}

API int amdsmi_get_processor_handles(void *handle, uint32_t *count, void **processors)
{
    DEVICE("amdsmi_get_processor_handles");
    *count = 1;
    if (processors)
        processors[0] = d;
    return OK;
}

API int amdsmi_get_gpu_device_uuid(void *handle, uint32_t *length, char *uuid)
{
    DEVICE("amdsmi_get_gpu_device_uuid");
    return snprintf(uuid, *length, "%s", d->uuid) < (int)*length ? OK : INVAL;
}

API int amdsmi_get_gpu_device_bdf(void *handle, uint64_t *bdf)
{
    DEVICE("amdsmi_get_gpu_device_bdf");
    *bdf = (uint64_t)d->bus << 8;
    return OK;
}

API int amdsmi_get_gpu_enumeration_info(void *handle, struct enumeration *e)
{
    DEVICE("amdsmi_get_gpu_enumeration_info");
    memset(e, 0, sizeof *e);
    e->render = (uint32_t)d->render;
    return OK;
}

API int amdsmi_get_energy_count(void *handle, uint64_t *counts, float *count_uj, uint64_t *stamp)
{
    DEVICE("amdsmi_get_energy_count");
    if (!(d->meters & (HAS_ENERGY | IS_SECOND_DIE)))
        return NOT_SUPPORTED;
    int64_t now = boot_ns();
    *counts = d->meters & IS_SECOND_DIE ? 0 : (uint64_t)((double)counter_raw(&d->counter, now) / (double)COUNT_UJ);
    *count_uj = COUNT_UJ;
    *stamp = (uint64_t)now;
    return OK;
}

/* Watts; 0xFFFF is "not available" for the Python package. */
API int amdsmi_get_power_info(void *handle, struct power *p)
{
    DEVICE("amdsmi_get_power_info");
    memset(p, 0, sizeof *p);
    uint32_t watts = (uint32_t)(curve_level(&d->counter.curve, shown_ns(&d->counter, boot_ns())) / 1000000);
    if (d->meters & IS_SECOND_DIE)
        watts = 0;
    p->current = d->meters & (HAS_CURRENT | IS_SECOND_DIE) ? watts : 0xFFFF;
    p->average = d->meters & (HAS_AVERAGE | IS_SECOND_DIE) ? watts : 0xFFFF;
    p->socket = watts;
    return OK;
}

API int amdsmi_get_power_cap_info(void *handle, uint32_t sensor, struct cap *c)
{
    DEVICE("amdsmi_get_power_cap_info");
    memset(c, 0, sizeof *c);
    c->now = c->standard = c->max = sensor ? 0 : (uint64_t)d->cap_uw;
    return OK;
}

/* Use follows power: at its cap a GPU is 100 % busy; one of the second die tells none (0xFFFF). */
API int amdsmi_get_gpu_activity(void *handle, struct activity *a)
{
    DEVICE("amdsmi_get_gpu_activity");
    memset(a, 0, sizeof *a);
    int64_t uw = curve_level(&d->counter.curve, shown_ns(&d->counter, boot_ns()));
    int64_t percent = d->cap_uw ? uw * 100 / d->cap_uw : 0;
    a->gfx = d->meters & IS_SECOND_DIE ? 0xFFFF : (uint32_t)(percent < 100 ? percent : 100);
    a->umc = a->mm = 0xFFFF;
    return OK;
}
