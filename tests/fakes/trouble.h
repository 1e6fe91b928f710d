/* Scripted errors and delays of a library's calls; for nvml.c and amdsmi.c.
 *
 *   reload CODE FROM TO 0             for sessions older than TO: every call gives CODE
 *   fault CODE FROM TO N call...      an error code in [FROM, TO); `*` is every call
 *   delay MS FROM TO N call...        the call sleeps first
 */
#ifndef TROUBLE_H
#define TROUBLE_H

#include "curve.h"

#define CALLS_MAX 16

struct window { char kind; int64_t amount, from_ns, to_ns; int count; char calls[CALLS_MAX][64]; };
struct windows { int count; struct window *list; };
static void add_window(struct windows *w, char kind, struct script *s)
{
    w->list = realloc(w->list, (size_t)(w->count + 1) * sizeof *w->list);
    struct window *new = &w->list[w->count++];
    *new = (struct window){.kind = kind};
    new->amount = next_number(s);
    new->from_ns = next_number(s);
    new->to_ns = next_number(s);
    new->count = next_count(s);
    if (new->count > CALLS_MAX)
        s->bad = 1;
    for (int i = 0; i < new->count && !s->bad; i++)
        snprintf(new->calls[i], sizeof new->calls[i], "%.63s", next_word(s));
}

static int names(const struct window *w, const char *call)
{
    for (int i = 0; i < w->count; i++)
        if (!strcmp(w->calls[i], "*") || !strcmp(w->calls[i], call))
            return 1;
    return 0;
}

static void sleep_through(const struct windows *all, const char *call)
{
    int64_t now = boot_ns();
    for (int i = 0; i < all->count; i++) {
        const struct window *w = &all->list[i];
        if (w->kind != 'd' || now < w->from_ns || now >= w->to_ns || !names(w, call))
            continue;
        struct timespec wait = {.tv_sec = w->amount / 1000, .tv_nsec = w->amount % 1000 * NS_PER_MS};
        nanosleep(&wait, NULL);
    }
}

static int error_now(const struct windows *all, const char *call, int64_t since_ns)
{
    int64_t now = boot_ns();
    for (int i = 0; i < all->count; i++) {
        const struct window *w = &all->list[i];
        if (w->kind == 'r' && now >= w->from_ns && since_ns < w->to_ns)
            return (int)w->amount;
        if (w->kind == 'f' && now >= w->from_ns && now < w->to_ns && names(w, call))
            return (int)w->amount;
    }
    return 0;
}

#endif
