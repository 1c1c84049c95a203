// One dialect for CUDA (nvcc, NVRTC) and for the emulator (any C++17 compiler): everything that is not plain C++ goes through this file.
// No CUDA header is needed: bf16 travels as bits.
#pragma once

#ifdef EMULATED
#include "emulator.h"
#else
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef unsigned char u8;

#define KERNEL extern "C" __global__
#define DEVICE __device__ __forceinline__
#define SHARED(type, name, n) __shared__ type name[n]
#define BARRIER() __syncthreads()
#define WARP_SYNC() __syncwarp()
DEVICE float lane_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE u32 lane_xor(u32 v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE float lane_get(float v, int from) { return __shfl_sync(0xffffffffu, v, from); }
DEVICE u32 f2u(float x) { return __float_as_uint(x); }
DEVICE float u2f(u32 x) { return __uint_as_float(x); }
DEVICE float exp_(float x) { return expf(x); }        // not __expf: same on every lane and tier, 2 ulp
DEVICE float log1p_(float x) { return log1pf(x); }
DEVICE float sqrt_(float x) { return sqrtf(x); }
DEVICE double log_(double x) { return log(x); }
DEVICE void sincos_(float x, float* s, float* c) { sincosf(x, s, c); }
DEVICE u64 to_u64(double x) { return (u64)x; }
DEVICE float fma_(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE u32 atomic_add(u32* p, u32 v) { return atomicAdd(p, v); }
DEVICE u64 atomic_add(u64* p, u64 v) { return atomicAdd(p, v); }
DEVICE float half_to_float(u16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
// two floats to bf16, round to nearest even, the first in the low half
DEVICE u32 pack_bf16(float lo, float hi) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
// d += A[16x16] * B[16x8]; bf16 in, f32 sum
DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// 16 bytes that are read once: past the first-level cache
DEVICE uint4 stream16(const void* p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}
#endif

DEVICE float bf16_to_float(u16 b) { return u2f((u32)b << 16); }
DEVICE u16 float_to_bf16(float x) { return (u16)(pack_bf16(x, 0.f) & 0xffffu); }
DEVICE float sigmoid_(float x) { return 1.f / (1.f + exp_(-x)); }
DEVICE float silu_(float x) { return x / (1.f + exp_(-x)); }
// ln(1 + e^x), without overflow; NaN stays NaN
DEVICE float softplus_(float x) { return (x > 0.f ? x : 0.f) + log1p_(exp_(x > 0.f ? -x : x)); }
DEVICE float low(u32 pair) { return u2f(pair << 16); }
DEVICE float high(u32 pair) { return u2f(pair & 0xffff0000u); }
DEVICE float warp_sum(float v) {
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) v += lane_xor(v, m);
    return v;
}
DEVICE float warp_max(float v) {
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) { float o = lane_xor(v, m); v = o > v ? o : v; }
    return v;
}
