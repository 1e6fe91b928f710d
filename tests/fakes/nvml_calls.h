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

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
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
    DEVICE("nvmlDeviceGetUUID");
    return give(d->uuid, out, length);
}

API int nvmlDeviceGetName(void *handle, char *out, unsigned length)
{
    DEVICE("nvmlDeviceGetName");
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
    *millijoules = (unsigned long long)counter_raw(&d->counter, boot_ns());
    return OK;
}

static int64_t power_mw(const struct device *d)
{
    return curve_level(&d->counter.curve, shown_ns(&d->counter, boot_ns())) / 1000;
}

API int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts)
{
    DEVICE("nvmlDeviceGetPowerUsage");
    *milliwatts = (unsigned)power_mw(d);
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

/* Use follows power: at its limit a GPU is 100 % busy. */
API int nvmlDeviceGetUtilizationRates(void *handle, unsigned rates[2])
{
    DEVICE("nvmlDeviceGetUtilizationRates");
    int64_t percent = d->limit_mw ? power_mw(d) * 100 / d->limit_mw : 0;
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
