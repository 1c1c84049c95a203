//! The names of GGUF's tensors and what they are called everywhere else here.

/// Outside of the blocks.
const TOP: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output.weight", "lm_head.weight"),
    ("output_norm.weight", "model.final_layernorm.weight"),
];

/// In a block. The first of two GGUF names for the same tensor is the one that converters write.
const BLOCK: [(&str, &str); 27] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("ffn_norm", "pre_ff_layernorm.weight"),
    ("ffn_norm.weight", "pre_ff_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_output.bias", "self_attn.o_proj.bias"),
    ("ssm_in.weight", "mamba.in_proj.weight"),
    ("ssm_in.bias", "mamba.in_proj.bias"),
    ("ssm_out.weight", "mamba.out_proj.weight"),
    ("ssm_out.bias", "mamba.out_proj.bias"),
    ("ssm_conv1d.weight", "mamba.conv1d.weight"),
    ("ssm_conv1d.bias", "mamba.conv1d.bias"),
    // -exp(A_log), so not A_log's name.
    ("ssm_a", "mamba.A"),
    ("ssm_d", "mamba.D"),
    ("ssm_dt.bias", "mamba.dt_bias"),
    ("ssm_norm.weight", "mamba.norm.weight"),
    ("ffn_gate.weight", "feed_forward.gate_proj.weight"),
    ("ffn_gate.bias", "feed_forward.gate_proj.bias"),
    ("ffn_up.weight", "feed_forward.up_proj.weight"),
    ("ffn_up.bias", "feed_forward.up_proj.bias"),
    ("ffn_down.weight", "feed_forward.down_proj.weight"),
    ("ffn_down.bias", "feed_forward.down_proj.bias"),
];

/// GGUF's name to the canonical one; None for a tensor that Falcon-H1 files do not have.
pub(in crate::weights) fn canonical(stored: &str) -> Option<String> {
    if let Some((_, name)) = TOP.iter().find(|(s, _)| *s == stored) {
        return Some((*name).to_owned());
    }
    let (layer, rest) = stored.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (_, name) = BLOCK.iter().find(|(s, _)| *s == rest)?;
    Some(format!("model.layers.{layer}.{name}"))
}

/// The canonical name to GGUF's.
pub(in crate::weights) fn stored(canonical: &str) -> String {
    let top = TOP
        .iter()
        .find(|(_, c)| *c == canonical)
        .map(|(s, _)| (*s).to_owned());
    let block = || {
        let (layer, rest) = canonical.strip_prefix("model.layers.")?.split_once('.')?;
        let (stored, _) = BLOCK.iter().find(|(_, c)| *c == rest)?;
        Some(format!("blk.{layer}.{stored}"))
    };
    top.or_else(block).unwrap_or_else(|| canonical.to_owned())
}
