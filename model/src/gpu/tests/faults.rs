//! Faults that are planted in the kernels: the tests must notice every one. It takes a compilation of the kernels a fault, so it is run by
//! hand: `just faults`.

#![allow(clippy::print_stderr, reason = "it is run by hand, for what it prints")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::device::SOURCES;
use super::super::emulated::PLANTED;
use super::draws::draws_are_equal;
use super::goldens::{is_golden, is_near};
use super::traces::rows_are_alone;
use super::{F32, Order};
use crate::{Formats, KvFormat, StateFormat, WeightFormat};

/// What is wrong, in which file, what stands there, what is put in its place, and the test that is to notice.
struct Fault(&'static str, &'static str, &'static str, &'static str, fn(Order));

const HELD: Formats = Formats {
    weights: WeightFormat::Auto,
    kv: Some(KvFormat::Bf16),
    state: StateFormat::Bf16,
};
const Q4K: &str = "golden/gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf";

fn of_bf16(order: Order) {
    is_near("gguf/bf16.gguf", KvFormat::Bf16, order);
    rows_in(order, "gguf/bf16.gguf");
}
/// Wide enough for several slices of a sum.
fn of_slices(order: Order) {
    is_near("golden/case-tiny-like-bf16", KvFormat::Bf16, order);
}
fn of_f16(order: Order) {
    is_near("gguf/f16.gguf", KvFormat::Bf16, order);
}
fn of_codes(order: Order) {
    is_near(Q4K, KvFormat::Bf16, order);
    is_near("gguf/q8_0.gguf", KvFormat::Bf16, order);
}
fn of_states(order: Order) {
    is_golden("golden/case-gqa", order);
}
fn of_groups(order: Order) {
    is_golden("golden/case-mha-groups-sharded", order);
    is_golden("variants/odd-sizes", order);
}
fn of_delta(order: Order) {
    is_golden("golden/family-qwen3_next", order);
}
fn of_experts(order: Order) {
    is_golden("golden/family-qwen3_moe", order);
    is_golden("golden/family-lfm2_moe", order);
}
fn of_windows(order: Order) {
    is_golden("golden/family-gpt_oss", order);
    is_near("golden/family-gpt_oss.gguf", KvFormat::Bf16, order);
}
fn of_draws(order: Order) {
    draws_are_equal(order, &[37, 513, 3001]);
}
fn of_rows(order: Order) {
    rows_in(order, Q4K);
}
fn rows_in(order: Order, name: &str) {
    if order == Order::Ascending {
        rows_are_alone(name, HELD, &[7]);
        rows_are_alone("golden/case-gqa", F32, &[33]);
    }
}

const FAULTS: [Fault; 26] = [
    Fault(
        "no barrier before slices are added",
        "product.cu",
        "        BARRIER();\n        for (u32 e = threadIdx.x; e < 16 * here",
        "        for (u32 e = threadIdx.x; e < 16 * here",
        of_bf16,
    ),
    Fault(
        "no barrier before partial sums are overwritten",
        "product.cu",
        "        }\n        BARRIER();\n    }\n}\n#define PRODUCT",
        "        }\n    }\n}\n#define PRODUCT",
        of_bf16,
    ),
    Fault(
        "a slice reads a step too many",
        "product.cu",
        "to = from + per < steps ? from + per : steps;",
        "to = from + per + wide < steps ? from + per + wide : steps;",
        of_slices,
    ),
    Fault(
        "the low halves of f16 are left out",
        "product.cu",
        "lo[i][j] = pack_bf16(u - low(hi[i][j]), v - high(hi[i][j]));",
        "lo[i][j] = pack_bf16(u - low(hi[i][j]), v - low(hi[i][j]));",
        of_f16,
    ),
    Fault(
        "minima of groups are added",
        "product.cu",
        "fma_(-least[i][q / 2], whole[q]",
        "fma_(least[i][q / 2], whole[q]",
        of_codes,
    ),
    Fault(
        "scales of the wrong half of a tile",
        "product.cu",
        "c / per) * 16 + g + 8 * h;",
        "c / per) * 16 + g;",
        of_codes,
    ),
    Fault(
        "slices follow from the rows",
        "product.cu",
        "slices = blockDim.x / 32, first = blockIdx.x",
        "slices = rows > 4 ? blockDim.x / 32 : 1, first = blockIdx.x",
        of_rows,
    ),
    Fault(
        "no barrier in a block's sum",
        "rows.cu",
        "room[threadIdx.x / 32] = v;\n    BARRIER();",
        "room[threadIdx.x / 32] = v;",
        of_states,
    ),
    Fault(
        "padding is not cleared",
        "rows.cu",
        "for (u32 k = width + threadIdx.x; k < (width + 63) / 64 * 64;",
        "for (u32 k = width + threadIdx.x; k < width;",
        of_codes,
    ),
    Fault(
        "a state has a channel too many",
        "mixer.cu",
        "                if (p + r < P && i * 128 + lane * 4 < N) store_state",
        "                if (i * 128 + lane * 4 < N) store_state",
        of_groups,
    ),
    Fault(
        "an exchange within a branch",
        "mixer.cu",
        "out = fma_(rates.d[head], in, warp_sum(sum));",
        "out = 0.f; if (lane < 16) out = fma_(rates.d[head], in, warp_sum(sum));",
        of_states,
    ),
    Fault(
        "what is written comes before the state's update",
        "mixer.cu",
        "sum = dot4(v, c[i], sum);",
        "sum = dot4(s[r][i], c[i], sum);",
        of_states,
    ),
    Fault(
        "heads take another group",
        "mixer.cu",
        "const u32 channels = HEADS * P + 2 * GROUPS * N, values = 0;\n    u32 group = head / (HEADS / GROUPS);",
        "const u32 channels = HEADS * P + 2 * GROUPS * N, values = 0;\n    u32 group = head % GROUPS;",
        of_groups,
    ),
    Fault(
        "the window of a convolution is not moved",
        "mixer.cu",
        "for (int t = 0; t + 1 < TAPS; t++) window[t * channels + c] = past[t];",
        "for (int t = 0; t + 2 < TAPS; t++) window[t * channels + c] = past[t];",
        of_states,
    ),
    Fault(
        "the delta rule forgets after it reads",
        "mixer.cu",
        "strength * (in - keep * warp_sum(dots(s[r], b)))",
        "strength * (in - warp_sum(dots(s[r], b)))",
        of_delta,
    ),
    Fault(
        "no barrier before pages are merged",
        "attention.cu",
        "    BARRIER();\n    merge_pages",
        "    merge_pages",
        of_states,
    ),
    Fault(
        "positions behind the end are read",
        "attention.cu",
        "w[jj] &= 0xffffu;",
        "w[jj] &= 0xffffffffu;",
        of_bf16,
    ),
    Fault(
        "an exchange of too few lanes",
        "attention.cu",
        "l += lane_xor(l, 1); l += lane_xor(l, 2);",
        "l += lane_xor(l, 1);",
        of_bf16,
    ),
    Fault(
        "a barrier that a warp leaves out",
        "attention.cu",
        "    bool any = count > 0 && least < count;",
        "    bool any = count > 0 && least < count; if (!any) return;",
        of_states,
    ),
    Fault(
        "a window that is one too wide",
        "attention.cu",
        "page = split * SPLIT + warp, from = window && len > window ? len - window : 0;",
        "page = split * SPLIT + warp, from = window && len > window ? len - window - 1 : 0;",
        of_windows,
    ),
    Fault(
        "a sink that counts twice",
        "attention.cu",
        "l = sinks ? 1.f : 0.f",
        "l = sinks ? 2.f : 0.f",
        of_windows,
    ),
    Fault(
        "equal experts are taken from the end",
        "experts.cu",
        "return a > b || (a == b && ia < ib);",
        "return a > b || (a == b && ia > ib);",
        of_experts,
    ),
    Fault(
        "no barrier before places are given",
        "experts.cu",
        "    BARRIER();\n    if (threadIdx.x == 0) {\n        u32 at = 0;",
        "    if (threadIdx.x == 0) {\n        u32 at = 0;",
        of_experts,
    ),
    Fault(
        "no barrier after the largest",
        "sample.cu",
        "    BARRIER();\n    if (broken) atomic_add",
        "    if (broken) atomic_add",
        of_draws,
    ),
    Fault(
        "no barrier in a tree of sums",
        "sample.cu",
        "r.c[t] += r.c[t + half]; r.n[t] += r.n[t + half]; }\n        BARRIER();",
        "r.c[t] += r.c[t + half]; r.n[t] += r.n[t + half]; }",
        of_draws,
    ),
    Fault(
        "of equal logits the last id",
        "sample.cu",
        "r.best[t + half] == r.best[t] && r.at[t + half] < r.at[t]",
        "r.best[t + half] == r.best[t] && r.at[t + half] > r.at[t]",
        of_draws,
    ),
];

#[test]
#[ignore = "compiles the kernels for every fault, some minutes; `just faults`"]
fn every_planted_fault_is_noticed() {
    let mut missed = Vec::new();
    for Fault(what, file, from, to, check) in FAULTS {
        let source = SOURCES.iter().find(|(name, _)| *name == file).unwrap().1;
        assert_eq!(source.matches(from).count(), 1, "{file}: {what}");
        PLANTED.set(Some((file, source.replace(from, to))));
        let noticed = [Order::Ascending, Order::Descending, Order::Shuffled]
            .into_iter()
            .find(|order| catch_unwind(AssertUnwindSafe(|| check(*order))).is_err());
        PLANTED.set(None);
        match noticed {
            Some(order) => eprintln!("noticed ({order:?}): {what}"),
            None => missed.push(what),
        }
    }
    // without a fault the same tests pass
    for order in [Order::Ascending, Order::Descending, Order::Shuffled] {
        for Fault(.., check) in &FAULTS {
            check(order);
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
