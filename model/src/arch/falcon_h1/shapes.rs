//! The shapes of the published models, for benchmarks on random weights.

use super::{Biases, Config};
use crate::spec::ModelSpec;

const NAMES: [&[&str]; 7] = [
    &["falcon-h1-0.5b"],
    &["falcon-h1-1.5b"],
    &["falcon-h1-1.5b-deep"],
    &["falcon-h1-3b"],
    &["falcon-h1-7b", "falcon-h1r-7b"],
    &["falcon-h1-34b"],
    &["tiny-90m", "falcon-h1-tiny-90m"],
];

/// Every published shape. A multiplier that is not publicly known is 1: speed does not depend on it.
pub(super) fn all() -> Vec<(&'static [&'static str], ModelSpec)> {
    let spec = |names: &'static [&str]| named(names[0]).map(|config| (names, config.spec(false)));
    NAMES.into_iter().filter_map(spec).collect()
}

/// One row of the table: hidden, layers; heads, kv heads, head width; Mamba heads and their width; state,
/// groups; feed-forward; vocabulary; positions.
struct Row {
    stream: (usize, usize),
    attention: (usize, usize, usize),
    ssm: (usize, usize),
    state: (usize, usize),
    intermediate: usize,
    vocab: usize,
    max_positions: usize,
    gated_norm: bool,
}

pub(super) fn named(name: &str) -> Option<Config> {
    const K128: usize = 131_072;
    const K256: usize = 262_144;
    let row = |stream, attention, ssm, state, intermediate, vocab, max_positions, gated_norm| Row {
        stream,
        attention,
        ssm,
        state,
        intermediate,
        vocab,
        max_positions,
        gated_norm,
    };
    let r = match name {
        "falcon-h1-0.5b" => row(
            (1024, 36),
            (8, 2, 64),
            (24, 64),
            (128, 1),
            2048,
            32_784,
            16_384,
            false,
        ),
        "falcon-h1-1.5b" => row(
            (2048, 24),
            (8, 2, 128),
            (48, 64),
            (256, 1),
            4608,
            65_537,
            K128,
            false,
        ),
        "falcon-h1-1.5b-deep" => row(
            (1280, 66),
            (6, 2, 128),
            (24, 64),
            (256, 1),
            3072,
            65_537,
            K128,
            false,
        ),
        "falcon-h1-3b" => row(
            (2560, 32),
            (10, 2, 128),
            (32, 128),
            (256, 1),
            6144,
            65_537,
            K128,
            false,
        ),
        "falcon-h1-7b" => row(
            (3072, 44),
            (12, 2, 128),
            (24, 128),
            (256, 1),
            12_288,
            130_048,
            K256,
            true,
        ),
        "falcon-h1-34b" => row(
            (5120, 72),
            (20, 4, 128),
            (32, 128),
            (256, 2),
            21_504,
            261_120,
            K256,
            true,
        ),
        "tiny-90m" => row((512, 24), (8, 2, 64), (24, 32), (64, 1), 768, 32_768, K256, false),
        _ => return None,
    };
    let mut config = Config {
        hidden: r.stream.0,
        layers: r.stream.1,
        heads: r.attention.0,
        kv_heads: r.attention.1,
        head_dim: r.attention.2,
        intermediate: r.intermediate,
        vocab: r.vocab,
        d_ssm: r.ssm.0 * r.ssm.1,
        ssm_heads: r.ssm.0,
        ssm_head_dim: r.ssm.1,
        d_state: r.state.0,
        groups: r.state.1,
        d_conv: 4,
        norm_eps: 1e-5,
        rope_theta: 1e11,
        max_positions: r.max_positions,
        tied: false,
        gated_norm: r.gated_norm,
        norm_before_gate: false,
        time_step_limit: (0.0, f32::INFINITY),
        embedding_multiplier: 1.0,
        lm_head_multiplier: 1.0,
        key_multiplier: 1.0,
        attention_in_multiplier: 1.0,
        attention_out_multiplier: 1.0,
        ssm_in_multiplier: 1.0,
        ssm_out_multiplier: 1.0,
        ssm_multipliers: [1.0; 5],
        mlp_multipliers: [1.0; 2],
        biases: Biases::default(),
        eos_ids: Vec::new(),
    };
    match name {
        "falcon-h1-0.5b" => {
            config.embedding_multiplier = 5.656_854;
            config.lm_head_multiplier = 0.039_062_5;
            config.key_multiplier = 0.390_625;
            config.attention_out_multiplier = 0.9375;
            config.ssm_in_multiplier = 1.25;
            config.ssm_out_multiplier = 0.235_702_3;
            config.ssm_multipliers = [0.353_55, 0.25, 0.353_55, 0.5, 0.353_55];
            config.mlp_multipliers = [0.883_88, 0.585_94];
        }
        "falcon-h1-7b" => {
            config.embedding_multiplier = 5.656_854;
            config.lm_head_multiplier = 40.0 / 3072.0;
            config.key_multiplier = 0.030_690_4;
            config.attention_out_multiplier = 0.104_167;
            config.ssm_in_multiplier = 0.416_667;
            config.ssm_out_multiplier = 0.117_851;
            config.ssm_multipliers = [0.353_553, 0.25, 0.176_777, 0.5, 0.353_553];
            config.mlp_multipliers = [0.294_628, 0.032_552_1];
        }
        "falcon-h1-34b" => {
            config.embedding_multiplier = 5.656_854;
            config.lm_head_multiplier = 0.007_812_5;
            config.key_multiplier = 0.011_048_5;
            config.attention_out_multiplier = 0.0375;
            config.ssm_in_multiplier = 0.25;
            config.mlp_multipliers = [0.176_777, 0.011_160_7];
        }
        "tiny-90m" => {
            config.tied = true;
            config.embedding_multiplier = 0.110_839_8;
            config.lm_head_multiplier = 0.078_125;
        }
        _ => {}
    }
    Some(config)
}
