// Reads a row of raw logits once for its confidence, and draws a token from it. Sums of weights are sums of integers (a weight of 1 is
// 2^44), which do not depend on their order, so that a draw needs no order of threads; sets are prefixes of the order by descending logit,
// of equal ones the lowest id first.
#pragma once
#include "device.h"

#define TOP 20
#define SCAN 512
#define ONE 17592186044416.0      // 2^44: a vocabulary of 2^18 ids cannot overflow
// How a row's token is drawn. `edits` changes logits first: penalties of ids that came before, then ids that may not be drawn.
// `inverse` is that of the temperature; below 0 the largest logit is taken.
struct Draw { u64 logits; double uniform, top_p, min_p, presence, frequency; float inverse, repetition; u32 top_k, forced, first_edit, edits; };
// id; times in the trace, or BANNED
struct Edit { u32 id, count; };
#define BANNED 0xffffffffu
#define FREE 0xffffffffu
// What comes of a row. `z` and `id` of the largest logits, `kept` of them set; `broken` where a logit is NaN or infinite or none is left.
struct Drawn { double logsumexp, mean, sum; float max, logit; u32 id, finite, broken, kept; float z[TOP]; u32 ids[TOP]; };

// floats in the order of their values, -0 as 0
DEVICE u32 key_of(float z) { u32 u = f2u(z + 0.f); return u & 0x80000000u ? ~u : u | 0x80000000u; }
DEVICE u64 weight_of(float z, float max, float inverse) { return to_u64((double)exp_((z - max) * inverse) * ONE + 0.5); }

struct Room { double a[SCAN], b[SCAN], c[SCAN]; float best[SCAN]; u32 n[SCAN], at[SCAN]; u64 mass[256], total; u32 count[256], flag, prefix, id; float bound; };

// the largest logit and its lowest id
DEVICE void largest(const float* z, u32 vocab, Room& r, float* value, u32* id) {
    u32 t = threadIdx.x, at = 0xffffffffu;
    float m = -INFINITY;
    for (u32 i = t; i < vocab; i += SCAN) if (z[i] > m) { m = z[i]; at = i; }
    r.best[t] = m; r.at[t] = at;
    BARRIER();
    for (u32 half = SCAN / 2; half > 0; half /= 2) {
        if (t < half && (r.best[t + half] > r.best[t] || (r.best[t + half] == r.best[t] && r.at[t + half] < r.at[t]))) { r.best[t] = r.best[t + half]; r.at[t] = r.at[t + half]; }
        BARRIER();
    }
    *value = r.best[0]; *id = r.at[0];
    BARRIER();
}
// The sum of all weights that are at least `least`.
DEVICE u64 mass_of(const float* z, u32 vocab, float max, float inverse, double least, u32 bound_key, u32 bound_id, Room& r) {
    u32 t = threadIdx.x;
    u64 own = 0;
    for (u32 i = t; i < vocab; i += SCAN) {
        if (z[i] == -INFINITY) continue;
        u32 k = key_of(z[i]);
        if (k < bound_key || (k == bound_key && i > bound_id)) continue;
        if (least > 0. && (double)exp_((z[i] - max) * inverse) < least) continue;
        own += weight_of(z[i], max, inverse);
    }
    if (t == 0) r.total = 0;
    BARRIER();
    atomic_add(&r.total, own);
    BARRIER();
    u64 total = r.total;
    BARRIER();
    return total;
}
// The first id, by descending logit, at which the running count reaches `count` or the running sum of weights reaches `mass`. A digit of the logit's key at
// a time; of the ids with that logit, the one that is wanted. What comes before it, with it, is `upto`.
DEVICE void select(const float* z, u32 vocab, float max, float inverse, u64 count, u64 mass, Room& r, u32* key, u32* id, u64* upto) {
    u32 t = threadIdx.x, prefix = 0;
    u64 counted = 0, summed = 0;
    for (int digit = 3; digit >= 0; digit--) {
        if (t < 256) { r.mass[t] = 0; r.count[t] = 0; }
        BARRIER();
        for (u32 i = t; i < vocab; i += SCAN) {
            if (z[i] == -INFINITY) continue;
            u32 k = key_of(z[i]);
            if (digit < 3 && k >> (8 * digit + 8) != prefix) continue;
            u32 bucket = k >> (8 * digit) & 255u;
            atomic_add(&r.count[bucket], 1);
            atomic_add(&r.mass[bucket], weight_of(z[i], max, inverse));
        }
        BARRIER();
        if (t == 0) {
            u32 bucket = 255, last = 0;
            for (u32 b = 256; b-- > 0;) if (r.count[b]) last = b;
            for (bucket = 255; bucket > last; bucket--) {
                if (counted + r.count[bucket] >= count || summed + r.mass[bucket] >= mass) break;
                counted += r.count[bucket]; summed += r.mass[bucket];
            }
            r.prefix = prefix << 8 | bucket; r.mass[0] = summed; r.count[0] = (u32)counted;
        }
        BARRIER();
        prefix = r.prefix; summed = r.mass[0]; counted = r.count[0];
        BARRIER();
    }
    // all ids of this logit weigh the same: how many of them are wanted
    u32 bits = prefix & 0x80000000u ? prefix & 0x7fffffffu : ~prefix;
    u64 each = weight_of(u2f(bits), max, inverse), wanted = count - counted;
    if (each > 0 && mass > summed) { u64 by = (mass - summed + each - 1) / each; wanted = by < wanted ? by : wanted; }
    if (wanted < 1 || mass <= summed) wanted = 1;
    // each thread its own stretch of ids, so that they are counted in their order
    u32 stretch = (vocab + SCAN - 1) / SCAN, from = t * stretch, to = from + stretch < vocab ? from + stretch : vocab, own = 0;
    for (u32 i = from; i < to; i++) own += key_of(z[i]) == prefix;
    r.n[t] = own;
    if (t == 0) r.id = 0;
    BARRIER();
    u64 before = 0, all = 0;
    for (u32 i = 0; i < SCAN; i++) { if (i < t) before += r.n[i]; all += r.n[i]; }
    if (wanted > all) wanted = all;
    if (before < wanted && before + own >= wanted)
        for (u32 i = from; i < to; i++) if (key_of(z[i]) == prefix && ++before == wanted) { r.id = i; break; }
    BARRIER();
    *key = prefix; *id = r.id; *upto = summed + wanted * each;
    BARRIER();
}
// The id at which the running sum of weights, by ascending id, passes `target`.
DEVICE u32 walk(const float* z, u32 vocab, float max, float inverse, u64 target, u32 best, Room& r) {
    u32 t = threadIdx.x, stretch = (vocab + SCAN - 1) / SCAN, from = t * stretch, to = from + stretch < vocab ? from + stretch : vocab;
    u64 own = 0;
    for (u32 i = from; i < to; i++) own += weight_of(z[i], max, inverse);
    u64* sums = (u64*)r.a;
    sums[t] = own;
    if (t == 0) r.id = best;
    BARRIER();
    u64 before = 0;
    for (u32 i = 0; i < t; i++) before += sums[i];
    if (before <= target && target < before + own)
        for (u32 i = from; i < to; i++) { before += weight_of(z[i], max, inverse); if (before > target) { r.id = i; break; } }
    BARRIER();
    u32 id = r.id;
    BARRIER();
    return id;
}

// ---------------------------------------------------------------- a row with penalties and bans: a copy, changed
KERNEL void __launch_bounds__(SCAN) edit_rows(const Draw* __restrict__ draws, const Edit* __restrict__ edits, u32 vocab, float* __restrict__ changed) {
    Draw d = draws[blockIdx.x];
    if (!d.logits || !d.edits) return;
    const float* z = (const float*)d.logits;
    float* out = changed + (u64)blockIdx.x * vocab;
    for (u32 i = threadIdx.x; i < vocab; i += SCAN) out[i] = z[i];
    BARRIER();
    for (u32 e = threadIdx.x; e < d.edits; e += SCAN) {
        Edit edit = edits[d.first_edit + e];
        if (edit.count == BANNED || edit.id >= vocab) continue;
        float v = out[edit.id];
        v = v > 0.f ? v / d.repetition : v * d.repetition;
        if (edit.count) v -= (float)(d.presence + d.frequency * (double)edit.count);
        out[edit.id] = v;
    }
    BARRIER();
    for (u32 e = threadIdx.x; e < d.edits; e += SCAN) {
        Edit edit = edits[d.first_edit + e];
        if (edit.count == BANNED && edit.id < vocab) out[edit.id] = -INFINITY;
    }
}

// ---------------------------------------------------------------- a block a row
KERNEL void __launch_bounds__(SCAN) draw_rows(const Draw* __restrict__ draws, u32 vocab, const float* __restrict__ changed, Drawn* __restrict__ out) {
    SHARED(Room, rooms, 1);
    Room& r = rooms[0];
    Draw d = draws[blockIdx.x];
    if (!d.logits) return;
    u32 t = threadIdx.x;
    const float* z = (const float*)d.logits;
    Drawn* o = out + blockIdx.x;
    // the largest logit, and whether all are numbers
    u32 broken = 0, finite = 0;
    float m = -INFINITY;
    for (u32 i = t; i < vocab; i += SCAN) {
        float v = z[i];
        if (!(v < INFINITY)) broken = 1;
        else if (v > -INFINITY) { finite++; m = v > m ? v : m; }
    }
    r.best[t] = m; r.n[t] = finite;
    if (t == 0) { r.flag = 0; r.count[0] = 0; r.bound = -INFINITY; }
    BARRIER();
    if (broken) atomic_add(&r.flag, 1);
    float top = r.best[0];
    for (u32 i = 1; i < SCAN; i++) top = r.best[i] > top ? r.best[i] : top;
    // the TOPth largest of the threads' largest: at least TOP logits reach it
    u32 rank = 0;
    for (u32 i = 0; i < SCAN; i++) rank += r.best[i] > m || (r.best[i] == m && i < t);
    if (rank == TOP - 1) r.bound = m;
    BARRIER();
    bool bad = r.flag != 0 || top == -INFINITY;
    if (bad) { if (t == 0) { o->broken = 1; o->id = 0; } return; }
    double total = 0., weighted = 0., plain = 0.;
    for (u32 i = t; i < vocab; i += SCAN) {
        float v = z[i];
        if (v == -INFINITY) continue;
        double e = (double)exp_(v - top);
        total += e; weighted += e * (double)v; plain += (double)v;
    }
    r.a[t] = total; r.b[t] = weighted; r.c[t] = plain;
    BARRIER();
    for (u32 half = SCAN / 2; half > 0; half /= 2) {
        if (t < half) { r.a[t] += r.a[t + half]; r.b[t] += r.b[t + half]; r.c[t] += r.c[t + half]; r.n[t] += r.n[t + half]; }
        BARRIER();
    }
    u32 all = r.n[0], kept = all < TOP ? all : TOP;
    if (t == 0) {
        o->max = top; o->logsumexp = (double)top + log_(r.a[0]); o->mean = r.b[0] / r.a[0]; o->sum = r.c[0];
        o->finite = all; o->broken = 0; o->kept = kept;
    }
    // candidates for the largest: their places are in `at`, in any order, and rank does not depend on it
    float least = r.bound;
    BARRIER();
    for (u32 i = t; i < vocab; i += SCAN)
        if (z[i] >= least && z[i] > -INFINITY) {
            u32 at = atomic_add(&r.count[0], 1);
            if (at < SCAN) r.at[at] = i;
        }
    BARRIER();
    u32 count = r.count[0];
    BARRIER();
    if (count <= SCAN) {
        if (t < count) {
            u32 id = r.at[t], place = 0;
            for (u32 i = 0; i < count; i++) place += z[r.at[i]] > z[id] || (z[r.at[i]] == z[id] && r.at[i] < id);
            if (place < TOP) { o->z[place] = z[id]; o->ids[place] = id; }
        }
        BARRIER();
    } else {
        // many equal logits: one at a time, the largest after the last
        float last_z = INFINITY; u32 last_i = 0;
        for (u32 k = 0; k < kept; k++) {
            float bz = -INFINITY; u32 bi = 0xffffffffu;
            for (u32 i = t; i < vocab; i += SCAN) {
                float v = z[i];
                bool after = v < last_z || (v == last_z && i > last_i);
                if (after && v > bz) { bz = v; bi = i; }
            }
            r.best[t] = bz; r.at[t] = bi;
            BARRIER();
            for (u32 i = 0; i < SCAN; i++) if (r.best[i] > bz || (r.best[i] == bz && r.at[i] < bi)) { bz = r.best[i]; bi = r.at[i]; }
            BARRIER();
            last_z = bz; last_i = bi;
            if (t == 0) { o->z[k] = bz; o->ids[k] = bi; }
        }
    }
    if (d.forced != FREE) {
        if (t == 0) { o->id = d.forced; o->logit = z[d.forced]; }
        return;
    }
    const float* w = d.edits ? changed + (u64)blockIdx.x * vocab : z;
    float max = top; u32 best = 0, id;
    largest(w, vocab, r, &max, &best);
    if (best == 0xffffffffu) { if (t == 0) { o->broken = 1; o->id = 0; } return; }
    if (d.inverse < 0.f) id = best;
    else {
        float inverse = d.inverse;
        // everything down to (key, last) is in the set
        u32 key = 0, last = 0xffffffffu;
        u64 pool = mass_of(w, vocab, max, inverse, 0., 0, 0xffffffffu, r), upto;
        bool filtered = d.top_k > 0 || d.top_p < 1. || d.min_p > 0.;
        if (!filtered) id = walk(w, vocab, max, inverse, to_u64(d.uniform * (double)pool), best, r);
        else {
            if (d.top_k > 0) select(w, vocab, max, inverse, d.top_k, ~(u64)0, r, &key, &last, &pool);
            if (d.top_p < 1.) {
                u64 wanted = to_u64(d.top_p * (double)pool);
                if ((double)wanted < d.top_p * (double)pool) wanted++;
                select(w, vocab, max, inverse, d.top_k > 0 ? d.top_k : ~(u64)0 >> 1, wanted, r, &key, &last, &upto);
                pool = upto;
            }
            if (d.min_p > 0.) pool = mass_of(w, vocab, max, inverse, d.min_p, key, last, r);
            select(w, vocab, max, inverse, ~(u64)0 >> 1, to_u64(d.uniform * (double)pool) + 1, r, &key, &id, &upto);
        }
    }
    if (t == 0) { o->id = id; o->logit = z[id]; }
}
