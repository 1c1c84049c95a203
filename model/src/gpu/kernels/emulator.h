// Runs kernels on the CPU with CUDA's semantics: every thread of a block is a fiber, barriers and warp exchanges switch fibers.
// It looks for what a GPU hides: threads that end while others wait at a barrier, reads of shared memory nobody wrote (it starts as NaN),
// and missing barriers (the order of the fibers can be reversed or shuffled between runs: results must not change).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>
#include <sys/mman.h>

typedef uint32_t u32;
typedef uint16_t u16;
typedef uint64_t u64;
typedef uint8_t u8;

struct uint3_ { unsigned x, y, z; };
struct uint4 { u32 x, y, z, w; };
struct uint2 { u32 x, y; };
struct float4 { float x, y, z, w; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

namespace emu {
extern "C" void emu_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.hidden emu_switch
.weak emu_switch
emu_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
#elif defined(__aarch64__)
asm(R"(
.text
.hidden emu_switch
.weak emu_switch
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]; stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]; ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#endif
enum State { READY, AT_BLOCK, AT_WARP, ENDED };
struct Fiber { void* sp; State state; unsigned index; };
struct Slot { u32 word[10]; };
struct Machine {
    std::vector<Fiber> fibers;
    std::vector<Slot> slots;       // two per fiber, used in turn
    std::vector<unsigned char> turn;
    char* stacks = nullptr;
    size_t stack_size = 64 << 10, stack_count = 0;
    void* home = nullptr;
    Fiber* now = nullptr;
    uint3_ block_dim, grid_dim, block, thread;
    std::function<void()> body;
    int order = 0;                 // 0 ascending, 1 descending, 2 shuffled
    u32 rng = 1;
    u64 switches = 0;
    bool fresh = true;             // shared memory is poisoned when a block begins
    std::vector<std::pair<char*, size_t>> shared;
    char error[160] = {};          // what went wrong, once something did
};
inline Machine& machine() { static thread_local Machine m; return m; }
inline void place(unsigned i) {
    Machine& m = machine();
    m.thread = {i % m.block_dim.x, i / m.block_dim.x % m.block_dim.y, i / m.block_dim.x / m.block_dim.y};
}
inline void go(Fiber& f) {
    Machine& m = machine();
    m.now = &f; place(f.index); m.switches++;
    emu_switch(&m.home, f.sp);
}
inline void wait(State s) {
    Machine& m = machine();
    Fiber* f = m.now; f->state = s;
    emu_switch(&f->sp, m.home);
}
inline void entry() {
    Machine& m = machine();
    m.body();
    m.now->state = ENDED;
    emu_switch(&m.now->sp, m.home);
    abort();
}
inline void fail(const char* what) {
    Machine& m = machine();
    snprintf(m.error, sizeof m.error, "%s in block (%u,%u,%u)", what, m.block.x, m.block.y, m.block.z);
}
inline void run_block() {
    Machine& m = machine();
    unsigned n = m.block_dim.x * m.block_dim.y * m.block_dim.z;
    if (m.stack_count < n) {
        if (m.stacks) munmap(m.stacks, m.stack_size * m.stack_count);
        m.stack_count = n;
        m.stacks = (char*)mmap(nullptr, m.stack_size * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    m.fibers.assign(n, {}); m.slots.resize(2 * n); m.turn.assign(n, 0);
    for (auto& s : m.shared) memset(s.first, 0xff, s.second);   // NaN
    for (unsigned i = 0; i < n; i++) {
        char* top = m.stacks + (i + 1) * m.stack_size;
#if defined(__x86_64__)
        void** sp = (void**)(top - 64);
        for (int k = 0; k < 6; k++) sp[k] = nullptr;
        sp[6] = (void*)entry; sp[7] = nullptr;
#else
        char* sp = top - 160; memset(sp, 0, 160); ((void**)sp)[11] = (void*)entry;
#endif
        m.fibers[i] = {(void*)sp, READY, i};
    }
    std::vector<unsigned> order(n);
    for (;;) {
        for (unsigned i = 0; i < n; i++) order[i] = m.order == 1 ? n - 1 - i : i;
        if (m.order == 2) for (unsigned i = n; i > 1; i--) { m.rng = m.rng * 1664525u + 1013904223u; std::swap(order[i - 1], order[(m.rng >> 8) % i]); }
        bool ran = false;
        for (unsigned i : order) if (m.fibers[i].state == READY) { go(m.fibers[i]); ran = true; }
        unsigned ended = 0, at_block = 0;
        for (auto& f : m.fibers) { ended += f.state == ENDED; at_block += f.state == AT_BLOCK; }
        if (ended == n) return;
        bool released = false;
        for (unsigned w = 0; w < n; w += 32) {
            unsigned size = n - w < 32 ? n - w : 32, here = 0;
            for (unsigned i = w; i < w + size; i++) here += m.fibers[i].state == AT_WARP;
            if (here == size) { for (unsigned i = w; i < w + size; i++) m.fibers[i].state = READY; released = true; }
        }
        if (at_block == n) { for (auto& f : m.fibers) f.state = READY; released = true; }
        if (!released && !ran) { fail("threads wait for others that have ended or wait elsewhere"); return; }
    }
}
template <class F> void launch(uint3_ grid, uint3_ block, F body) {
    Machine& m = machine();
    m.grid_dim = grid; m.block_dim = block; m.body = body;
    for (m.block.z = 0; m.block.z < grid.z; m.block.z++)
        for (m.block.y = 0; m.block.y < grid.y; m.block.y++)
            for (m.block.x = 0; m.block.x < grid.x && !m.error[0]; m.block.x++) run_block();
}
// words that lanes of a warp show each other
inline Slot* show(const u32* words, int n) {
    Machine& m = machine();
    unsigned i = m.now->index, t = m.turn[i] ^= 1;
    memcpy(m.slots[2 * i + t].word, words, 4 * n);
    wait(AT_WARP);
    return &m.slots[2 * (i / 32 * 32) + t];   // lane l's is [2 * l]
}
inline bool note_shared(void* p, size_t bytes) { machine().shared.push_back({(char*)p, bytes}); memset(p, 0xff, bytes); return true; }
template <class... A, size_t... I> void apply(void (*f)(A...), void** args, std::index_sequence<I...>) { f(*(std::remove_cv_t<A>*)args[I]...); }
template <class... A> void apply(void (*f)(A...), void** args) { apply(f, args, std::index_sequence_for<A...>{}); }
}  // namespace emu
#define EMULATE(kernel) if (!strcmp(name, #kernel)) { \
        emu::launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, [&] { emu::apply(kernel, args); }); return emu::machine().error[0] ? 2 : 0; }

#define threadIdx (emu::machine().thread)
#define blockIdx (emu::machine().block)
#define blockDim (emu::machine().block_dim)
#define gridDim (emu::machine().grid_dim)
#define KERNEL static
#define DEVICE static inline
#define __launch_bounds__(...)
#define __restrict__
#define SHARED(type, name, n) static thread_local type name[n]; static thread_local bool name##_noted = emu::note_shared(name, sizeof(name)); (void)name##_noted
#define BARRIER() emu::wait(emu::AT_BLOCK)
#define WARP_SYNC() emu::wait(emu::AT_WARP)

DEVICE u32 f2u(float x) { u32 u; memcpy(&u, &x, 4); return u; }
DEVICE float u2f(u32 x) { float f; memcpy(&f, &x, 4); return f; }
DEVICE float exp_(float x) { return expf(x); }
DEVICE float log1p_(float x) { return log1pf(x); }
DEVICE float sqrt_(float x) { return sqrtf(x); }
DEVICE double log_(double x) { return log(x); }
DEVICE void sincos_(float x, float* s, float* c) { *s = sinf(x); *c = cosf(x); }
DEVICE u64 to_u64(double x) { return (u64)x; }
DEVICE float fma_(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE u32 atomic_add(u32* p, u32 v) { u32 old = *p; *p += v; return old; }
DEVICE u64 atomic_add(u64* p, u64 v) { u64 old = *p; *p += v; return old; }
DEVICE float half_to_float(u16 h) {
    u32 sign = (u32)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 31) return u2f(sign | 0x7f800000u | m << 13);
    if (e == 0) { float f = (float)m * 5.9604644775390625e-8f; return sign ? -f : f; }
    return u2f(sign | (e + 112) << 23 | m << 13);
}
DEVICE u32 lane_of() { return emu::machine().now->index % 32; }
DEVICE u32 lane_xor(u32 v, int mask) { u32 l = lane_of(); return emu::show(&v, 1)[2 * (l ^ mask)].word[0]; }
DEVICE float lane_xor(float v, int mask) { return u2f(lane_xor(f2u(v), mask)); }
DEVICE float lane_get(float v, int from) { u32 w = f2u(v); return u2f(emu::show(&w, 1)[2 * from].word[0]); }
DEVICE u16 bf16_bits(float x) { u32 u = f2u(x); if ((u & 0x7fffffff) > 0x7f800000) return (u >> 16) | 64; return (u + 0x7fff + ((u >> 16) & 1)) >> 16; }
DEVICE u32 pack_bf16(float lo, float hi) { return bf16_bits(lo) | (u32)bf16_bits(hi) << 16; }
DEVICE uint4 stream16(const void* p) { uint4 v; memcpy(&v, p, 16); return v; }
DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    u32 words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    u32 l = lane_of(), g = l / 4, t = l % 4;
    emu::Slot* s = emu::show(words, 6);
    for (int i = 0; i < 4; i++) {
        u32 row = g + (i / 2) * 8, col = 2 * t + i % 2;
        float sum = 0;
        for (u32 k = 0; k < 16; k++) {
            // A: lane (row % 8) * 4 + (k % 8) / 2, register (row / 8) + 2 * (k / 8), half k % 2; B: lane col * 4 + (k % 8) / 2, register k / 8
            u32 aw = s[2 * (row % 8 * 4 + k % 8 / 2)].word[row / 8 + 2 * (k / 8)];
            u32 bw = s[2 * (col * 4 + k % 8 / 2)].word[4 + k / 8];
            float av = u2f(k % 2 ? aw & 0xffff0000u : aw << 16), bv = u2f(k % 2 ? bw & 0xffff0000u : bw << 16);
            sum += av * bv;
        }
        d[i] += sum;
    }
}
