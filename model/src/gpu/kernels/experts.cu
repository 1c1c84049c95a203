// Mixtures of experts: which experts a row has, the rows of each expert one after the other in tiles of 16, and the sum of what they give.
// A row's experts follow from its own scores, and it is summed over them in the order of their indices.
#pragma once
#include "device.h"
#include "rows.cu"

#define ROUTE_SOFTMAX 0           // over all experts
#define ROUTE_OF_CHOSEN 1         // over the chosen ones alone
#define ROUTE_SIGMOID 2
#define NONE 0xffffffffu
// `least` is added to the sum that the weights are divided by, where they are (`renormalise`); `correction` decides who is chosen
struct Routing { u32 kind, experts, active, renormalise; float least, scale; const float* correction; };
// whether a is chosen before b: a number that is none comes first, and of equals the lower index
DEVICE bool before(float a, u32 ia, float b, u32 ib) {
    bool na = a != a, nb = b != b;
    if (na || nb) return na && (!nb || ia < ib);
    return a > b || (a == b && ia < ib);
}
// ---------------------------------------------------------------- a warp a row: its experts by ascending index, and their weights
KERNEL void __launch_bounds__(32) route(const u64* __restrict__ slot, float* __restrict__ scores, Routing r, u32* __restrict__ picks, float* __restrict__ weights) {
    SHARED(u32, chosen, 64);
    SHARED(float, value, 64);
    u32 row = blockIdx.x, lane = threadIdx.x;
    if (!slot[row]) {
        for (u32 i = lane; i < r.active; i += 32) picks[row * r.active + i] = NONE;
        return;
    }
    float* s = scores + (u64)row * r.experts;
    float largest = -INFINITY, sum = 0.f;
    for (u32 e = lane; e < r.experts; e += 32) largest = s[e] > largest ? s[e] : largest;
    largest = warp_max(largest);
    for (u32 e = lane; e < r.experts; e += 32) {
        if (r.kind == ROUTE_SOFTMAX) { s[e] = exp_(s[e] - largest); sum += s[e]; }
        if (r.kind == ROUTE_SIGMOID) s[e] = sigmoid_(s[e]);
    }
    sum = warp_sum(sum);
    WARP_SYNC();
    for (u32 i = 0; i < r.active; i++) {
        float best = 0.f;
        u32 index = NONE;
        for (u32 e = lane; e < r.experts; e += 32) {
            bool done = false;
            for (u32 c = 0; c < i; c++) done = done || chosen[c] == e;
            float v = r.correction ? s[e] + r.correction[e] : s[e];
            if (!done && (index == NONE || before(v, e, best, index))) { best = v; index = e; }
        }
        for (int m = 16; m > 0; m >>= 1) {
            float other = lane_xor(best, m);
            u32 at = lane_xor(index, m);
            if (at != NONE && (index == NONE || before(other, at, best, index))) { best = other; index = at; }
        }
        if (lane == 0) { chosen[i] = index; value[i] = r.kind == ROUTE_SOFTMAX ? s[index] / sum : r.kind == ROUTE_OF_CHOSEN ? exp_(s[index] - largest) : s[index]; }
        WARP_SYNC();
    }
    if (lane == 0) {
        float total = 0.f;
        // the sum too goes by ascending index
        for (u32 i = 1; i < r.active; i++)
            for (u32 j = i; j > 0 && chosen[j] < chosen[j - 1]; j--) {
                u32 c = chosen[j]; chosen[j] = chosen[j - 1]; chosen[j - 1] = c;
                float v = value[j]; value[j] = value[j - 1]; value[j - 1] = v;
            }
        for (u32 i = 0; i < r.active; i++) total += value[i];
        float factor = r.renormalise ? r.scale / (total + r.least) : r.scale;
        for (u32 i = 0; i < r.active; i++) { picks[row * r.active + i] = chosen[i]; weights[row * r.active + i] = value[i] * factor; }
    }
}
// ---------------------------------------------------------------- one block: the tiles of every expert, the row that each place of a tile has, the place of each pick
KERNEL void __launch_bounds__(512) group_rows(const u32* __restrict__ picks, u32 count, u32 active, u32 experts, u32 tiles, u32* __restrict__ expert,
        u32* __restrict__ source, u32* __restrict__ place) {
    SHARED(u32, first, 1024);
    for (u32 e = threadIdx.x; e < experts; e += blockDim.x) {
        u32 n = 0;
        for (u32 i = 0; i < count; i++) n += picks[i] == e;
        first[e] = (n + 15) / 16;
    }
    for (u32 i = threadIdx.x; i < tiles * 16; i += blockDim.x) source[i] = NONE;
    for (u32 i = threadIdx.x; i < tiles; i += blockDim.x) expert[i] = NONE;
    BARRIER();
    if (threadIdx.x == 0) {
        u32 at = 0;
        for (u32 e = 0; e < experts; e++) { u32 n = first[e]; first[e] = at; at += n; }
    }
    BARRIER();
    for (u32 e = threadIdx.x; e < experts; e += blockDim.x) {
        u32 at = first[e] * 16;
        for (u32 i = 0; i < count; i++)
            if (picks[i] == e) { source[at] = i / active; place[i] = at; expert[at / 16] = e; at++; }
    }
}
// ---------------------------------------------------------------- the rows of the experts' tiles
KERNEL void __launch_bounds__(256) gather_rows(const float* __restrict__ x, u32 stride, u32 width, const u32* __restrict__ source, Out out) {
    u32 at = blockIdx.x, row = source[at];
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) put(out, at, k, row == NONE ? 0.f : x[(u64)row * stride + k]);
    put_padding(out, at, width);
}
// ---------------------------------------------------------------- adds what each row's experts gave
KERNEL void __launch_bounds__(256) combine(const u32* __restrict__ picks, const u32* __restrict__ place, const float* __restrict__ weights, u32 active,
        const float* __restrict__ y, u32 width, float scale, float* __restrict__ h) {
    u32 row = blockIdx.x;
    if (picks[row * active] == NONE) return;
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) {
        float sum = h[(u64)row * width + k];
        for (u32 i = 0; i < active; i++) sum = fma_(weights[row * active + i] * scale, y[(u64)place[row * active + i] * width + k], sum);
        h[(u64)row * width + k] = sum;
    }
}
