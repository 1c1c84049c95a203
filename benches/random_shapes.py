"""Shapes of other families for random_model.py: what their GGUF files hold, with llama.cpp's names.

Each shape yields `matrices()` as (name, dims), dims as GGUF writes them (columns first, experts last), and `small(rng)` as (name,
dims, values) of tensors that stay f32. Standard library alone.
"""

import math


class Dense:
    """Qwen3: attention with norms of q and k, then SwiGLU, or experts in its place."""

    arch, norm = "qwen3", "output_norm.weight"
    experts = used = expert_width = 0

    def __init__(self, hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, positions, theta, eps=1e-6):
        self.hidden, self.layers, self.heads, self.kv_heads, self.head_dim = hidden, layers, heads, kv_heads, head_dim
        self.intermediate, self.vocab, self.positions, self.theta, self.eps = intermediate, vocab, positions, theta, eps

    def metadata(self):
        return {
            "block_count": self.layers, "context_length": self.positions, "embedding_length": self.hidden,
            "feed_forward_length": self.intermediate, "attention.head_count": self.heads, "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head_dim, "attention.value_length": self.head_dim,
            "attention.layer_norm_rms_epsilon": self.eps, "rope.freq_base": self.theta,
        }  # fmt: skip

    def outside(self):
        yield "token_embd.weight", [self.hidden, self.vocab]
        yield "output.weight", [self.hidden, self.vocab]

    def attention(self, i):
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for name, dims in (("q", [self.hidden, q]), ("k", [self.hidden, kv]), ("v", [self.hidden, kv]), ("output", [q, self.hidden])):
            yield f"blk.{i}.attn_{name}.weight", dims

    def feed_forward(self, i):
        for name, dims in (("gate", (self.hidden, self.intermediate)), ("up", (self.hidden, self.intermediate)), ("down", (self.intermediate, self.hidden))):
            yield f"blk.{i}.ffn_{name}.weight", list(dims)

    def matrices(self):
        yield from self.outside()
        for i in range(self.layers):
            yield from self.attention(i)
            yield from self.feed_forward(i)

    def ones(self, rng, name, n):
        return name, [n], [1.0 + 0.1 * rng.uniform(-1, 1) for _ in range(n)]

    def small(self, rng):
        yield self.ones(rng, self.norm, self.hidden)
        for i in range(self.layers):
            yield self.ones(rng, f"blk.{i}.attn_norm.weight", self.hidden)
            yield self.ones(rng, f"blk.{i}.ffn_norm.weight", self.hidden)
            yield from self.head_norms(rng, i)

    def head_norms(self, rng, i):
        for name in "qk":
            yield self.ones(rng, f"blk.{i}.attn_{name}_norm.weight", self.head_dim)


class Experts(Dense):
    """Qwen3 with experts: softmax over all, the largest few, normed."""

    arch = "qwen3moe"

    def __init__(self, *dense, experts, used, expert_width):
        super().__init__(*dense)
        self.experts, self.used, self.expert_width = experts, used, expert_width

    def metadata(self):
        return super().metadata() | {
            "expert_count": self.experts, "expert_used_count": self.used, "expert_feed_forward_length": self.expert_width
        }  # fmt: skip

    def feed_forward(self, i):
        for name, dims in (
            ("gate", [self.hidden, self.expert_width]), ("up", [self.hidden, self.expert_width]), ("down", [self.expert_width, self.hidden])
        ):  # fmt: skip
            yield f"blk.{i}.ffn_{name}_exps.weight", [*dims, self.experts]

    def small(self, rng):
        yield from super().small(rng)
        for i in range(self.layers):
            values = [rng.uniform(-1, 1) / math.sqrt(self.hidden) for _ in range(self.hidden * self.experts)]
            yield f"blk.{i}.ffn_gate_inp.weight", [self.hidden, self.experts], values


class ShortConv(Dense):
    """LFM2: short convolutions, and attention in the layers named; one embedding for both ends."""

    arch, norm, taps = "lfm2", "token_embd_norm.weight", 3

    def __init__(self, *dense, attention):
        super().__init__(*dense, eps=1e-5)
        self.attends = attention

    def metadata(self):
        kv = [self.kv_heads if i in self.attends else 0 for i in range(self.layers)]
        mine = super().metadata() | {"attention.head_count_kv": kv, "shortconv.l_cache": self.taps, "vocab_size": self.vocab}
        return {key: value for key, value in mine.items() if not key.endswith("_length") or "key" not in key and "value" not in key}

    def outside(self):
        yield "token_embd.weight", [self.hidden, self.vocab]

    def attention(self, i):
        if i in self.attends:
            yield from super().attention(i)
        else:
            yield f"blk.{i}.shortconv.in_proj.weight", [self.hidden, 3 * self.hidden]
            yield f"blk.{i}.shortconv.out_proj.weight", [self.hidden, self.hidden]

    def head_norms(self, rng, i):
        if i in self.attends:
            yield from super().head_norms(rng, i)
        else:
            yield f"blk.{i}.shortconv.conv.weight", [self.taps, self.hidden], [0.5 * rng.uniform(-1, 1) for _ in range(self.taps * self.hidden)]


class Nemotron(Dense):
    """Nemotron-H: one mixer a layer: M Mamba-2, - feed-forward of squared ReLU, * attention."""

    arch, conv = "nemotron_h", 4

    def __init__(self, *dense, pattern, ssm_heads, ssm_head_dim, state, groups):
        super().__init__(*dense, eps=1e-5)
        # of few layers those that end with the first attention, without which llama.cpp does not run
        last = max(self.layers, pattern.index("*") + 1)
        self.pattern = pattern[last - self.layers : last]
        self.ssm_heads, self.ssm_head_dim, self.state, self.groups = ssm_heads, ssm_head_dim, state, groups
        self.inner = ssm_heads * ssm_head_dim
        self.channels = self.inner + 2 * groups * state

    def metadata(self):
        of = lambda kind, value: [value if k == kind else 0 for k in self.pattern]
        return super().metadata() | {
            "feed_forward_length": of("-", self.intermediate), "attention.head_count_kv": of("*", self.kv_heads),
            "attention.layer_norm_epsilon": self.eps, "vocab_size": self.vocab, "rope.dimension_count": self.head_dim,
            "rope.scaling.finetuned": False, "ssm.conv_kernel": self.conv, "ssm.state_size": self.state, "ssm.group_count": self.groups,
            "ssm.inner_size": self.inner, "ssm.time_step_rank": self.ssm_heads,
        }  # fmt: skip

    def matrices(self):
        yield from self.outside()
        for i, kind in enumerate(self.pattern):
            if kind == "M":
                yield f"blk.{i}.ssm_in.weight", [self.hidden, self.inner + self.channels + self.ssm_heads]
                yield f"blk.{i}.ssm_out.weight", [self.inner, self.hidden]
            elif kind == "*":
                yield from self.attention(i)
            else:
                yield f"blk.{i}.ffn_up.weight", [self.hidden, self.intermediate]
                yield f"blk.{i}.ffn_down.weight", [self.intermediate, self.hidden]

    def small(self, rng):
        yield self.ones(rng, self.norm, self.hidden)
        for i, kind in enumerate(self.pattern):
            yield self.ones(rng, f"blk.{i}.attn_norm.weight", self.hidden)
            if kind != "M":
                continue
            some = lambda scale, n: [scale * rng.uniform(-1, 1) for _ in range(n)]
            yield f"blk.{i}.ssm_conv1d.weight", [self.conv, self.channels], some(0.5, self.conv * self.channels)
            yield f"blk.{i}.ssm_conv1d.bias", [self.channels], some(0.1, self.channels)
            yield f"blk.{i}.ssm_a", [1, self.ssm_heads], [-rng.uniform(1, 16) for _ in range(self.ssm_heads)]
            yield f"blk.{i}.ssm_d", [1, self.ssm_heads], [1.0] * self.ssm_heads
            yield f"blk.{i}.ssm_dt.bias", [self.ssm_heads], [rng.uniform(-5.5, -2.5) for _ in range(self.ssm_heads)]
            yield f"blk.{i}.ssm_norm.weight", [self.inner // self.groups, self.groups], [1.0] * self.inner


#: name: a shape of so many layers, all where None
SHAPES = {
    "qwen3-8b": lambda layers: Dense(4096, layers or 36, 32, 8, 128, 12288, 151936, 40960, 1e6),
    "qwen3-30b-a3b": lambda layers: Experts(
        2048, layers or 48, 32, 4, 128, 6144, 151936, 262144, 1e7, experts=128, used=8, expert_width=768
    ),
    "lfm2-1.2b": lambda layers: ShortConv(
        2048, layers or 16, 32, 8, 64, 8192, 65536, 128000, 1e6, attention={2, 5, 8, 10, 12, 14}
    ),
    "nemotron-nano-9b-v2": lambda layers: Nemotron(
        4480, layers or 56, 40, 8, 128, 15680, 131072, 131072, 1e4,
        pattern="M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
        ssm_heads=128, ssm_head_dim=80, state=128, groups=8,
    ),
}  # fmt: skip
