/* The exact energy model that powerrig.c and nvml.c share; curve.py holds the same integers. */
#ifndef CURVE_H
#define CURVE_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL
#define WORD 512

/* level x nanoseconds passes 64 bits after a few weeks of one kilowatt in microwatts */
typedef __int128 wide;

struct segment { int64_t duration_ns, level; };
struct phase { int64_t start_ns, cycle_ns; wide cycle_work; int count; struct segment *segments; };
struct curve { int count; struct phase *phases; };

enum event_kind { RESET, STUCK, BLIP, UNREADABLE };
struct event { enum event_kind kind; int64_t from_ns, to_ns, amount; };
struct counter {
    int64_t unit, start, modulus, refresh_ns, lag_ns;
    struct curve curve;
    int event_count;
    struct event *events;
};

static int64_t boot_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* ---- reading a script: words between white space ---- */

struct script { FILE *file; int bad; char word[WORD]; };

static const char *next_word(struct script *s)
{
    if (fscanf(s->file, "%511s", s->word) != 1)
        s->word[0] = 0;
    return s->word;
}

static int64_t next_number(struct script *s)
{
    char *end;
    const char *text = next_word(s);
    int64_t value = strtoll(text, &end, 10);
    if (end == text || *end)
        s->bad = 1;
    return value;
}

static int next_count(struct script *s)
{
    int64_t count = next_number(s);
    if (count < 0 || count > 1000000)
        s->bad = 1;
    return s->bad ? 0 : (int)count;
}

static struct phase read_phase(struct script *s)
{
    struct phase p = {.start_ns = next_number(s)};
    p.count = next_count(s);
    p.segments = calloc((size_t)p.count + 1, sizeof *p.segments);
    for (int i = 0; i < p.count; i++) {
        struct segment *g = &p.segments[i];
        g->duration_ns = next_number(s);
        g->level = next_number(s);
        p.cycle_ns += g->duration_ns;
        p.cycle_work += (wide)g->level * g->duration_ns;
    }
    if (p.cycle_ns <= 0)
        s->bad = 1;
    return p;
}

static struct curve read_curve(struct script *s)
{
    struct curve c = {.count = next_count(s)};
    c.phases = calloc((size_t)c.count + 1, sizeof *c.phases);
    for (int i = 0; i < c.count && !s->bad; i++)
        c.phases[i] = read_phase(s);
    return c;
}

static struct counter read_counter(struct script *s)
{
    struct counter c = {.unit = next_number(s)};
    c.start = next_number(s);
    c.modulus = next_number(s);
    c.refresh_ns = next_number(s);
    c.lag_ns = next_number(s);
    if (c.unit <= 0 || c.refresh_ns <= 0)
        s->bad = 1;
    c.curve = read_curve(s);
    c.event_count = next_count(s);
    c.events = calloc((size_t)c.event_count + 1, sizeof *c.events);
    for (int i = 0; i < c.event_count; i++) {
        c.events[i].kind = (enum event_kind)next_number(s);
        c.events[i].from_ns = next_number(s);
        c.events[i].to_ns = next_number(s);
        c.events[i].amount = next_number(s);
    }
    return c;
}

/* ---- the model ---- */

static wide phase_work(const struct phase *p, int64_t elapsed_ns)
{
    wide work = p->cycle_work * (elapsed_ns / p->cycle_ns);
    int64_t rest = elapsed_ns % p->cycle_ns;
    for (int i = 0; i < p->count && rest > 0; i++) {
        int64_t part = rest < p->segments[i].duration_ns ? rest : p->segments[i].duration_ns;
        work += (wide)p->segments[i].level * part;
        rest -= part;
    }
    return work;
}

/* Level x nanoseconds from the curve's start to t. */
static wide curve_work(const struct curve *c, int64_t t_ns)
{
    wide work = 0;
    for (int i = 0; i < c->count && t_ns > c->phases[i].start_ns; i++) {
        int64_t end = i + 1 < c->count && c->phases[i + 1].start_ns < t_ns ? c->phases[i + 1].start_ns : t_ns;
        work += phase_work(&c->phases[i], end - c->phases[i].start_ns);
    }
    return work;
}

static int64_t curve_level(const struct curve *c, int64_t t_ns)
{
    int i = c->count - 1;
    while (i >= 0 && t_ns < c->phases[i].start_ns)
        i--;
    if (i < 0)
        return 0;
    const struct phase *p = &c->phases[i];
    int64_t rest = (t_ns - p->start_ns) % p->cycle_ns;
    int k = 0;
    while (k < p->count - 1 && rest >= p->segments[k].duration_ns)
        rest -= p->segments[k++].duration_ns;
    return p->segments[k].level;
}

static int64_t curve_uj(const struct curve *c, int64_t t_ns)
{
    return (int64_t)(curve_work(c, t_ns) / NS_PER_S);
}

static int64_t shown_ns(const struct counter *c, int64_t t_ns)
{
    int64_t seen = t_ns - c->lag_ns;
    return seen < 0 ? 0 : seen / c->refresh_ns * c->refresh_ns;
}

static int happens(const struct event *e, enum event_kind kind, int64_t t_ns)
{
    return e->kind == kind && e->from_ns <= t_ns && t_ns < e->to_ns;
}

static int unreadable(const struct counter *c, int64_t t_ns)
{
    for (int i = 0; i < c->event_count; i++)
        if (happens(&c->events[i], UNREADABLE, t_ns))
            return 1;
    return 0;
}

/* What the counter says at t, in its unit, after events and wrap. */
static int64_t counter_raw(const struct counter *c, int64_t t_ns)
{
    int64_t live_ns = t_ns, reset_ns = -1, blip = 0;
    for (int i = 0; i < c->event_count; i++)
        if (happens(&c->events[i], STUCK, t_ns) && c->events[i].from_ns < live_ns)
            live_ns = c->events[i].from_ns;
    for (int i = 0; i < c->event_count; i++) {
        const struct event *e = &c->events[i];
        if (e->kind == RESET && e->from_ns <= live_ns && e->from_ns > reset_ns)
            reset_ns = e->from_ns;
        if (happens(e, BLIP, live_ns))
            blip += e->amount;
    }
    int64_t uj = curve_uj(&c->curve, shown_ns(c, live_ns));
    if (reset_ns >= 0)
        uj -= curve_uj(&c->curve, reset_ns);
    if (uj < 0)
        uj = 0; /* a lagging sensor still shows a time before the reset */
    wide value = (wide)uj / c->unit + (reset_ns < 0 ? c->start : 0) - blip;
    if (value < 0)
        value = 0;
    return (int64_t)(c->modulus ? value % c->modulus : value);
}

#endif
