/* The exported NVML calls; part of nvml.c. */

API int nvmlInit_v2(void)
{
    if (users) {
        users++;
        return OK;
    }
    struct library *fresh = read_library();
    if (!fresh)
        return DRIVER_NOT_LOADED;
    sleep_through(&fresh->windows, "nvmlInit");
    int64_t now = boot_ns();
    for (int i = 0; i < fresh->windows.count; i++) {
        struct window *w = &fresh->windows.list[i];
        if (w->kind == 'r' && now >= w->from_ns && now < w->to_ns)
            return DRIVER_NOT_LOADED;
    }
    int code = error_now(&fresh->windows, "nvmlInit", INT64_MAX);
    if (code)
        return code;
    library = fresh;
    session++;
    session_ns = now;
    users = 1;
    return OK;
}

API int nvmlInit(void) { return nvmlInit_v2(); }

API int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return nvmlInit_v2();
}

API int nvmlShutdown(void)
{
    if (!users)
        return UNINITIALIZED;
    users--;
    return OK;
}

API const char *nvmlErrorString(int code)
{
    switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires reset";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

API int nvmlSystemGetDriverVersion(char *out, unsigned length)
{
    int code = enter("nvmlSystemGetDriverVersion", NULL);
    return code ? code : give(library->driver, out, length);
}

API int nvmlSystemGetNVMLVersion(char *out, unsigned length)
{
    int code = enter("nvmlSystemGetNVMLVersion", NULL);
    return code ? code : give(library->version, out, length);
}

API int nvmlDeviceGetCount_v2(unsigned *count)
{
    int code = enter("nvmlDeviceGetCount", NULL);
    if (!code)
        *count = (unsigned)library->device_count;
    return code;
}

static int find(const char *call, int index, void **handle)
{
    const struct device *d = index < 0 ? NULL : &library->devices[index];
    int code = enter(call, d);
    if (!code && !d)
        code = NOT_FOUND;
    if (!code)
        *handle = handle_of(index);
    return code;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    if (users && index >= (unsigned)library->device_count)
        return INVALID_ARGUMENT;
    return find("nvmlDeviceGetHandleByIndex", users ? (int)index : -1, handle);
}

static void *instance_handle(int device, int number)
{
    return (void *)(((uintptr_t)session << 16) | (uintptr_t)(INSTANCE_0 + device * 64 + number));
}

static int exists(const struct instance *i)
{
    int64_t now = boot_ns();
    return i->from_ns <= now && now < i->to_ns;
}

static int find_instance(const char *uuid, void **handle)
{
    for (int i = 0; i < library->device_count; i++)
        for (int k = 0; k < library->devices[i].instance_count; k++) {
            struct instance *one = &library->devices[i].instances[k];
            if (library->devices[i].mig != 1 || strcmp(one->uuid, uuid) || !exists(one))
                continue;
            int code = enter("nvmlDeviceGetHandleByUUID", &library->devices[i]);
            if (!code)
                *handle = instance_handle(i, k);
            return code;
        }
    return NOT_FOUND;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
    if (users && !strncmp(uuid, "MIG-", 4))
        return find_instance(uuid, handle);
    int index = users ? library->device_count - 1 : -1;
    while (index >= 0 && strcmp(library->devices[index].uuid, uuid))
        index--;
    return find("nvmlDeviceGetHandleByUUID", index, handle);
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **handle)
{
    int index = users ? library->device_count - 1 : -1;
    while (index >= 0 && strcasecmp(library->devices[index].pci, pci))
        index--;
    return find("nvmlDeviceGetHandleByPciBusId", index, handle);
}

API int nvmlDeviceGetIndex(void *handle, unsigned *index)
{
    DEVICE("nvmlDeviceGetIndex");
    *index = (unsigned)(d - library->devices);
    return OK;
}

API int nvmlDeviceGetUUID(void *handle, char *out, unsigned length)
{
    EITHER("nvmlDeviceGetUUID");
    const struct instance *i = instance_of(handle);
    return give(i ? i->uuid : d->uuid, out, length);
}

API int nvmlDeviceGetName(void *handle, char *out, unsigned length)
{
    EITHER("nvmlDeviceGetName");
    return give(d->name, out, length);
}

API int nvmlDeviceGetMinorNumber(void *handle, unsigned *minor)
{
    DEVICE("nvmlDeviceGetMinorNumber");
    *minor = (unsigned)d->minor;
    return OK;
}

API int nvmlDeviceGetPciInfo_v3(void *handle, struct pci_info *info)
{
    DEVICE("nvmlDeviceGetPciInfo");
    memset(info, 0, sizeof *info);
    sscanf(d->pci, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    snprintf(info->legacy_id, sizeof info->legacy_id, "%04X:%02X:%02X.0", info->domain & 0xffff,
             info->bus & 0xff, info->device & 0xff);
    snprintf(info->id, sizeof info->id, "%.31s", d->pci);
    return OK;
}

API int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules)
{
    DEVICE("nvmlDeviceGetTotalEnergyConsumption");
    if (!(d->meters & HAS_ENERGY))
        return NOT_SUPPORTED;
    *millijoules = (unsigned long long)counter_raw(&d->counter, boot_ns());
    return OK;
}

static int64_t power_mw(const struct device *d)
{
    return curve_level(&d->counter.curve, shown_ns(&d->counter, boot_ns())) / 1000;
}

static int64_t mean_mw(const struct device *d, int64_t window_ns)
{
    if (window_ns <= 0)
        return power_mw(d);
    int64_t now = shown_ns(&d->counter, boot_ns());
    wide work = curve_work(&d->counter.curve, now) - curve_work(&d->counter.curve, now - window_ns);
    return (int64_t)(work / window_ns / 1000);
}

API int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts)
{
    DEVICE("nvmlDeviceGetPowerUsage");
    if (!(d->meters & HAS_USAGE))
        return NOT_SUPPORTED;
    *milliwatts = (unsigned)mean_mw(d, d->average_ns);
    return OK;
}

static int64_t wall_us(int64_t at_boot_ns)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (ts.tv_sec * NS_PER_S + ts.tv_nsec - boot_ns() + at_boot_ns) / 1000;
}

enum { FIELD_ENERGY = 83, FIELD_AVERAGE = 185, FIELD_INSTANT = 186, FIELD_LIMIT = 190, TYPE_UINT = 1, TYPE_ULL = 3 };

static void answer_field(const struct device *d, struct field *f)
{
    int module = f->scope == 1;
    int has = f->id == FIELD_INSTANT   ? (module ? HAS_MODULE_INSTANT : HAS_INSTANT)
              : f->id == FIELD_AVERAGE ? (module ? HAS_MODULE_AVERAGE : HAS_AVERAGE)
              : f->id == FIELD_LIMIT   ? (module ? HAS_MODULE_INSTANT | HAS_MODULE_AVERAGE : HAS_INSTANT)
              : f->id == FIELD_ENERGY  ? HAS_ENERGY
                                       : 0;
    f->wall_us = wall_us(boot_ns());
    f->latency_us = 0;
    f->code = f->scope > 1 || !(d->meters & has) ? NOT_SUPPORTED : OK;
    if (f->code)
        return;
    int64_t power = f->id == FIELD_LIMIT ? d->limit_mw : mean_mw(d, f->id == FIELD_AVERAGE ? NS_PER_S : 0);
    f->type = f->id == FIELD_ENERGY ? TYPE_ULL : TYPE_UINT;
    f->value.big = f->id == FIELD_ENERGY ? (unsigned long long)counter_raw(&d->counter, boot_ns())
                                         : (unsigned long long)(power + (module ? d->module_mw : 0));
}

API int nvmlDeviceGetFieldValues(void *handle, int count, struct field *fields)
{
    DEVICE("nvmlDeviceGetFieldValues");
    for (int i = 0; i < count; i++)
        answer_field(d, &fields[i]);
    return OK;
}

API int nvmlDeviceGetArchitecture(void *handle, unsigned *arch)
{
    DEVICE("nvmlDeviceGetArchitecture");
    *arch = (unsigned)d->arch;
    return OK;
}

API int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts)
{
    DEVICE("nvmlDeviceGetEnforcedPowerLimit");
    *milliwatts = (unsigned)d->limit_mw;
    return OK;
}

API int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *milliwatts)
{
    DEVICE("nvmlDeviceGetPowerManagementLimit");
    *milliwatts = (unsigned)d->limit_mw;
    return OK;
}

/* As the script says; else use follows power: at its limit a GPU is 100 % busy. In MIG mode none is told. */
API int nvmlDeviceGetUtilizationRates(void *handle, unsigned rates[2])
{
    DEVICE("nvmlDeviceGetUtilizationRates");
    if (d->mig == 1)
        return NOT_SUPPORTED;
    int64_t percent = d->limit_mw ? power_mw(d) * 100 / d->limit_mw : 0, now = boot_ns();
    for (int i = 0; i < d->busy_count; i++)
        if (d->busy[i].from_ns <= now && now < d->busy[i].to_ns)
            percent = d->busy[i].percent;
    rates[0] = (unsigned)(percent < 100 ? percent : 100);
    rates[1] = 0;
    return OK;
}

API int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long bytes[3])
{
    DEVICE("nvmlDeviceGetMemoryInfo");
    bytes[0] = (unsigned long long)d->mem_bytes;
    bytes[1] = (unsigned long long)(d->mem_bytes - d->used_bytes);
    bytes[2] = (unsigned long long)d->used_bytes;
    return OK;
}

API int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending)
{
    DEVICE("nvmlDeviceGetMigMode");
    if (d->mig < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned)d->mig;
    return OK;
}

/* ---- MIG ---- */

API int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count)
{
    DEVICE("nvmlDeviceGetMaxMigDeviceCount");
    *count = d->mig < 0 ? 0 : (unsigned)d->slices;
    return OK;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig)
{
    DEVICE("nvmlDeviceGetMigDeviceHandleByIndex");
    if (d->mig != 1 || index >= (unsigned)d->slices)
        return d->mig < 0 ? NOT_SUPPORTED : INVALID_ARGUMENT;
    if (index >= (unsigned)d->instance_count || !exists(&d->instances[index]))
        return NOT_FOUND;
    *mig = instance_handle((int)(d - library->devices), (int)index);
    return OK;
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *handle, void **parent)
{
    EITHER("nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
    if (!instance_of(handle))
        return INVALID_ARGUMENT;
    *parent = handle_of((int)(d - library->devices));
    return OK;
}

API int nvmlDeviceIsMigDeviceHandle(void *handle, unsigned *answer)
{
    EITHER("nvmlDeviceIsMigDeviceHandle");
    *answer = instance_of(handle) != NULL;
    return OK;
}

/* A call on a MIG device alone, while it exists. */
#define INSTANCE(call)                                                                                       \
    EITHER(call);                                                                                            \
    const struct instance *i = instance_of(handle);                                                          \
    if (!i || !exists(i))                                                                                    \
        return i ? NOT_FOUND : INVALID_ARGUMENT

API int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id)
{
    INSTANCE("nvmlDeviceGetGpuInstanceId");
    *id = (unsigned)i->gi;
    return OK;
}

API int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id)
{
    INSTANCE("nvmlDeviceGetComputeInstanceId");
    *id = (unsigned)i->ci;
    return OK;
}

API int nvmlDeviceGetAttributes_v2(void *handle, struct attributes *a)
{
    INSTANCE("nvmlDeviceGetAttributes");
    memset(a, 0, sizeof *a);
    a->gi_slices = (unsigned)i->gi_slices;
    a->ci_slices = (unsigned)i->ci_slices;
    a->mem_mb = (unsigned long long)i->mem_mb;
    return OK;
}

/* Profiles 0 to 4 are of 1, 2, 3, 4 and 7 slices; one larger than the GPU is not supported. */
API int nvmlDeviceGetGpuInstanceProfileInfo(void *handle, unsigned number, struct profile *p)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 7};
    DEVICE("nvmlDeviceGetGpuInstanceProfileInfo");
    if (d->mig < 0 || number >= sizeof sizes / sizeof *sizes || sizes[number] > d->slices)
        return NOT_SUPPORTED;
    memset(p, 0, sizeof *p);
    p->id = number;
    p->slices = (unsigned)sizes[number];
    p->instances = (unsigned)(d->slices / sizes[number]);
    return OK;
}

/* ---- processes ---- */

static int is_on(const struct process *p, const struct instance *i)
{
    return !i || (p->gi == i->gi && p->ci == i->ci);
}

static int list(const struct device *d, const struct instance *i, int graphics, unsigned *count,
                struct process_info *out)
{
    int64_t now = boot_ns();
    unsigned room = *count, found = 0;
    for (int k = 0; k < d->process_count; k++) {
        const struct process *p = &d->processes[k];
        if (p->graphics != graphics || now < p->from_ns || now >= p->to_ns || !is_on(p, i))
            continue;
        if (out && found < room)
            out[found] = (struct process_info){(unsigned)p->pid, 1 << 20, (unsigned)p->gi, (unsigned)p->ci};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

API int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process_info *out)
{
    EITHER("nvmlDeviceGetComputeRunningProcesses");
    return list(d, instance_of(handle), 0, count, out);
}

API int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, struct process_info *out)
{
    EITHER("nvmlDeviceGetGraphicsRunningProcesses");
    return list(d, instance_of(handle), 1, count, out);
}

/* How busy a process was over the sample that ends at t, in percent. */
static int64_t busy_at(const struct process *p, int64_t t_ns)
{
    int64_t from = t_ns - SAMPLE_NS > p->from_ns ? t_ns - SAMPLE_NS : p->from_ns;
    int64_t to = t_ns < p->to_ns ? t_ns : p->to_ns;
    return to > from ? p->sm * (to - from) / SAMPLE_NS : 0;
}

/* The process's line since then; 0 if it was not busy. */
static int sample(const struct process *p, unsigned long long since_us, struct process_sample *out)
{
    int64_t last = boot_ns() / SAMPLE_NS * SAMPLE_NS, sum = 0, count = 0;
    *out = (struct process_sample){.pid = (unsigned)p->pid};
    for (int64_t t = last - SAMPLES_KEPT * SAMPLE_NS; t <= last; t += SAMPLE_NS) {
        if (t <= 0 || (unsigned long long)wall_us(t) <= since_us + 1000)
            continue; /* stamps of one sample may differ by the time between two clock readings */
        sum += busy_at(p, t);
        count++;
        if (!busy_at(p, t))
            continue;
        out->wall_us = (unsigned long long)wall_us(t);
        out->sm = (unsigned)(sum / count);
    }
    return out->wall_us != 0;
}

API int nvmlDeviceGetProcessUtilization(void *handle, struct process_sample *out, unsigned *count,
                                        unsigned long long since_us)
{
    DEVICE("nvmlDeviceGetProcessUtilization");
    if (d->mig == 1)
        return NOT_SUPPORTED;
    unsigned room = *count, found = 0;
    for (int k = 0; k < d->process_count; k++) {
        struct process_sample one;
        if (!sample(&d->processes[k], since_us, &one))
            continue;
        if (out && found < room)
            out[found] = one;
        found++;
    }
    *count = out ? found : (unsigned)d->process_count;
    if (!found)
        return NOT_FOUND;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
