// Attention over pages of keys and values. A page holds 64 positions of all layers; a sequence's table of pages lies in its slot,
// and pages are shared by reference. Partial results are taken over SPLIT pages, aligned to positions counted from 0, and merged in
// ascending order: a row's result depends on its own positions alone.
//
// Compiled in: HD (width of a head), KVH (heads of keys and values), RATIO (query heads of each), KV_F32, FRAGMENTS (tensor cores).
#pragma once
#include "device.h"
#include "rows.cu"
#ifdef HD
#define PAGE 64       // positions of a page
#define SPLIT 4       // pages of a partial result
#define ROW (RATIO * (HD + 2))
#ifdef KV_F32
typedef float Kv;
DEVICE float kv_load(const Kv* p) { return *p; }
DEVICE void kv_store(Kv* p, float v) { *p = v; }
#else
typedef u16 Kv;
DEVICE float kv_load(const Kv* p) { return bf16_to_float(*p); }
DEVICE void kv_store(Kv* p, float v) { *p = float_to_bf16(v); }
#endif
// a head's keys are [PAGE][HD]; its values [PAGE][HD] too, or [HD][PAGE] for tensor cores, with positions permuted inside 32 so that
// a lane's are side by side
#define HEAD_LEN (2 * PAGE * HD)
#ifdef FRAGMENTS
#define V_AT(position, d) ((d) * PAGE + (position) / 32 * 32 + (position) % 8 / 2 * 8 + (position) % 32 / 8 * 2 + (position) % 2)
#else
#define V_AT(position, d) ((position) * HD + (d))
#endif
// of each row: its slot (0: none), its position, where its table of pages begins in the slot
struct Rows { const u64* slot; const u32* position; u64 table_at; };
DEVICE Kv* page_of(const Rows& rows, u32 row, u32 page, u64 part_at) {
    return (Kv*)((const u64*)(rows.slot[row] + rows.table_at))[page] + part_at;
}

// ---------------------------------------------------------------- norms and rotates queries and keys, and appends keys and values: a block a row
struct Heads { float* q; float* k; const float* v; u32 q_stride, k_stride, v_stride; const float* q_norm; const float* k_norm; float q_eps, k_eps;
               const float* frequencies; u32 pairs; float rope_scale; };
DEVICE void head(float* x, u32 lane, const float* norm, float eps, const Heads& h, float at) {
    float scale = 1.f;
    if (norm) {
        float sum = 0.f;
        for (u32 d = lane; d < HD; d += 32) sum = fma_(x[d], x[d], sum);
        scale = 1.f / sqrt_(warp_sum(sum) / (float)HD + eps);
    }
    // a lane has both dimensions of a pair
    for (u32 i = lane; i < h.pairs; i += 32) {
        float a = norm ? x[i] * scale * norm[i] : x[i], b = norm ? x[i + h.pairs] * scale * norm[i + h.pairs] : x[i + h.pairs], sine, cosine;
        sincos_(at * h.frequencies[i], &sine, &cosine);
        sine *= h.rope_scale; cosine *= h.rope_scale;
        x[i] = a * cosine - b * sine;
        x[i + h.pairs] = b * cosine + a * sine;
    }
    if (norm) for (u32 d = 2 * h.pairs + lane; d < HD; d += 32) x[d] = x[d] * scale * norm[d];
}
KERNEL void __launch_bounds__(128, 8) enter(Rows rows, u64 part_at, Heads h) {
    u32 row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (!rows.slot[row]) return;
    u32 position = rows.position[row];
    Kv* page = page_of(rows, row, position / PAGE, part_at);
    for (u32 i = warp; i < KVH * (RATIO + 1); i += warps) {
        if (i < KVH * RATIO) { head(h.q + (u64)row * h.q_stride + i * HD, lane, h.q_norm, h.q_eps, h, (float)position); continue; }
        u32 j = i - KVH * RATIO;
        float* k = h.k + (u64)row * h.k_stride + j * HD;
        head(k, lane, h.k_norm, h.k_eps, h, (float)position);
        WARP_SYNC();
        const float* v = h.v + (u64)row * h.v_stride + j * HD;
        for (u32 d = lane; d < HD; d += 32) {
            kv_store(page + (u64)j * HEAD_LEN + position % PAGE * HD + d, k[d]);
            kv_store(page + (u64)j * HEAD_LEN + PAGE * HD + V_AT(position % PAGE, d), v[d]);
        }
    }
}

// ---------------------------------------------------------------- partial results: a block SPLIT pages of one row and one head of keys, a warp a page
// maximum, sum and weighted values of a warp's page are in shared memory; they become those of the block
DEVICE void merge_pages(const float* o, const float* m, const float* l, float* out) {
    for (u32 e = threadIdx.x; e < RATIO * HD; e += blockDim.x) {
        u32 r = e / HD;
        float top = m[r];
        for (int w = 1; w < SPLIT; w++) top = m[w * RATIO + r] > top ? m[w * RATIO + r] : top;
        float sum = 0.f, total = 0.f;
        for (int w = 0; w < SPLIT; w++) {
            float f = m[w * RATIO + r] == -INFINITY ? 0.f : exp_(m[w * RATIO + r] - top);
            sum = fma_(f, o[w * RATIO * HD + e], sum);
            total = fma_(f, l[w * RATIO + r], total);
        }
        out[r * (HD + 2) + e % HD] = sum;
        if (e % HD == 0) { out[r * (HD + 2) + HD] = top; out[r * (HD + 2) + HD + 1] = total; }
    }
}
KERNEL void __launch_bounds__(32 * SPLIT) attend(Rows rows, u64 part_at, u32 window, const float* __restrict__ q, u32 q_stride,
        float* __restrict__ partial, u32 splits) {
    SHARED(float, shared_o, SPLIT * RATIO * HD);
    SHARED(float, shared_m, SPLIT * RATIO);
    SHARED(float, shared_l, SPLIT * RATIO);
    u32 split = blockIdx.x, head = blockIdx.y, row = blockIdx.z, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (!rows.slot[row]) return;
    u32 len = rows.position[row] + 1, page = split * SPLIT + warp, from = window && len > window ? len - window : 0;
    if (split * SPLIT * PAGE >= len || (split + 1) * SPLIT * PAGE <= from) return;
    // positions of this page that are seen: [least, count)
    int count = (int)len - (int)(page * PAGE), least = from > page * PAGE ? (int)(from - page * PAGE) : 0;
    count = count < PAGE ? count : PAGE;
    bool any = count > 0 && least < count;
#ifdef FRAGMENTS
    // q and the weights are multiplied as two bf16 halves: arithmetic as good as f32
    u32 g = lane / 4, t = lane % 4;
    float m = -INFINITY, l = 0.f;
    float o[HD / 8][4];
#pragma unroll
    for (int i = 0; i < HD / 8; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
    if (any) {
        const u16* kp = page_of(rows, row, page, part_at) + (u64)head * HEAD_LEN;
        const u16* vp = kp + PAGE * HD;
        u32 qh[HD / 16][4], ql[HD / 16][4];   // rows 8..15 of the tile are empty: RATIO is at most 8
        const float* qr = q + (u64)row * q_stride + (head * RATIO + g) * HD;
#pragma unroll
        for (int c = 0; c < HD / 32; c++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float q0 = g < RATIO ? qr[32 * c + 8 * t + 2 * e] : 0.f, q1 = g < RATIO ? qr[32 * c + 8 * t + 2 * e + 1] : 0.f;
                u32 hi = pack_bf16(q0, q1);
                qh[2 * c + e / 2][e % 2 * 2] = hi; qh[2 * c + e / 2][e % 2 * 2 + 1] = 0;
                ql[2 * c + e / 2][e % 2 * 2] = pack_bf16(q0 - low(hi), q1 - high(hi)); ql[2 * c + e / 2][e % 2 * 2 + 1] = 0;
            }
        float s[PAGE / 8][4];
#pragma unroll
        for (int j = 0; j < PAGE / 8; j++) {
            s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.f;
#pragma unroll
            for (int c = 0; c < HD / 32; c++) {
                uint4 k = stream16(kp + (8 * j + g) * HD + 32 * c + 8 * t);
                mma(s[j], qh[2 * c], k.x, k.y); mma(s[j], ql[2 * c], k.x, k.y);
                mma(s[j], qh[2 * c + 1], k.z, k.w); mma(s[j], ql[2 * c + 1], k.z, k.w);
            }
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int at = (int)(8 * j + 2 * t + e);
                if (at >= count || at < least) s[j][e] = -INFINITY;
                m = s[j][e] > m ? s[j][e] : m;
            }
        }
        float other = lane_xor(m, 1); m = other > m ? other : m;
        other = lane_xor(m, 2); m = other > m ? other : m;
        u32 ph[PAGE / 16][4], pl[PAGE / 16][4];
#pragma unroll
        for (int j = 0; j < PAGE / 8; j++) {
            float p0 = exp_(s[j][0] - m), p1 = exp_(s[j][1] - m);
            l += p0; l += p1;
            u32 hi = pack_bf16(p0, p1);
            ph[j / 2][j % 2 * 2] = hi; ph[j / 2][j % 2 * 2 + 1] = 0;
            pl[j / 2][j % 2 * 2] = pack_bf16(p0 - low(hi), p1 - high(hi)); pl[j / 2][j % 2 * 2 + 1] = 0;
        }
        l += lane_xor(l, 1); l += lane_xor(l, 2);
#pragma unroll
        for (int i = 0; i < HD / 8; i++)
#pragma unroll
            for (int half = 0; half < PAGE / 32; half++) {
                uint4 v = stream16(vp + (8 * i + g) * PAGE + 32 * half + 8 * t);
                // positions past the end were never written
                int at = 32 * half + 2 * t;
                u32 w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int jj = 0; jj < 4; jj++) {
                    if (at + 8 * jj >= count) w[jj] = 0;
                    else if (at + 8 * jj + 1 >= count) w[jj] &= 0xffffu;
                }
                mma(o[i], ph[2 * half], w[0], w[1]); mma(o[i], pl[2 * half], w[0], w[1]);
                mma(o[i], ph[2 * half + 1], w[2], w[3]); mma(o[i], pl[2 * half + 1], w[2], w[3]);
            }
    }
    if (g < RATIO) {
        if (t == 0) { shared_m[warp * RATIO + g] = m; shared_l[warp * RATIO + g] = l; }
#pragma unroll
        for (int i = 0; i < HD / 8; i++) {
            shared_o[(warp * RATIO + g) * HD + 8 * i + 2 * t] = o[i][0];
            shared_o[(warp * RATIO + g) * HD + 8 * i + 2 * t + 1] = o[i][1];
        }
    }
#else
    // any width, any ratio: a lane two positions for the scores, some dimensions for the values
    SHARED(float, weights, SPLIT * PAGE);
    const Kv* kp = any ? page_of(rows, row, page, part_at) + (u64)head * HEAD_LEN : 0;
    for (int r = 0; r < RATIO; r++) {
        float m = -INFINITY, l = 0.f, score[2];
        const float* qr = q + (u64)row * q_stride + (head * RATIO + r) * HD;
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int at = (int)lane + 32 * e;
            score[e] = -INFINITY;
            if (at < count && at >= least) {
                float sum = 0.f;
                for (int d = 0; d < HD; d++) sum = fma_(qr[d], kv_load(kp + at * HD + d), sum);
                score[e] = sum;
            }
            m = score[e] > m ? score[e] : m;
        }
        m = warp_max(m);
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int at = (int)lane + 32 * e;
            float p = m == -INFINITY || score[e] == -INFINITY ? 0.f : exp_(score[e] - m);
            l += p;
            weights[warp * PAGE + at] = p;
        }
        l = warp_sum(l);
        WARP_SYNC();
        for (int d = (int)lane; d < HD; d += 32) {
            float sum = 0.f;
            for (int at = least; at < count; at++) sum = fma_(weights[warp * PAGE + at], kv_load(kp + PAGE * HD + V_AT(at, d)), sum);
            shared_o[(warp * RATIO + r) * HD + d] = sum;
        }
        if (lane == 0) { shared_m[warp * RATIO + r] = m; shared_l[warp * RATIO + r] = l; }
        WARP_SYNC();
    }
#endif
    BARRIER();
    merge_pages(shared_o, shared_m, shared_l, partial + (((u64)row * KVH + head) * splits + split) * ROW);
}

// ---------------------------------------------------------------- all partial results of a (head, row): a thread a dimension
// A sink is one more score, whose value is 0. With `gate`, what was attended to is multiplied by its sigmoid.
KERNEL void attend_merge(Rows rows, u32 window, const float* __restrict__ partial, u32 splits, const float* __restrict__ sinks,
        const float* __restrict__ gate, u32 gate_stride, Out out) {
    u32 head = blockIdx.x, row = blockIdx.y;
    if (head == 0) put_padding(out, row, KVH * RATIO * HD);
    for (u32 d = threadIdx.x; d < HD; d += blockDim.x) {
        float value = 0.f;
        if (rows.slot[row]) {
            u32 len = rows.position[row] + 1, used = (len + SPLIT * PAGE - 1) / (SPLIT * PAGE), from = window && len > window ? len - window : 0;
            u32 first = from / (SPLIT * PAGE);
            float m = sinks ? sinks[head] : -INFINITY, l = sinks ? 1.f : 0.f, o = 0.f;
            for (u32 s = first; s < used; s++) {
                const float* p = partial + (((u64)row * KVH + head / RATIO) * splits + s) * ROW + head % RATIO * (HD + 2);
                float next = p[HD] > m ? p[HD] : m, old = m == -INFINITY ? 0.f : exp_(m - next), now = exp_(p[HD] - next);
                l = l * old + p[HD + 1] * now; o = o * old + p[d] * now; m = next;
            }
            value = o / l;
            if (gate) value *= sigmoid_(gate[(u64)row * gate_stride + head * HD + d]);
        }
        put(out, row, head * HD + d, value);
    }
}
#endif
