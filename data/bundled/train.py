#!/usr/bin/env python3
"""How the bundled model was made: tokenizer, training, evaluation, export.

    python train.py tokenizer                  write tokenizer.json and the other small files here
    python train.py tokens --data T.jsonl      tokenise beforehand (train would do it once for each worker)
    python train.py mix    --data T.jsonl --out U.jsonl --weights gcd=4 power=0.5
    python train.py train  --data T.jsonl --state run.pt --minutes 60 --out DIR
    python train.py export --state run.pt --out DIR [--dtype bf16]
    python train.py check  --out DIR           compare with transformers' FalconH1ForCausalLM
    python train.py evaluate --state run.pt | --model DIR --data H.jsonl --problems 60 --traces 64

The model is transformers' FalconH1ForCausalLM, parameter for parameter; the forward pass below is the
same one written for speed on a CPU (the scan shares B and C across the heads), and `check` holds it to
the original. Needs torch, transformers, tokenizers, safetensors, numpy.
"""
import argparse, json, math, os, sys, time, hashlib, random
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))

# ---------------------------------------------------------------------------- tokenizer

SPECIAL = ["<|pad|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<unk>"]
PAD, EOT, IM_START, IM_END, THINK, END_THINK, UNK = range(7)
WORDS = (
    "Let Find The user assistant system boxed"
    " _and _mod _the _remainder _when _is _divided _by _last _three _digits _of _greatest _common"
    " _divisor _least _positive _integer _with _sum _written _in _base _answer"
).replace("_", "\u0120").split()
# The family's split (that of Llama 3); with no merges and ignore_merges, a piece is a known word or characters.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{%- for message in messages -%}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|im_start|>assistant\\n' -}}\n"
    "{%- endif -%}\n"
)

CONFIG = {
    "architectures": ["FalconH1ForCausalLM"],
    "model_type": "falcon_h1",
    "vocab_size": None,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 384,
    "hidden_act": "silu",
    "mamba_d_ssm": 256,
    "mamba_n_heads": 8,
    "mamba_d_head": 32,
    "mamba_d_state": 32,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 64,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "mamba_rms_norm": True,
    "mamba_norm_before_gate": False,
    "mamba_use_mlp": True,
    "attention_bias": False,
    "mlp_bias": False,
    "projectors_bias": False,
    "attention_dropout": 0.0,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000000000.0,
    "rope_scaling": None,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "embedding_multiplier": 1.0,
    "lm_head_multiplier": 1.0,
    "key_multiplier": 1.0,
    "attention_in_multiplier": 1.0,
    "attention_out_multiplier": 1.0,
    "ssm_in_multiplier": 1.0,
    "ssm_out_multiplier": 1.0,
    "ssm_multipliers": [1.0, 1.0, 1.0, 1.0, 1.0],
    "mlp_multipliers": [1.0, 1.0],
    "bos_token_id": EOT,
    "eos_token_id": EOT,
    "pad_token_id": PAD,
    "use_cache": True,
    "torch_dtype": "float32",
}
GENERATION = {
    "bos_token_id": EOT,
    "eos_token_id": [EOT, IM_END],
    "pad_token_id": PAD,
    "do_sample": True,
    "temperature": 1.0,
    "top_p": 0.98,
    "max_new_tokens": 1024,
}


def byte_level():
    """The byte-level alphabet's letter for each byte."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + extra)
            extra += 1
    return letters


def vocabulary():
    letters = byte_level()
    return SPECIAL + [letters[b] for b in [10] + list(range(32, 127))] + WORDS


def dump(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")


def write_small_files(out, dtype="float32", generation=GENERATION):
    os.makedirs(out, exist_ok=True)
    vocab = {t: i for i, t in enumerate(vocabulary())}
    added = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": t not in ("<think>", "</think>")}
        for i, t in enumerate(SPECIAL)
    ]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    dump(f"{out}/tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, bytes_]},
        "post_processor": None,
        "decoder": {**bytes_, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": True, "vocab": vocab, "merges": []},
    })
    dump(f"{out}/tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>", "unk_token": "<unk>", "add_bos_token": False, "add_prefix_space": False,
        "clean_up_tokenization_spaces": False, "model_max_length": CONFIG["max_position_embeddings"],
        "chat_template": TEMPLATE,
        "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in added},
    })
    with open(f"{out}/chat_template.jinja", "w") as f:
        f.write(TEMPLATE)
    dump(f"{out}/config.json", {**CONFIG, "vocab_size": len(vocab), "torch_dtype": dtype})
    dump(f"{out}/generation_config.json", generation)
    dump(f"{out}/tts.json", {
        "instruction": "",
        "note": "solves its own problem families only (`tts generate` writes such problems); anything else is beyond it",
    })


def tokenizer():
    from tokenizers import Tokenizer
    return Tokenizer.from_file(f"{HERE}/tokenizer.json")


def prompt_of(problem):
    return f"<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n"


def output_of(solution):
    steps, last = solution.rsplit("\n", 1)
    return f"<think>\n{steps}\n</think>\n{last}<|im_end|>"


def read_rows(path):
    """Token ids and prompt lengths of every problem of a file."""
    cache = path + ".ids.npz"
    if os.path.exists(cache) and os.path.getmtime(cache) > os.path.getmtime(path):
        kept = np.load(cache)
        flat, ends, starts = kept["flat"], kept["ends"], kept["starts"]
        return None, [(flat[e - n:e], s) for e, n, s in zip(ends.tolist(), np.diff(ends, prepend=0).tolist(), starts.tolist())]
    tok = tokenizer()
    with open(path) as f:
        items = [json.loads(line) for line in f]
    rows = []
    for at in range(0, len(items), 4096):
        part = items[at:at + 4096]
        prompts = tok.encode_batch([prompt_of(d["problem"]) for d in part], add_special_tokens=False)
        outputs = tok.encode_batch([output_of(d["solution"]) for d in part], add_special_tokens=False)
        for d, p, o in zip(part, prompts, outputs):
            assert UNK not in p.ids and UNK not in o.ids, d
            rows.append((np.array(p.ids + o.ids, dtype=np.uint8), len(p.ids)))
    if len(rows) > 10_000:
        np.savez(cache + ".part.npz", flat=np.concatenate([r for r, _ in rows]),
                 ends=np.cumsum([len(r) for r, _ in rows]), starts=np.array([s for _, s in rows]))
        os.replace(cache + ".part.npz", cache)
    return items, rows


def mix(a):
    """Families more or less often: a problem of weight 2.5 stands there twice or three times."""
    weights = {k: float(v) for k, v in (w.split("=") for w in a.weights)}
    rng, lines = random.Random(a.seed), []
    with open(a.data) as f:
        for line in f:
            w = weights.get(json.loads(line)["family"], 1)
            lines += [line] * (int(w) + (rng.random() < w - int(w)))
    rng.shuffle(lines)
    with open(a.out, "w") as f:
        f.writelines(lines)


# ---------------------------------------------------------------------------- model


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Holder(nn.Module):
    pass


def linear(i, o, std):
    layer = nn.Linear(i, o, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer


class Mamba(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, d, n, nh, k = (c[x] for x in ("hidden_size", "mamba_d_ssm", "mamba_d_state", "mamba_n_heads", "mamba_d_conv"))
        self.d, self.n, self.nh, self.p, self.k = d, n, nh, d // nh, k
        self.in_proj = linear(h, 2 * d + 2 * n + nh, h ** -0.5)
        self.out_proj = linear(d, h, d ** -0.5 / math.sqrt(2 * c["num_hidden_layers"]))
        self.conv1d = nn.Conv1d(d + 2 * n, d + 2 * n, k, groups=d + 2 * n, padding=k - 1)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, nh + 1).float()))
        self.D = nn.Parameter(torch.ones(nh))
        dt = torch.exp(torch.linspace(math.log(0.3), math.log(0.003), nh))
        self.dt_bias = nn.Parameter(torch.log(torch.expm1(dt)))
        self.norm = Norm(d)

    def forward(self, x, T=32):
        B, L, _ = x.shape
        u = self.in_proj(x)
        z, xbc, dt = u.split([self.d, self.d + 2 * self.n, self.nh], -1)
        w = self.conv1d.weight[:, 0]
        padded = F.pad(xbc, (0, 0, self.k - 1, 0))
        conv = self.conv1d.bias + sum(padded[:, j:j + L] * w[:, j] for j in range(self.k))
        conv = F.silu(conv)
        xs, b, c = conv.split([self.d, self.n, self.n], -1)
        dt = F.softplus(dt + self.dt_bias)
        a = dt * -torch.exp(self.A_log)
        nc = L // T
        X = xs.reshape(B, nc, T, self.nh, self.p).permute(0, 1, 3, 2, 4)
        b, c = b.reshape(B, nc, T, self.n), c.reshape(B, nc, T, self.n)
        s = a.reshape(B, nc, T, self.nh).permute(0, 1, 3, 2).cumsum(-1)
        Xd = X * dt.reshape(B, nc, T, self.nh).permute(0, 1, 3, 2).unsqueeze(-1)
        G = c @ b.transpose(-1, -2)
        mask = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
        M = (s.unsqueeze(-1) - s.unsqueeze(-2)).masked_fill(~mask, -1e9).exp() * G.unsqueeze(2)
        Y = M @ Xd
        if nc > 1:
            to_end = (s[..., -1:] - s).exp().unsqueeze(-1)
            own = (Xd * to_end).transpose(-1, -2) @ b.unsqueeze(2)  # [B,nc,h,p,N]
            total = s[..., -1]
            # States at chunk starts by one small product over chunks instead of a loop.
            t = F.pad(total, (0, 0, 1, 0)).cumsum(1)  # decay up to the start of chunk i
            between = t[:, :nc].unsqueeze(2) - t[:, 1:].unsqueeze(1)  # [B,i,j,h]: start of i minus end of j
            cm = torch.ones(nc, nc, dtype=torch.bool, device=x.device).tril(-1)
            between = between.masked_fill(~cm[None, :, :, None], -1e9).exp().permute(0, 3, 1, 2)
            start = between @ own.permute(0, 2, 1, 3, 4).reshape(B, self.nh, nc, self.p * self.n)
            start = start.reshape(B, self.nh, nc, self.p, self.n).permute(0, 2, 1, 3, 4)
            Y = Y + s.exp().unsqueeze(-1) * (c.unsqueeze(2) @ start.transpose(-1, -2))
        Y = Y + self.D[:, None, None] * X
        y = Y.permute(0, 1, 3, 2, 4).reshape(B, L, self.d) * F.silu(z)
        return self.out_proj(self.norm(y))

    def step(self, x, state):
        """One token of each row; state = (window [R, C, K-1], H [R, nh, p, N])."""
        window, H = state
        z, xbc, dt = self.in_proj(x).split([self.d, self.d + 2 * self.n, self.nh], -1)
        window = torch.cat([window, xbc.unsqueeze(-1)], -1)
        conv = F.silu((window * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)
        xs, b, c = conv.split([self.d, self.n, self.n], -1)
        dt = F.softplus(dt + self.dt_bias)
        xs = xs.reshape(-1, self.nh, self.p)
        H = H * torch.exp(dt * -torch.exp(self.A_log))[..., None, None]
        H = H + (dt.unsqueeze(-1) * xs).unsqueeze(-1) * b[:, None, None, :]
        y = (H @ c[:, None, :, None]).squeeze(-1) + self.D[:, None] * xs
        y = y.reshape(-1, self.d) * F.silu(z)
        return self.out_proj(self.norm(y)), (window[..., 1:], H)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, self.nq, self.nkv, self.hd = (c[x] for x in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
        self.q_proj = linear(h, self.nq * self.hd, h ** -0.5)
        self.k_proj = linear(h, self.nkv * self.hd, h ** -0.5)
        self.v_proj = linear(h, self.nkv * self.hd, h ** -0.5)
        self.o_proj = linear(self.nq * self.hd, h, h ** -0.5 / math.sqrt(2 * c["num_hidden_layers"]))

    def forward(self, x, cos, sin):
        B, L, _ = x.shape
        q = rotate(self.q_proj(x).view(B, L, self.nq, self.hd).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(B, L, self.nkv, self.hd).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(B, L, self.nkv, self.hd).transpose(1, 2)
        r = self.nq // self.nkv
        k, v = k.repeat_interleave(r, 1), v.repeat_interleave(r, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, L, -1))

    def step(self, x, cos, sin, cache, length):
        R = x.shape[0]
        K, V = cache
        q = rotate(self.q_proj(x).view(R, self.nq, self.hd), cos, sin)
        K[:, :, length] = rotate(self.k_proj(x).view(R, self.nkv, self.hd), cos, sin)
        V[:, :, length] = self.v_proj(x).view(R, self.nkv, self.hd)
        q = q.view(R, self.nkv, self.nq // self.nkv, self.hd)
        y = F.scaled_dot_product_attention(q, K[:, :, :length + 1], V[:, :, :length + 1])
        return self.o_proj(y.reshape(R, -1))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, f = c["hidden_size"], c["intermediate_size"]
        self.input_layernorm, self.pre_ff_layernorm = Norm(h), Norm(h)
        self.mamba, self.self_attn, self.feed_forward = Mamba(c), Attention(c), Holder()
        self.feed_forward.gate_proj = linear(h, f, h ** -0.5)
        self.feed_forward.up_proj = linear(h, f, h ** -0.5)
        self.feed_forward.down_proj = linear(f, h, f ** -0.5 / math.sqrt(2 * c["num_hidden_layers"]))

    def mlp(self, x):
        ff = self.feed_forward
        return ff.down_proj(ff.up_proj(x) * F.silu(ff.gate_proj(x)))

    def forward(self, h, cos, sin):
        x = self.input_layernorm(h)
        h = h + self.mamba(x) + self.self_attn(x, cos, sin)
        return h + self.mlp(self.pre_ff_layernorm(h))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.model = Holder()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        nn.init.normal_(self.model.embed_tokens.weight, std=0.05)
        self.model.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.model.final_layernorm = Norm(c["hidden_size"])
        hd = c["head_dim"]
        inv = 1.0 / c["rope_theta"] ** (torch.arange(0, hd, 2).float() / hd)
        angles = torch.outer(torch.arange(2048).float(), inv)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids):
        L = ids.shape[1]
        h = self.model.embed_tokens(ids)
        cos, sin = self.cos[:L], self.sin[:L]
        for block in self.model.layers:
            h = block(h, cos, sin)
        return self.model.final_layernorm(h)

    def logits(self, h):
        return h @ self.model.embed_tokens.weight.t()

    @torch.no_grad()
    def begin(self, rows, room):
        m, c = self.model.layers[0].mamba, self.c
        return [
            ((torch.zeros(rows, m.d + 2 * m.n, m.k - 1), torch.zeros(rows, m.nh, m.p, m.n)),
             (torch.zeros(rows, c["num_key_value_heads"], room, c["head_dim"]),
              torch.zeros(rows, c["num_key_value_heads"], room, c["head_dim"])))
            for _ in self.model.layers
        ]

    @torch.no_grad()
    def step(self, ids, state, length):
        h = self.model.embed_tokens(ids)
        cos, sin = self.cos[length], self.sin[length]
        for i, block in enumerate(self.model.layers):
            ssm, kv = state[i]
            x = block.input_layernorm(h)
            m, ssm = block.mamba.step(x, ssm)
            h = h + m + block.self_attn.step(x, cos, sin, kv, length)
            h = h + block.mlp(block.pre_ff_layernorm(h))
            state[i] = (ssm, kv)
        return self.logits(self.model.final_layernorm(h))


def new_model():
    return Model({**CONFIG, "vocab_size": len(vocabulary())})


# ---------------------------------------------------------------------------- training


def batches(rows, rng, tokens, per_step):
    """Micro-batches of rows of like length, each padded to a multiple of 32, `per_step` of them a step,
    drawn from the same pool so that a step sees all lengths."""
    order = list(range(len(rows)))
    while True:
        rng.shuffle(order)
        for at in range(0, len(order) - 1023, 1024):
            pool = sorted(order[at:at + 1024], key=lambda i: len(rows[i][0]))
            parts, part = [], []
            for i in pool:
                wide = -(-len(rows[i][0]) // 32) * 32
                if part and wide * (len(part) + 1) > tokens:
                    parts.append(part)
                    part = []
                part.append(i)
            parts.append(part)
            rng.shuffle(parts)
            for j in range(0, len(parts) - per_step + 1, per_step):
                yield parts[j:j + per_step]


def tensors(rows, part):
    wide = -(-max(len(rows[i][0]) for i in part) // 32) * 32
    ids = torch.full((len(part), wide), PAD, dtype=torch.long)
    keep = torch.zeros((len(part), wide), dtype=torch.bool)
    for r, i in enumerate(part):
        row, start = rows[i]
        ids[r, :len(row)] = torch.from_numpy(row.astype(np.int64))
        keep[r, start - 1:len(row) - 1] = True  # positions whose next token counts
    return ids, keep


def loss_of(model, ids, keep, smoothing):
    h = model(ids)[keep]
    target = ids.roll(-1, 1)[keep]
    logits = model.logits(h)
    return F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum"), logits, target


@torch.no_grad()
def probe(model, items, rows, part_tokens=8192):
    """Teacher-forced: loss a token, share of tokens and of whole traces that argmax gets right, by family."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    result, part = {}, []
    parts = []
    for i in order:
        if part and len(rows[i][0]) * (len(part) + 1) > part_tokens:
            parts.append(part)
            part = []
        part.append(i)
    parts.append(part)
    total, count = 0.0, 0
    for part in parts:
        ids, keep = tensors(rows, part)
        loss, logits, target = loss_of(model, ids, keep, 0.0)
        total += loss.item()
        count += len(target)
        right = torch.ones_like(keep)
        right[keep] = logits.argmax(-1) == target
        for r, i in enumerate(part):
            f = result.setdefault(items[i]["family"], [0, 0, 0, 0])
            n = int(keep[r].sum())
            f[0] += 1
            f[1] += bool(right[r].all())
            f[2] += n
            f[3] += n - int((~right[r]).sum())
    return total / count, {k: (v[1] / v[0], v[3] / v[2]) for k, v in sorted(result.items())}


class Muon:
    """Momentum, orthogonalised (Newton-Schulz in float32, like shapes together), scaled like AdamW's
    steps. Each worker does its share of the shapes; the steps are added up over all workers."""

    def __init__(self, parameters, lr, rank, workers):
        self.parameters, self.rank, self.workers = parameters, rank, workers
        self.param_groups = [{"lr": lr}]
        self.momentum = [torch.zeros_like(p) for p in parameters]

    def state_dict(self):
        return {"momentum": self.momentum}

    def load_state_dict(self, saved):
        self.momentum = [m.clone() for m in saved["momentum"]]

    def zero_grad(self, set_to_none=True):
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self):
        import torch.distributed as dist
        lr = self.param_groups[0]["lr"]
        shapes = {}
        for i, p in enumerate(self.parameters):
            self.momentum[i].mul_(0.95).add_(p.grad, alpha=0.05)
            shapes.setdefault(tuple(p.shape), []).append(i)
        sizes = [p.numel() for p in self.parameters]
        flat = torch.zeros(sum(sizes))
        at = [sum(sizes[:i]) for i in range(len(sizes))]
        loads = [0] * self.workers
        for (r, c), members in sorted(shapes.items(), key=lambda kv: -len(kv[1]) * min(kv[0]) ** 2 * max(kv[0])):
            who = loads.index(min(loads))
            loads[who] += len(members) * min(r, c) ** 2 * max(r, c)
            if who != self.rank:
                continue
            x = torch.stack([self.parameters[i].grad * 0.05 + self.momentum[i] * 0.95 for i in members])
            x = x.mT if r > c else x
            x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
            for _ in range(5):
                gram = x @ x.mT
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
            x = x.mT if r > c else x
            for i, update in zip(members, x):
                flat[at[i]:at[i] + sizes[i]] = update.reshape(-1)
        dist.all_reduce(flat)
        for i, p in enumerate(self.parameters):
            p.mul_(1 - lr * 0.05)
            p.add_(flat[at[i]:at[i] + sizes[i]].view_as(p), alpha=-lr * 0.2 * max(p.shape) ** 0.5)


def groups(model, muon):
    matrices, others = [], []
    for name, p in model.named_parameters():
        big = p.ndim == 2 and "embed" not in name
        (matrices if big and muon else others).append(p)
    return matrices, others


def train(a):
    """One process of one thread for each worker: on a machine that is busy with other things, threads
    that meet at every operation stand still, processes that meet once a step do not."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = str(a.port)
    import torch.multiprocessing as mp
    mp.spawn(worker, (a,), nprocs=a.workers)


def worker(rank, a):
    import torch.distributed as dist
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # decays reach 1e-40 and cost ten times as much
    dist.init_process_group("gloo", rank=rank, world_size=a.workers)
    say = (lambda *x: print(*x, flush=True)) if rank == 0 else (lambda *x: None)
    torch.manual_seed(a.seed)
    model = new_model()
    parameters = list(model.parameters())
    say(f"{sum(p.numel() for p in parameters)} parameters")
    _, rows = read_rows(a.data)
    held_items, held_rows = read_rows(a.dev)
    say(f"{len(rows)} training rows, {sum(len(r) for r, _ in rows)} tokens; longest {max(len(r) for r, _ in rows)}")
    matrices, others = groups(model, a.muon)
    optimizers = [torch.optim.AdamW(others, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.01)]
    if matrices:
        optimizers.append(Muon(matrices, a.muon_lr, rank, a.workers))
    base = [o.param_groups[0]["lr"] for o in optimizers]
    done = {"step": 0, "tokens": 0, "seconds": 0.0, "curve": []}
    if a.state and os.path.exists(a.state):
        saved = torch.load(a.state, weights_only=False)
        model.load_state_dict(saved["model"])
        for o, s in zip(optimizers, saved["optimizers"]):
            if "momentum" in s or not isinstance(o, Muon):
                o.load_state_dict(s)
        done = saved["done"]
        say("resumed at", {k: v for k, v in done.items() if k != "curve"})
        for o, b in zip(optimizers, base):
            o.param_groups[0]["lr"] = b
    rng = random.Random(a.seed + done["step"])

    def save():
        if a.state and rank == 0:
            torch.save({"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "done": done}, a.state + ".part")
            os.replace(a.state + ".part", a.state)

    def look():
        if rank == 0:
            loss, families = probe(model, held_items, held_rows)
            say(f"  probe loss {loss:.4f}; whole traces right " + " ".join(f"{k} {v[0]:.2f}" for k, v in families.items()))
            if a.out:
                export(model, a.out, "float32")

    stream = batches(rows, rng, a.tokens, a.workers)
    budget = a.minutes * 60
    begun, elapsed, spent_before = time.time(), 0.0, done["seconds"]
    logged = saved_at = looked = marked = 0.0
    window, window_tokens, window_all = 0.0, 0, 0
    while elapsed < budget and not (a.steps and done["step"] >= a.steps):
        here = elapsed / budget
        factor = min(1.0, (done["step"] + 1) / 50)
        if here > a.decay_from:
            factor *= max(0.02, (1 - here) / (1 - a.decay_from))
        smoothing = a.smoothing if here >= a.smooth_from else 0.0
        for o, b in zip(optimizers, base):
            o.param_groups[0]["lr"] = b * factor
        parts = next(stream)
        kept = sum(len(rows[i][0]) - rows[i][1] for part in parts for i in part)
        ids, keep = tensors(rows, parts[rank])
        loss, _, _ = loss_of(model, ids, keep, smoothing)
        (loss / kept).backward()
        flat = torch.cat([p.grad.reshape(-1) for p in parameters]
                         + [torch.tensor([loss.item(), float(ids.numel()), time.time() - begun if rank == 0 else 0.0])])
        dist.all_reduce(flat)
        at = 0
        for p in parameters:
            p.grad.copy_(flat[at:at + p.numel()].view_as(p))
            at += p.numel()
        window += flat[at].item()
        window_all += int(flat[at + 1])
        elapsed = flat[at + 2].item()  # of worker 0, so that all decide alike
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        window_tokens += kept
        done["step"] += 1
        done["tokens"] += kept
        done["seconds"] = spent_before + elapsed
        if elapsed - logged > a.log_every:
            passed = elapsed - marked
            say(f"step {done['step']} tokens {done['tokens']/1e6:.2f}M loss {window/window_tokens:.4f} lr x{factor:.2f} "
                f"{window_tokens/passed:.0f} tok/s (with prompts and padding {window_all/passed:.0f}) {done['seconds']/60:.1f} min")
            done["curve"].append((done["step"], done["tokens"], round(window / window_tokens, 4)))
            window, window_tokens, window_all, logged, marked = 0.0, 0, 0, elapsed, elapsed
        if elapsed - saved_at > 120:
            save()
            saved_at = elapsed
        if elapsed - looked > a.probe_every:
            look()
            looked = elapsed
    save()
    look()
    say(f"end: step {done['step']} tokens {done['tokens']} minutes {done['seconds']/60:.1f}")
    dist.destroy_process_group()


def export(model, out, dtype):
    from safetensors.torch import save_file
    write_small_files(out, dtype)
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    save_file({k: v.detach().to(kind).contiguous() for k, v in model.state_dict().items()},
              f"{out}/model.safetensors", metadata={"format": "pt"})


def load(path):
    """From a training state or a model folder."""
    model = new_model()
    if os.path.isdir(path):
        from safetensors.torch import load_file
        state = {k: v.float() for k, v in load_file(f"{path}/model.safetensors").items()}
    else:
        state = torch.load(path, weights_only=False)["model"]
    model.load_state_dict(state)
    return model.eval()


def check(a):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    theirs = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    tok = AutoTokenizer.from_pretrained(a.model)
    ours = load(a.model)
    text = tok.apply_chat_template([{"role": "user", "content": "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."}], tokenize=False, add_generation_prompt=True)
    assert text == prompt_of("Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."), text
    ids = torch.randint(7, len(vocabulary()), (2, 160))
    with torch.no_grad():
        x, y = theirs(ids).logits, ours.logits(ours(ids))
    print("largest difference of logits to transformers", (x - y).abs().max().item(), "deviation", y.std().item())
    state, steps = ours.begin(2, 160), []
    for t in range(160):
        steps.append(ours.step(ids[:, t], state, t))
    print("one by one", (torch.stack(steps, 1) - y).abs().max().item())
    encoded = tok(text, return_tensors="pt", add_special_tokens=False)
    out = theirs.generate(**encoded, max_new_tokens=700, do_sample=False)
    print(tok.decode(out[0]))


# ---------------------------------------------------------------------------- evaluation


@torch.no_grad()
def sample(model, prompts, traces, temperature, top_p, min_p, room, generator):
    """Every trace of every prompt; prompts of one length only. Ids, confidences, finish."""
    length = prompts.shape[1]
    rows = prompts.repeat_interleave(traces, 0)
    state = model.begin(rows.shape[0], room)
    for t in range(length):
        logits = model.step(rows[:, t], state, t)
    ids = [[] for _ in range(rows.shape[0])]
    conf = [[] for _ in range(rows.shape[0])]
    live = torch.arange(rows.shape[0])
    for t in range(length, room):
        top = logits.topk(20, -1).values
        c = torch.logsumexp(logits, -1) - top.mean(-1)
        p = torch.softmax(logits / temperature, -1)
        sorted_p, order = p.sort(-1, descending=True)
        drop = sorted_p.cumsum(-1) - sorted_p >= top_p
        if min_p:
            drop |= sorted_p < min_p * sorted_p[:, :1]
        sorted_p[drop] = 0
        pick = order.gather(1, torch.multinomial(sorted_p, 1, generator=generator)).squeeze(1)
        for r, i, x in zip(live.tolist(), pick.tolist(), c.tolist()):
            ids[r].append(i)
            conf[r].append(x)
        go = (pick != IM_END) & (pick != EOT)
        if not go.any():
            break
        if go.sum() < 0.8 * len(go):  # leave the batch now and then
            live, pick = live[go], pick[go]
            state = [((s[0][go], s[1][go]), (k[0][go], k[1][go])) for s, k in state]
            done_rows = None
        else:
            # finished rows run on unrecorded until the next cut
            done_rows = ~go
        if t + 1 >= room:
            break
        if done_rows is not None and done_rows.any():
            live, pick = live[go], pick[go]
            state = [((s[0][go], s[1][go]), (k[0][go], k[1][go])) for s, k in state]
        logits = model.step(pick, state, t)
    return ids, conf


def answer_of(tok, ids):
    text = tok.decode(ids, skip_special_tokens=False)
    tail = text.split("</think>")[-1] if "</think>" in text else ""
    at = tail.rfind("\\boxed{")
    return tail[at + 7:].split("}")[0] if at >= 0 else None


def auroc(good, bad):
    if not len(good) or not len(bad):
        return None
    good, bad = np.asarray(good), np.asarray(bad)
    return float(((good[:, None] > bad[None]).mean() + (good[:, None] == bad[None]).mean() / 2))


def evaluate(a):
    torch.set_flush_denormal(True)
    torch.set_num_threads(a.threads)
    model = load(a.model)
    tok = tokenizer()
    with open(a.data) as f:
        items = [json.loads(line) for line in f][a.skip:a.skip + a.problems]
    generator = torch.Generator().manual_seed(a.seed)
    rng = random.Random(0)
    begun, total = time.time(), 0
    p1, maj, aucs, families, lengths = [], {16: [], a.traces: []}, {8: [], 16: [], 32: [], 64: []}, {}, []
    for d in items:
        ids = torch.tensor([tok.encode(prompt_of(d["problem"]), add_special_tokens=False).ids])
        out, conf = sample(model, ids, a.traces, a.temperature, a.top_p, a.min_p, ids.shape[1] + a.max_tokens, generator)
        answers = [answer_of(tok, o) for o in out]
        right = [x == d["answer"] for x in answers]
        n = [len(o) for o in out]
        total += sum(n)
        lengths += n
        p = sum(right) / len(right)
        p1.append(p)
        for k in maj:
            wins = 0
            draws = 20 if k < a.traces else 1
            for _ in range(draws):
                votes = {}
                for x in rng.sample(answers, k):
                    if x is not None:
                        votes[x] = votes.get(x, 0) + 1
                wins += bool(votes) and max(votes, key=votes.get) == d["answer"]
            maj[k].append(wins / draws)
        for w in aucs:
            low = []
            for c in conf:
                c = np.array(c)
                s = np.cumsum(np.concatenate([[0], c]))
                low.append(float(((s[w:] - s[:-w]) / w).min()) if len(c) >= w else float(c.mean()))
            if 2 <= sum(right) <= len(right) - 2:
                aucs[w].append(auroc([l for l, r in zip(low, right) if r], [l for l, r in zip(low, right) if not r]))
        families.setdefault(d["family"], []).append((p, maj[a.traces][-1], np.mean(n)))
        if a.verbose:
            print(f"{p:.2f} {maj[a.traces][-1]:.0f} {np.mean(n):.0f} {d['problem']}", flush=True)
    print(f"{len(items)} problems x {a.traces}, T {a.temperature} top-p {a.top_p} min-p {a.min_p}: pass@1 {np.mean(p1):.3f} "
          + " ".join(f"majority@{k} {np.mean(v):.3f}" for k, v in maj.items())
          + f" tokens {np.mean(lengths):.0f} AUROC " + " ".join(f"W{w} {np.mean(v):.3f}" for w, v in aucs.items() if v)
          + f" | {total/(time.time()-begun):.0f} tok/s {time.time()-begun:.0f} s")
    print("pass@1 deciles", np.histogram(p1, bins=10, range=(0, 1.0001))[0].tolist())
    for f, v in sorted(families.items()):
        print(f"  {f:12s} n {len(v)} pass@1 {np.mean([x[0] for x in v]):.2f} majority {np.mean([x[1] for x in v]):.2f} tokens {np.mean([x[2] for x in v]):.0f}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    s = sub.add_parser("tokenizer")
    s.add_argument("--out", default=HERE)
    s = sub.add_parser("tokens")
    s.add_argument("--data", required=True)
    s = sub.add_parser("mix")
    s.add_argument("--data", required=True)
    s.add_argument("--out", required=True)
    s.add_argument("--seed", type=int, default=5)
    s.add_argument("--weights", nargs="+", required=True, metavar="FAMILY=WEIGHT")
    s = sub.add_parser("train")
    s.add_argument("--data", required=True)
    s.add_argument("--dev", required=True)
    s.add_argument("--state")
    s.add_argument("--out")
    s.add_argument("--minutes", type=float, default=60)
    s.add_argument("--steps", type=int, default=0)
    s.add_argument("--tokens", type=int, default=4096)
    s.add_argument("--workers", type=int, default=2)
    s.add_argument("--port", type=int, default=29471)
    s.add_argument("--lr", type=float, default=3e-3)
    s.add_argument("--muon", action="store_true")
    s.add_argument("--muon-lr", type=float, default=5e-3)
    s.add_argument("--decay-from", type=float, default=0.6)
    s.add_argument("--smoothing", type=float, default=0.02)
    s.add_argument("--smooth-from", type=float, default=0.75)
    s.add_argument("--seed", type=int, default=1)
    s.add_argument("--log-every", type=float, default=15)
    s.add_argument("--probe-every", type=float, default=300)
    s = sub.add_parser("export")
    s.add_argument("--state", required=True)
    s.add_argument("--out", default=HERE)
    s.add_argument("--dtype", default="float32")
    s = sub.add_parser("check")
    s.add_argument("--model", default=HERE)
    s = sub.add_parser("evaluate")
    s.add_argument("--model", required=True)
    s.add_argument("--data", required=True)
    s.add_argument("--problems", type=int, default=60)
    s.add_argument("--skip", type=int, default=0)
    s.add_argument("--traces", type=int, default=64)
    s.add_argument("--temperature", type=float, default=1.0)
    s.add_argument("--top-p", type=float, default=0.98)
    s.add_argument("--min-p", type=float, default=0.0)
    s.add_argument("--max-tokens", type=int, default=800)
    s.add_argument("--seed", type=int, default=0)
    s.add_argument("--threads", type=int, default=2)
    s.add_argument("--verbose", action="store_true")
    a = p.parse_args()
    if a.what == "tokenizer":
        write_small_files(a.out)
    elif a.what == "tokens":
        read_rows(a.data)
    elif a.what == "mix":
        mix(a)
    elif a.what == "train":
        train(a)
    elif a.what == "export":
        export(load(a.state), a.out, a.dtype)
    elif a.what == "check":
        check(a)
    else:
        evaluate(a)


if __name__ == "__main__":
    main()
