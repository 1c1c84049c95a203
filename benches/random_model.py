#!/usr/bin/env python3
"""Writes a model of a published shape with random weights: a GGUF file, and for Falcon-H1 a Hugging Face folder.

    random_model.py falcon-h1-0.5b --folder out/half --gguf out/half-bf16.gguf
    random_model.py falcon-h1-7b --layers 8 --gguf out/seven-bf16.gguf
    random_model.py qwen3-8b --layers 6 --gguf out/qwen3-bf16.gguf

Matrices are bf16 of the spread that trained models have, small tensors are what a trained model holds there. The two files are not the same
model (a GGUF holds the multipliers in its weights, here it holds none): they are for measurements of speed. Standard library alone.
"""

import argparse
import json
import math
import random
import struct
import sys
from pathlib import Path

import random_shapes

# hidden, layers; heads, kv heads, head width; Mamba heads, their width; state; feed-forward; vocabulary; positions; norm in the Mamba branch; tied
SHAPES = {
    "falcon-h1-0.5b": (1024, 36, 8, 2, 64, 24, 64, 128, 2048, 32784, 16384, False, False),
    "falcon-h1-1.5b": (2048, 24, 8, 2, 128, 48, 64, 256, 4608, 65537, 131072, False, False),
    "falcon-h1-3b": (2560, 32, 10, 2, 128, 32, 128, 256, 6144, 65537, 131072, False, False),
    "falcon-h1-7b": (3072, 44, 12, 2, 128, 24, 128, 256, 12288, 130048, 262144, True, False),
    "tiny-90m": (512, 24, 8, 2, 64, 24, 32, 64, 768, 32768, 262144, False, True),
}
FIELDS = "hidden layers heads kv_heads head_dim ssm_heads ssm_head_dim state intermediate vocab positions norm tied".split()
CONV = 4
ROPE_THETA = 1e11
TILE = 8 << 20


class Shape:
    def __init__(self, name, layers):
        for field, value in zip(FIELDS, SHAPES[name]):
            setattr(self, field, value)
        self.name = name
        self.layers = layers or self.layers
        self.d_ssm = self.ssm_heads * self.ssm_head_dim
        self.channels = self.d_ssm + 2 * self.state
        self.q = self.heads * self.head_dim
        self.kv = self.kv_heads * self.head_dim

    def matrices(self):
        """(name in a folder, name in a GGUF, rows, columns)"""
        yield "model.embed_tokens.weight", "token_embd.weight", self.vocab, self.hidden
        if not self.tied:
            yield "lm_head.weight", "output.weight", self.vocab, self.hidden
        for i in range(self.layers):
            for ours, theirs, rows, columns in [
                ("self_attn.q_proj", "attn_q", self.q, self.hidden),
                ("self_attn.k_proj", "attn_k", self.kv, self.hidden),
                ("self_attn.v_proj", "attn_v", self.kv, self.hidden),
                ("self_attn.o_proj", "attn_output", self.hidden, self.q),
                ("mamba.in_proj", "ssm_in", self.d_ssm + self.channels + self.ssm_heads, self.hidden),
                ("mamba.out_proj", "ssm_out", self.hidden, self.d_ssm),
                ("feed_forward.gate_proj", "ffn_gate", self.intermediate, self.hidden),
                ("feed_forward.up_proj", "ffn_up", self.intermediate, self.hidden),
                ("feed_forward.down_proj", "ffn_down", self.hidden, self.intermediate),
            ]:
                yield f"model.layers.{i}.{ours}.weight", f"blk.{i}.{theirs}.weight", rows, columns

    def small(self, rng):
        """(name in a folder, its shape, name in a GGUF, its shape as ne, values)"""
        one = lambda n: [1.0 + 0.1 * rng.uniform(-1, 1) for _ in range(n)]
        yield "model.final_layernorm.weight", [self.hidden], "output_norm.weight", [self.hidden], one(self.hidden)
        for i in range(self.layers):
            ours, theirs = f"model.layers.{i}.", f"blk.{i}."
            yield ours + "input_layernorm.weight", [self.hidden], theirs + "attn_norm.weight", [self.hidden], one(self.hidden)
            yield ours + "pre_ff_layernorm.weight", [self.hidden], theirs + "ffn_norm", [self.hidden], one(self.hidden)
            conv = [0.5 * rng.uniform(-1, 1) for _ in range(self.channels * CONV)]
            yield ours + "mamba.conv1d.weight", [self.channels, 1, CONV], theirs + "ssm_conv1d.weight", [CONV, self.channels], conv
            bias = [0.1 * rng.uniform(-1, 1) for _ in range(self.channels)]
            yield ours + "mamba.conv1d.bias", [self.channels], theirs + "ssm_conv1d.bias", [self.channels], bias
            a_log = [math.log(rng.uniform(1, 16)) for _ in range(self.ssm_heads)]
            yield ours + "mamba.A_log", [self.ssm_heads], theirs + "ssm_a", [1, self.ssm_heads], a_log
            yield ours + "mamba.D", [self.ssm_heads], theirs + "ssm_d", [1, self.ssm_heads], [1.0] * self.ssm_heads
            dt = [rng.uniform(-5.5, -2.5) for _ in range(self.ssm_heads)]
            yield ours + "mamba.dt_bias", [self.ssm_heads], theirs + "ssm_dt.bias", [self.ssm_heads], dt
            if self.norm:
                yield ours + "mamba.norm.weight", [self.d_ssm], theirs + "ssm_norm.weight", [self.d_ssm, 1], one(self.d_ssm)

    def config(self):
        return {
            "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "vocab_size": self.vocab, "hidden_size": self.hidden,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "intermediate_size": self.intermediate, "hidden_act": "silu", "mamba_d_ssm": self.d_ssm,
            "mamba_n_heads": self.ssm_heads, "mamba_d_head": self.ssm_head_dim, "mamba_d_state": self.state, "mamba_n_groups": 1,
            "mamba_d_conv": CONV, "mamba_expand": 2, "mamba_chunk_size": 128, "mamba_conv_bias": True, "mamba_proj_bias": False,
            "mamba_rms_norm": self.norm, "mamba_norm_before_gate": False, "mamba_use_mlp": True, "attention_bias": False,
            "mlp_bias": False, "projectors_bias": False, "attention_dropout": 0.0, "rms_norm_eps": 1e-5, "rope_theta": ROPE_THETA,
            "rope_scaling": None, "max_position_embeddings": self.positions, "tie_word_embeddings": self.tied,
            "embedding_multiplier": 1.0, "lm_head_multiplier": 1.0, "key_multiplier": 1.0, "attention_in_multiplier": 1.0,
            "attention_out_multiplier": 1.0, "ssm_in_multiplier": 1.0, "ssm_out_multiplier": 1.0, "ssm_multipliers": [1.0] * 5,
            "mlp_multipliers": [1.0, 1.0], "bos_token_id": 1, "eos_token_id": 11, "pad_token_id": 0, "use_cache": True,
            "torch_dtype": "bfloat16",
        }


class Noise:
    """Random bf16 bytes, magnitudes 2^-7 to 2^-5: rows of about unit norm."""

    def __init__(self, rng):
        raw = bytearray(rng.randbytes(TILE))
        sign = bytes(0x3C if b < 128 else 0xBC for b in range(256))
        raw[1::2] = raw[1::2].translate(sign)
        self.tile = bytes(raw)
        self.at = 0

    def write(self, out, count):
        # every matrix starts elsewhere, so that no two are the same
        self.at = (self.at + 2 * 65_537) % TILE
        left = 2 * count
        while left:
            piece = self.tile[self.at : self.at + left]
            out.write(piece)
            left -= len(piece)
            self.at = (self.at + len(piece)) % TILE


def bf16(values):
    return b"".join(struct.pack("<I", struct.unpack("<I", struct.pack("<f", v))[0] + 0x8000)[2:] for v in values)


def write_folder(shape, folder, seed):
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    small = list(shape.small(rng))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, rows, columns in [(m[0], m[2], m[3]) for m in shape.matrices()]:
        header[name] = {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [at, at + 2 * rows * columns]}
        at += 2 * rows * columns
    for name, dims, _, _, values in small:
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [at, at + 2 * len(values)]}
        at += 2 * len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = Noise(rng)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, rows, columns in shape.matrices():
            noise.write(out, rows * columns)
        for _, _, _, _, values in small:
            out.write(bf16(values))
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2))


UINT32, FLOAT32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
#: pre-tokenizers by architecture
PRE = {"falcon-h1": "falcon-h1", "lfm2": "lfm2", "nemotron_h": "tekken"}
INT32 = 5
F32, BF16 = 0, 30
ALIGN = 32


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    if isinstance(value, str):
        return struct.pack("<I", STRING) + gguf_string(value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    strings = bool(value) and isinstance(value[0], str)
    body = b"".join(gguf_string(v) if strings else struct.pack("<i", v) for v in value)
    return struct.pack("<IIQ", ARRAY, STRING if strings else INT32, len(value)) + body


class FalconGguf:
    """What a GGUF file holds of a Falcon-H1 shape, as random_shapes.py has the other families."""

    arch = "falcon-h1"

    def __init__(self, shape):
        self.shape, self.vocab = shape, shape.vocab

    def metadata(self):
        shape = self.shape
        return {
            "block_count": shape.layers, "context_length": shape.positions, "embedding_length": shape.hidden,
            "feed_forward_length": shape.intermediate, "vocab_size": shape.vocab,
            "attention.head_count": shape.heads, "attention.head_count_kv": shape.kv_heads,
            "attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim,
            "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": ROPE_THETA, "ssm.conv_kernel": CONV,
            "ssm.inner_size": shape.d_ssm, "ssm.state_size": shape.state, "ssm.time_step_rank": shape.ssm_heads, "ssm.group_count": 1,
        }

    def matrices(self):
        return ((name, [columns, rows]) for _, name, rows, columns in self.shape.matrices())

    def small(self, rng):
        for _, _, name, dims, values in self.shape.small(rng):
            yield name, dims, [-math.exp(v) for v in values] if name.endswith("ssm_a") else values


def write_gguf(shape, name, path, seed):
    rng = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    # ids without text and one merge: enough for a loader that insists on a tokenizer
    tokens = ["a", "b", "ab"] + [f"<{i}>" for i in range(3, shape.vocab)]
    metadata = {"general.architecture": shape.arch, "general.name": f"{name}, random weights", "general.file_type": 32}
    metadata |= {f"{shape.arch}.{key}": value for key, value in shape.metadata().items()}
    metadata |= {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": PRE.get(shape.arch, "qwen2"),
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * shape.vocab, "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 11, "tokenizer.ggml.padding_token_id": 0,
    }
    matrices, small = list(shape.matrices()), list(shape.small(rng))
    infos, at = [], 0
    for name, dims in matrices:
        infos.append((name, dims, BF16, at))
        at += 2 * math.prod(dims)
        at += -at % ALIGN
    for name, dims, values in small:
        infos.append((name, dims, F32, at))
        at += 4 * len(values)
        at += -at % ALIGN
    noise = Noise(rng)
    with open(path, "wb") as out:
        out.write(struct.pack("<IIQQ", 0x46554747, 3, len(infos), len(metadata)))
        for name, value in metadata.items():
            out.write(gguf_string(name) + gguf_value(value))
        for name, dims, kind, offset in infos:
            out.write(gguf_string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims))
            out.write(struct.pack("<IQ", kind, offset))
        pad = lambda: out.write(b"\0" * (-out.tell() % ALIGN))
        pad()
        for _, dims in matrices:
            noise.write(out, math.prod(dims))
            pad()
        for _, _, values in small:
            out.write(struct.pack(f"<{len(values)}f", *values))
            pad()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=[*SHAPES, *random_shapes.SHAPES])
    parser.add_argument("--layers", type=int, help="fewer layers than the published model has")
    parser.add_argument("--folder", type=Path, help="Hugging Face folder to write")
    parser.add_argument("--gguf", type=Path, help="GGUF file (bf16) to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.folder and not args.gguf:
        sys.exit("--folder or --gguf (or both) must say where the model goes")
    if args.shape in random_shapes.SHAPES:
        if args.folder:
            sys.exit(f"{args.shape} is written as a GGUF file alone")
        return write_gguf(random_shapes.SHAPES[args.shape](args.layers), args.shape, args.gguf, args.seed)
    shape = Shape(args.shape, args.layers)
    if args.folder:
        write_folder(shape, args.folder, args.seed)
    if args.gguf:
        write_gguf(FalconGguf(shape), args.shape, args.gguf, args.seed)


if __name__ == "__main__":
    main()
