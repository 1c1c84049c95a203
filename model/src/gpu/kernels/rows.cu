// What happens to rows between products: embedding, norms, gates, and rounding into the fragments that a product reads.
#pragma once
#include "device.h"

// A row of a product's input lies in fragments: [k / 16][row / 16][lane] of 16 bytes, two tiles of 8 rows, bf16. This is the
// 32-bit word of numbers k (even) and k + 1.
DEVICE u64 fragment_word(u32 row, u32 k, u32 row_tiles) {
    return (((u64)(k / 16) * row_tiles + row / 16) * 32 + row % 8 * 4 + k % 8 / 2) * 4 + row % 16 / 8 * 2 + k % 16 / 8;
}
// Where a row's numbers go: as they are into `plain` [rows][stride], rounded to bf16 into `packed`, or both.
struct Out { float* plain; u32* packed; u32 stride, row_tiles; };
DEVICE void put_pair(const Out& out, u32 row, u32 k, u32 width, float a, float b) {
    if (out.plain) {
        out.plain[(u64)row * out.stride + k] = a;
        if (k + 1 < width) out.plain[(u64)row * out.stride + k + 1] = b;
    }
    if (out.packed) out.packed[fragment_word(row, k, out.row_tiles)] = pack_bf16(a, k + 1 < width ? b : 0.f);
}
DEVICE void put(const Out& out, u32 row, u32 k, float a) {
    if (out.plain) out.plain[(u64)row * out.stride + k] = a;
    if (out.packed) ((u16*)out.packed)[fragment_word(row, k & ~1u, out.row_tiles) * 2 + k % 2] = float_to_bf16(a);
}
// The columns that fill the last load of a product, which is up to 64 wide, are zero.
DEVICE void put_padding(const Out& out, u32 row, u32 width) {
    if (out.packed)
        for (u32 k = width + threadIdx.x; k < (width + 63) / 64 * 64; k += blockDim.x) ((u16*)out.packed)[fragment_word(row, k & ~1u, out.row_tiles) * 2 + k % 2] = 0;
}

// Sum over a block, the same tree whatever else runs. Every thread calls it; `room` holds a number of each warp.
DEVICE float block_sum(float v, float* room) {
    v = warp_sum(v);
    u32 warps = blockDim.x / 32;
    if (warps == 1) return v;
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    BARRIER();
    float sum = room[0];
    for (u32 w = 1; w < warps; w++) sum += room[w];
    BARRIER();
    return sum;
}

// ---------------------------------------------------------------- rms norm of row `pick[i]` (or i): x / sqrt(mean(x^2) + eps) * weight
KERNEL void __launch_bounds__(256) norm_rows(const float* __restrict__ x, u32 stride, u32 width, const u32* __restrict__ pick,
        const float* __restrict__ weight, float eps, Out out) {
    SHARED(float, room, 8);
    u32 row = blockIdx.x;
    const float* from = x + (u64)(pick ? pick[row] : row) * stride;
    float sum = 0.f;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) sum = fma_(from[i], from[i], sum);
    float scale = 1.f / sqrt_(block_sum(sum, room) / (float)width + eps);
    for (u32 k = 2 * threadIdx.x; k < width; k += 2 * blockDim.x)
        put_pair(out, row, k, width, from[k] * scale * weight[k], k + 1 < width ? from[k + 1] * scale * weight[k + 1] : 0.f);
    put_padding(out, row, width);
}

// ---------------------------------------------------------------- the gate of a recurrent part: a block a (group, row)
#define GATE_NONE 0      // y * silu(z)
#define GATE_AFTER 1     // norm(y * silu(z))
#define GATE_BEFORE 2    // norm(y) * silu(z)
KERNEL void __launch_bounds__(256) gate_rows(const float* __restrict__ y, const float* __restrict__ z, u32 z_stride, u32 width, u32 groups,
        u32 kind, const float* __restrict__ weight, float eps, Out out) {
    SHARED(float, room, 8);
    u32 group = blockIdx.x, row = blockIdx.y, wide = width / groups, first = group * wide;
    const float* from = y + (u64)row * width + first;
    const float* gate = z + (u64)row * z_stride + first;
    float scale = 1.f;
    if (kind != GATE_NONE) {
        float sum = 0.f;
        for (u32 i = threadIdx.x; i < wide; i += blockDim.x) {
            float v = kind == GATE_AFTER ? from[i] * silu_(gate[i]) : from[i];
            sum = fma_(v, v, sum);
        }
        scale = 1.f / sqrt_(block_sum(sum, room) / (float)wide + eps);
    }
    for (u32 i = threadIdx.x; i < wide; i += blockDim.x) {
        float v = from[i];
        if (kind == GATE_AFTER) v = v * silu_(gate[i]) * scale * weight[first + i];
        else if (kind == GATE_BEFORE) v = v * scale * weight[first + i] * silu_(gate[i]);
        else v = v * silu_(gate[i]);
        put(out, row, first + i, v);
    }
    if (group == 0) put_padding(out, row, width);
}

// ---------------------------------------------------------------- the zeros behind rows that a product wrote
KERNEL void __launch_bounds__(64) pad_rows(u32 width, Out out) { put_padding(out, blockIdx.x, width); }
