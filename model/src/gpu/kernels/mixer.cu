// Recurrent parts: convolution windows and states, which lie in a sequence's slot. A feed is a run of rows of one sequence; its
// positions follow each other here as they do when they come one at a time, and are the same arithmetic.
//
// Compiled in: TAPS, and for a state P (width of a head), N (states of a channel, or width of a key), HEADS, GROUPS (of B and C, or heads of keys),
// DELTA (the delta rule), INTERLEAVED (which key a head uses), STATE_BF16.
#pragma once
#include "device.h"
#include "rows.cu"

// Where a feed's rows are, and its sequence's memory; null where a row is empty.
struct Feeds { const u64* slot; const u32* first; const u32* count; };

// ---------------------------------------------------------------- causal convolution, then silu: a thread a channel
// The window [taps - 1][channels] holds the inputs before, the oldest first.
#ifdef TAPS
KERNEL void __launch_bounds__(128) conv(Feeds feeds, u64 window_at, const float* __restrict__ in, u32 in_stride, const float* __restrict__ weight,
        const float* __restrict__ bias, u32 channels, float* __restrict__ out) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x, feed = blockIdx.y;
    if (c >= channels || !feeds.slot[feed]) return;
    float* window = (float*)(feeds.slot[feed] + window_at);
    float past[TAPS], w[TAPS];
#pragma unroll
    for (int t = 0; t < TAPS; t++) { w[t] = weight[t * channels + c]; past[t] = t < TAPS - 1 ? window[t * channels + c] : 0.f; }
    u32 first = feeds.first[feed], count = feeds.count[feed];
    for (u32 i = 0; i < count; i++) {
        past[TAPS - 1] = in[(u64)(first + i) * in_stride + c];
        float sum = bias[c];
#pragma unroll
        for (int t = 0; t < TAPS; t++) sum = fma_(w[t], past[t], sum);
        out[(u64)(first + i) * channels + c] = silu_(sum);
#pragma unroll
        for (int t = 0; t + 1 < TAPS; t++) past[t] = past[t + 1];
    }
#pragma unroll
    for (int t = 0; t + 1 < TAPS; t++) window[t * channels + c] = past[t];
}
#endif

// ---------------------------------------------------------------- the gated short convolution of LFM2: C * conv(B * x)
#ifdef SHORT_TAPS
KERNEL void __launch_bounds__(128) short_conv(Feeds feeds, u64 window_at, const float* __restrict__ in, u32 in_stride, const float* __restrict__ weight,
        const float* __restrict__ bias, u32 channels, Out out) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x, feed = blockIdx.y;
    if (c >= channels || !feeds.slot[feed]) return;
    float* window = (float*)(feeds.slot[feed] + window_at);
    float past[SHORT_TAPS], w[SHORT_TAPS];
#pragma unroll
    for (int t = 0; t < SHORT_TAPS; t++) { w[t] = weight[t * channels + c]; past[t] = t < SHORT_TAPS - 1 ? window[t * channels + c] : 0.f; }
    u32 first = feeds.first[feed], count = feeds.count[feed];
    for (u32 i = 0; i < count; i++) {
        const float* row = in + (u64)(first + i) * in_stride;
        past[SHORT_TAPS - 1] = row[c] * row[2 * channels + c];
        float sum = bias[c];
#pragma unroll
        for (int t = 0; t < SHORT_TAPS; t++) sum = fma_(w[t], past[t], sum);
        put(out, first + i, c, sum * row[channels + c]);
        if (c == 0 && out.packed)
            for (u32 k = channels; k < (channels + 63) / 64 * 64; k++) put(out, first + i, k, 0.f);
#pragma unroll
        for (int t = 0; t + 1 < SHORT_TAPS; t++) past[t] = past[t + 1];
    }
#pragma unroll
    for (int t = 0; t + 1 < SHORT_TAPS; t++) window[t * channels + c] = past[t];
}
#endif

// ---------------------------------------------------------------- states: a block a (head, feed), a warp some rows of the head's state
// Mamba-2: H = e^(dt A) H + dt x B, y = H C + D x. The delta rule: S = e^(dt A) S, d = beta (v - S k), S = S + d k, y = S q.
// A head's state is [P][NP] with the states of a channel side by side; what is written to y comes from the state before it is rounded.
#ifdef P
#define CHUNKS ((N + 127) / 128)
#define NP ((N + 3) / 4 * 4)
#define AHEAD 4        // channels of a warp in flight
#ifdef STATE_BF16
typedef u16 State;
DEVICE float4 load_state(const State* p) { uint2 w = *(const uint2*)p; return make_float4(low(w.x), high(w.x), low(w.y), high(w.y)); }
DEVICE void store_state(State* p, const float4& v) { uint2 w; w.x = pack_bf16(v.x, v.y); w.y = pack_bf16(v.z, v.w); *(uint2*)p = w; }
#else
typedef float State;
DEVICE float4 load_state(const State* p) { return *(const float4*)p; }
DEVICE void store_state(State* p, const float4& v) { *(float4*)p = v; }
#endif
DEVICE float4 load4(const float* from, u32 at) {
    return make_float4(at < N ? from[at] : 0.f, at + 1 < N ? from[at + 1] : 0.f, at + 2 < N ? from[at + 2] : 0.f, at + 3 < N ? from[at + 3] : 0.f);
}
DEVICE float dot4(const float4& a, const float4& b, float sum) { return fma_(a.w, b.w, fma_(a.z, b.z, fma_(a.y, b.y, fma_(a.x, b.x, sum)))); }
DEVICE float dots(const float4 (&a)[CHUNKS], const float4 (&b)[CHUNKS]) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) sum = dot4(a[i], b[i], sum);
    return sum;
}
struct Rates { const float* steps; const float* strengths; u32 steps_stride, strengths_stride; const float* a; const float* d; const float* bias; float low, high; };
KERNEL void __launch_bounds__(256) state_update(Feeds feeds, u64 state_at, const float* __restrict__ xbc, Rates rates, float* __restrict__ y) {
    u32 head = blockIdx.x, feed = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (!feeds.slot[feed]) return;
    State* h = (State*)(feeds.slot[feed] + state_at) + (u64)head * P * NP;
    u32 first = feeds.first[feed], count = feeds.count[feed];
#ifdef DELTA
    const u32 channels = 2 * GROUPS * N + HEADS * P, values = 2 * GROUPS * N;
#ifdef INTERLEAVED
    u32 group = head % GROUPS;
#else
    u32 group = head / (HEADS / GROUPS);
#endif
#else
    const u32 channels = HEADS * P + 2 * GROUPS * N, values = 0;
    u32 group = head / (HEADS / GROUPS);
#endif
    for (u32 p = warp * AHEAD; p < P; p += warps * AHEAD) {
        float4 s[AHEAD][CHUNKS];
#pragma unroll
        for (int r = 0; r < AHEAD; r++)
#pragma unroll
            for (int i = 0; i < CHUNKS; i++)
                s[r][i] = p + r < P && i * 128 + lane * 4 < N ? load_state(h + (u64)(p + r) * NP + i * 128 + lane * 4) : make_float4(0.f, 0.f, 0.f, 0.f);
        for (u32 token = 0; token < count; token++) {
            u32 row = first + token;
            float step = softplus_(rates.steps[(u64)row * rates.steps_stride + head] + rates.bias[head]);
            step = step < rates.low ? rates.low : step > rates.high ? rates.high : step;
            float keep = exp_(step * rates.a[head]);
            const float* all = xbc + (u64)row * channels;
            const float* x = all + values + head * P;
            float4 b[CHUNKS], c[CHUNKS];
#ifdef DELTA
            // queries, then keys; both get a length of 1, queries are divided by the root of their width
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                c[i] = load4(all + group * N, i * 128 + lane * 4);
                b[i] = load4(all + (GROUPS + group) * N, i * 128 + lane * 4);
            }
            float root = 1.f / sqrt_((float)N);
            float of_q = root * root / sqrt_(warp_sum(dots(c, c)) / (float)N + 1e-6f / (float)N);
            float of_k = root / sqrt_(warp_sum(dots(b, b)) / (float)N + 1e-6f / (float)N);
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                c[i].x *= of_q; c[i].y *= of_q; c[i].z *= of_q; c[i].w *= of_q;
                b[i].x *= of_k; b[i].y *= of_k; b[i].z *= of_k; b[i].w *= of_k;
            }
            float kq = warp_sum(dots(b, c)), strength = sigmoid_(rates.strengths[(u64)row * rates.strengths_stride + head]);
#else
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                b[i] = load4(all + HEADS * P + group * N, i * 128 + lane * 4);
                c[i] = load4(all + HEADS * P + (GROUPS + group) * N, i * 128 + lane * 4);
            }
#endif
#pragma unroll
            for (int r = 0; r < AHEAD; r++) {
                float in = p + r < P ? x[p + r] : 0.f, out;
#ifdef DELTA
                float d = strength * (in - keep * warp_sum(dots(s[r], b)));
                out = fma_(kq, d, keep * warp_sum(dots(s[r], c)));
                float gain = d;
#else
                float gain = step * in, sum = 0.f;
#endif
#pragma unroll
                for (int i = 0; i < CHUNKS; i++) {
                    float4 v = s[r][i];
                    v.x = fma_(gain, b[i].x, keep * v.x); v.y = fma_(gain, b[i].y, keep * v.y);
                    v.z = fma_(gain, b[i].z, keep * v.z); v.w = fma_(gain, b[i].w, keep * v.w);
#ifndef DELTA
                    sum = dot4(v, c[i], sum);
#endif
#ifdef STATE_BF16
                    u32 lo = pack_bf16(v.x, v.y), hi = pack_bf16(v.z, v.w);
                    v = make_float4(low(lo), high(lo), low(hi), high(hi));
#endif
                    s[r][i] = v;
                }
#ifndef DELTA
                out = fma_(rates.d[head], in, warp_sum(sum));
#endif
                if (lane == 0 && p + r < P) y[(u64)row * (HEADS * P) + head * P + p + r] = out;
            }
        }
#pragma unroll
        for (int r = 0; r < AHEAD; r++)
#pragma unroll
            for (int i = 0; i < CHUNKS; i++)
                if (p + r < P && i * 128 + lane * 4 < N) store_state(h + (u64)(p + r) * NP + i * 128 + lane * 4, s[r][i]);
    }
}
#endif
