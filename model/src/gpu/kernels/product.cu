// Products: out[row][n] from scale[n] * sum_k x[row][k] w[n][k] + bias[n].
//
// A row's sum is one chain over ascending k in each of the slices of K, and the slices are added in ascending order; how many slices
// there are follows from the matrix alone. So a row never sees the others: not how many there are, nor where it stands.
#pragma once
#include "device.h"
#include "rows.cu"

#define SLICES 8      // most warps of a block: each has a slice of K
#define TILES 2       // tiles of 16 outputs of a warp
#define ROWTILES 8    // tiles of 8 rows: 64 rows of a block

// What a product does with a number.
#define SINK_STORE 0     // out = v
#define SINK_ADD 1       // out += v
#define SINK_SQUARED 2   // out = relu(v)^2
#define SINK_SILU 3      // out = silu(gate) * up; tile 2j holds outputs of the gate, tile 2j + 1 of `up`
#define SINK_SIGMOID 5   // out = sigmoid(v)
#define SINK_CLAMPED 4   // out = gate * sigmoid(alpha * gate) * (up + 1), the gate at most `limit`, the other within it

// A matrix, or a stack of them with as many outputs each. `words` is in fragments: bf16 and f16 [n / 16][k / 16][lane] of 16 bytes,
// 8-bit codes [n / 16][k / 32][lane] of 16 bytes, 4-bit ones [n / 16][k / 64][lane] of 16 bytes; f32 as [k][n].
// `group_scale` and `group_min` are [n / 16][group][16].
struct Matrix {
    const void* words;
    const float* scale;        // [n]
    const float* bias;         // [n], or null
    const float* group_scale;
    const float* group_min;
    u64 stride, group_stride;  // bytes of words, numbers of group_scale from one matrix of a stack to the next
    u32 n, k, group, zero;     // outputs (both halves of a gate), inputs as multiplied, codes of a group, the code of 0
};
struct Sink { Out out; u32 kind, first; float alpha, limit; const float* factor; };   // `first`: column of the first output; `factor` [rows]
// Rows of a stack's matrices: those of matrix `expert[i]` fill tile i of 16 rows; null: one matrix.
struct Experts { const u32* expert; };

DEVICE float gated(const Sink& s, float g, float u) {
    if (s.kind == SINK_SILU) return silu_(g) * u;
    g = g > s.limit ? s.limit : g;
    u = u > s.limit ? s.limit : u < -s.limit ? -s.limit : u;
    return g * sigmoid_(s.alpha * g) * (u + 1.f);
}
DEVICE void sink(const Sink& s, u32 row, u32 column, float v) {
    if (s.kind == SINK_SQUARED) v = v > 0.f ? v * v : v != v ? v : 0.f;
    if (s.kind == SINK_SIGMOID) v = sigmoid_(v);
    if (s.factor) v *= s.factor[row];
    if (s.kind == SINK_ADD) s.out.plain[(u64)row * s.out.stride + s.first + column] += v;
    else put(s.out, row, s.first + column, v);
}
DEVICE float output(const Matrix& m, u32 expert, u32 n, float sum) {
    u64 at = (u64)expert * m.n + n;
    return m.bias ? fma_(m.scale[at], sum, m.bias[at]) : m.scale[at] * sum;
}

// ---------------------------------------------------------------- fragments of weights: of `tile` 16 outputs and step s of 16 inputs
#define BF16 0
#define F16 1
#define CODES8 2
#define CODES4 3
#define FP4 4
// a pair of small integers as bf16
DEVICE u32 integers(float lo, float hi) { return pack_bf16(lo, hi); }
DEVICE float byte_less(u32 word, u32 at, float zero) { return (float)(word >> (8 * at) & 255u) - zero; }
DEVICE float nibble_less(u32 word, u32 at, float zero) { return (float)(word >> at & 15u) - zero; }
// the numbers of FP4 (E2M1), doubled: they are integers
DEVICE float fp4(u32 word, u32 at) {
    u32 c = word >> at & 15u, e = c & 7u;
    float v = e < 4u ? (float)e : e == 4u ? 4.f : e == 5u ? 6.f : e == 6u ? 8.f : 12.f;
    return c & 8u ? -v : v;
}
template <int F> DEVICE void codes(u32 (&a)[4], const uint4& w, u32 step, float zero) {
    if (F == CODES8) {
        u32 x = step % 2 ? w.z : w.x, y = step % 2 ? w.w : w.y;
        a[0] = integers(byte_less(x, 0, zero), byte_less(x, 1, zero)); a[1] = integers(byte_less(x, 2, zero), byte_less(x, 3, zero));
        a[2] = integers(byte_less(y, 0, zero), byte_less(y, 1, zero)); a[3] = integers(byte_less(y, 2, zero), byte_less(y, 3, zero));
    } else {
        u32 x = step % 4 == 0 ? w.x : step % 4 == 1 ? w.y : step % 4 == 2 ? w.z : w.w;
#pragma unroll
        for (int j = 0; j < 4; j++)
            a[j] = F == FP4 ? integers(fp4(x, 4 * j), fp4(x, 16 + 4 * j)) : integers(nibble_less(x, 4 * j, zero), nibble_less(x, 16 + 4 * j, zero));
    }
}

// the sums of a warp: outputs first.. of TILES tiles, all rows, steps from..to
template <int F> DEVICE void sums(const Matrix& m, u32 expert, u32 first, const uint4* __restrict__ x, u32 row_tiles, u32 row_tile, u32 pairs, u32 from,
        u32 to, float (&acc)[TILES][ROWTILES][4]) {
    u32 lane = threadIdx.x % 32, steps = m.k / 16, tiles = (m.n + 15) / 16;
    const char* words = (const char*)m.words + expert * m.stride;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int j = 0; j < ROWTILES; j++)
#pragma unroll
            for (int q = 0; q < 4; q++) acc[i][j][q] = 0.f;
    if (F == BF16 || F == F16) {
#pragma unroll 4
        for (u32 s = from; s < to; s++) {
            uint4 a[TILES];
#pragma unroll
            for (int i = 0; i < TILES; i++)
                a[i] = first + i < tiles ? stream16(words + (((u64)(first + i) * steps + s) * 32 + lane) * 16) : make_uint4(0, 0, 0, 0);
            u32 hi[TILES][4], lo[TILES][4];
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                u32 f[4] = {a[i].x, a[i].y, a[i].z, a[i].w};
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (F == BF16) { hi[i][j] = f[j]; continue; }
                    // 11 bits of a number are 8 of one bf16 and the rest of another
                    float u = half_to_float((u16)(f[j] & 0xffffu)), v = half_to_float((u16)(f[j] >> 16));
                    hi[i][j] = pack_bf16(u, v);
                    lo[i][j] = pack_bf16(u - low(hi[i][j]), v - high(hi[i][j]));
                }
            }
#pragma unroll
            for (int j = 0; j < ROWTILES / 2; j++) {
                if (j >= pairs) continue;
                uint4 b = x[((u64)s * row_tiles + row_tile + j) * 32 + lane];
#pragma unroll
                for (int i = 0; i < TILES; i++) {
                    mma(acc[i][2 * j], hi[i], b.x, b.y);
                    mma(acc[i][2 * j + 1], hi[i], b.z, b.w);
                    if (F == F16) { mma(acc[i][2 * j], lo[i], b.x, b.y); mma(acc[i][2 * j + 1], lo[i], b.z, b.w); }
                }
            }
        }
        return;
    }
    // codes: the sum of a group in integers as bf16, which are exact, then the group's scale
    const u32 wide = F == CODES8 ? 2 : 4, per = m.group / 16, g = lane / 4;      // steps of a load, of a group
    const float zero = (float)m.zero;
    for (u32 s = from; s < to; s += wide) {
        uint4 w[TILES];
#pragma unroll
        for (int i = 0; i < TILES; i++)
            w[i] = first + i < tiles ? stream16(words + (((u64)(first + i) * (steps / wide) + s / wide) * 32 + lane) * 16) : make_uint4(0, 0, 0, 0);
        for (u32 c = s; c < s + wide; c += per) {
            float scale[TILES][2], least[TILES][2];
#pragma unroll
            for (int i = 0; i < TILES; i++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    u64 at = expert * m.group_stride + ((u64)(first + i) * (steps / per) + c / per) * 16 + g + 8 * h;
                    scale[i][h] = first + i < tiles ? m.group_scale[at] : 0.f;
                    least[i][h] = m.group_min && first + i < tiles ? m.group_min[at] : 0.f;
                }
#pragma unroll
            for (int j = 0; j < ROWTILES; j++) {
                if (j / 2 >= pairs) continue;
                float part[TILES][4], whole[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
                for (int i = 0; i < TILES; i++) part[i][0] = part[i][1] = part[i][2] = part[i][3] = 0.f;
                for (u32 t = c; t < c + per; t++) {
                    uint4 b = x[((u64)t * row_tiles + row_tile + j / 2) * 32 + lane];
                    u32 b0 = j % 2 ? b.z : b.x, b1 = j % 2 ? b.w : b.y;
#pragma unroll
                    for (int i = 0; i < TILES; i++) {
                        u32 a[4];
                        codes<F>(a, w[i], t, zero);
                        mma(part[i], a, b0, b1);
                    }
                    if (m.group_min) {
                        u32 ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
                        mma(whole, ones, b0, b1);
                    }
                }
#pragma unroll
                for (int i = 0; i < TILES; i++)
#pragma unroll
                    for (int q = 0; q < 4; q++) {
                        acc[i][j][q] = fma_(scale[i][q / 2], part[i][q], acc[i][j][q]);
                        if (m.group_min) acc[i][j][q] = fma_(-least[i][q / 2], whole[q], acc[i][j][q]);
                    }
            }
        }
    }
}

template <int F> DEVICE void multiply(const Matrix& m, const uint4* __restrict__ x, u32 rows, u32 row_tiles, const Experts& experts, const Sink& s,
        float* part, float* held) {
    u32 lane = threadIdx.x % 32, slice = threadIdx.x / 32, slices = blockDim.x / 32, first = blockIdx.x * TILES;
    u32 expert = 0, row0 = blockIdx.y * ROWTILES * 8, here;
    if (experts.expert) {
        expert = experts.expert[blockIdx.y];
        if (expert == 0xffffffffu) return;
        row0 = blockIdx.y * 16; here = 16;
    } else here = rows - row0 < ROWTILES * 8 ? rows - row0 : ROWTILES * 8;
    // a load of codes is several steps, and slices are whole loads
    const u32 wide = F == CODES8 ? 2 : F == CODES4 || F == FP4 ? 4 : 1;
    u32 loads = m.k / 16 / wide, per = (loads + slices - 1) / slices * wide, steps = m.k / 16;
    u32 from = slice * per < steps ? slice * per : steps, to = from + per < steps ? from + per : steps;
    float acc[TILES][ROWTILES][4];
    sums<F>(m, expert, first, x, row_tiles, row0 / 16, (here + 15) / 16, from, to, acc);
    u32 g = lane / 4, t = lane % 4;
    bool gates = s.kind == SINK_SILU || s.kind == SINK_CLAMPED;
#pragma unroll
    for (int i = 0; i < TILES; i++) {
#pragma unroll
        for (int j = 0; j < ROWTILES; j++)
#pragma unroll
            for (int q = 0; q < 4; q++) part[(slice * 8 * ROWTILES + j * 8 + 2 * t + q % 2) * 16 + g + q / 2 * 8] = acc[i][j][q];
        BARRIER();
        for (u32 e = threadIdx.x; e < 16 * here; e += blockDim.x) {
            float sum = part[e];
            for (u32 p = 1; p < slices; p++) sum += part[p * 16 * 8 * ROWTILES + e];
            u32 row = row0 + e / 16, n = (first + i) * 16 + e % 16;
            if (n >= m.n) continue;
            float v = output(m, expert, n, sum);
            if (!gates) sink(s, row, n, v);
            else if (i == 0) held[e] = v;
            else sink(s, row, first / 2 * 16 + e % 16, gated(s, held[e], v));
        }
        BARRIER();
    }
}
#define PRODUCT(name, format) \
    KERNEL void __launch_bounds__(32 * SLICES) name(Matrix m, const uint4* __restrict__ x, u32 rows, u32 row_tiles, Experts experts, Sink s) { \
        SHARED(float, part, SLICES * 16 * 8 * ROWTILES); \
        SHARED(float, held, 16 * 8 * ROWTILES); \
        multiply<format>(m, x, rows, row_tiles, experts, s, part, held); \
    }
PRODUCT(product_bf16, BF16)
PRODUCT(product_f16, F16)
PRODUCT(product_codes8, CODES8)
PRODUCT(product_codes4, CODES4)
PRODUCT(product_fp4, FP4)

// ---------------------------------------------------------------- f32 weights: a thread an output, 8 rows at a time, one chain over k
KERNEL void __launch_bounds__(128) product_f32(Matrix m, const float* __restrict__ x, u32 x_stride, u32 rows, Experts experts, Sink s) {
    u32 n = blockIdx.x * blockDim.x + threadIdx.x, expert = 0, row0 = blockIdx.y * 16, end = rows;
    if (experts.expert) {
        expert = experts.expert[blockIdx.y];
        if (expert == 0xffffffffu) return;
        end = row0 + 16;
    }
    bool gates = s.kind == SINK_SILU || s.kind == SINK_CLAMPED;
    u32 width = gates ? m.n / 2 : m.n;
    if (n >= width) return;
    const float* w = (const float*)((const char*)m.words + expert * m.stride);
    for (u32 r = row0; r < row0 + 16 && r < end; r += 8) {
        float sum[8], up[8];
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] = up[i] = 0.f;
        u32 count = end - r < 8 ? end - r : 8;
        for (u32 k = 0; k < m.k; k++) {
            float a = w[(u64)k * m.n + n], b = gates ? w[(u64)k * m.n + width + n] : 0.f;
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (i < count) {
                    float v = x[(u64)(r + i) * x_stride + k];
                    sum[i] = fma_(a, v, sum[i]);
                    if (gates) up[i] = fma_(b, v, up[i]);
                }
        }
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < count) {
                float v = output(m, expert, n, sum[i]);
                sink(s, r + i, n, gates ? gated(s, v, output(m, expert, width + n, up[i])) : v);
            }
    }
}

// ---------------------------------------------------------------- rows of the embedding
#define PLAIN 5
KERNEL void __launch_bounds__(256) embed(Matrix m, u32 format, u32 width, const u32* __restrict__ ids, float factor, float* __restrict__ out) {
    u32 row = blockIdx.x, n = ids[row], tile = n / 16, in = n % 16, steps = m.k / 16;
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) {
        u32 step = k / 16, lane = in % 8 * 4 + k % 8 / 2, word = in / 8 + 2 * (k % 16 / 8);
        float v;
        if (format == PLAIN) v = ((const float*)m.words)[(u64)k * m.n + n];
        else if (format == BF16 || format == F16) {
            u16 bits = ((const u16*)m.words)[((((u64)tile * steps + step) * 32 + lane) * 4 + word) * 2 + k % 2];
            v = format == BF16 ? bf16_to_float(bits) : half_to_float(bits);
        } else {
            u64 group = ((u64)tile * (m.k / m.group) + k / m.group) * 16 + in;
            if (format == CODES8) {
                u8 code = ((const u8*)m.words)[(((u64)tile * (steps / 2) + step / 2) * 32 + lane) * 16 + step % 2 * 8 + word * 2 + k % 2];
                v = (float)code - (float)m.zero;
            } else {
                u32 x = ((const u32*)m.words)[(((u64)tile * (steps / 4) + step / 4) * 32 + lane) * 4 + step % 4];
                v = format == FP4 ? fp4(x, k % 2 * 16 + 4 * word) : nibble_less(x, k % 2 * 16 + 4 * word, (float)m.zero);
            }
            v = m.group_scale[group] * v - (m.group_min ? m.group_min[group] : 0.f);
        }
        out[(u64)row * width + k] = v * factor;
    }
}
