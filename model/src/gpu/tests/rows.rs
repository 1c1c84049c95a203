//! A row's bits depend on nothing but the row.

use super::{F32, Order, bits, checkpoint, open};
use crate::{Formats, KvFormat, StateFormat, WeightFormat};

/// Weights as the file holds them, keys and values in bf16.
const AS_HELD: Formats = Formats {
    weights: WeightFormat::Auto,
    kv: Some(KvFormat::Bf16),
    state: StateFormat::F32,
};

/// A text at once, in parts of any length and token by token, which is recorded and replayed.
#[test]
fn parts_of_a_text_change_nothing() {
    for (name, formats) in [
        ("golden/case-gqa", F32),
        ("golden/gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf", AS_HELD),
        ("golden/family-gpt_oss.gguf", AS_HELD),
        ("golden/family-qwen3_next.gguf", AS_HELD),
        ("golden/family-lfm2.gguf", AS_HELD),
    ] {
        let weights = checkpoint(name);
        let mut gpu = open(&weights, formats, Order::Ascending);
        let ids: Vec<u32> = (0..71).map(|i| (5 * i + 2) % weights.spec.vocab as u32).collect();
        let mut state = gpu.test_state();
        let want = bits(&gpu.test_read(&mut [(&mut state, &ids)]));
        for parts in [vec![1; 71], vec![64, 1, 6], vec![3, 20, 48]] {
            let (mut state, mut at) = (gpu.test_state(), 0);
            for part in parts {
                let got = bits(&gpu.test_read(&mut [(&mut state, &ids[at..at + part])]));
                for (i, row) in got.iter().enumerate() {
                    assert_eq!(
                        row,
                        &want[at + i],
                        "{name}: position {} in a part of {part}",
                        at + i
                    );
                }
                at += part;
            }
        }
    }
}
