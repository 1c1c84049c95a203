#!/usr/bin/env python3
"""Times the whole job on a real model: problems x traces, majority, confidences recorded, with the model in this process and on the servers of llama.cpp and
vLLM, with the same prompts and sampling, one after the other. Prints the table as Markdown.

    cargo build --release
    benches/real_job.py --model qwen2.5-coder-1.5b.gguf --data gsm8k.jsonl --llama ~/llama.cpp/build --vllm ~/vllm/bin/python --folder qwen2.5-coder-1.5b/

--data: JSON lines with `problem` and `answer`, which are not part of this repository (GSM8K's test set, for one). --folder: the same weights as a Hugging Face
folder, which vLLM's CPU backend reads in bf16. The servers are asked by `tts solve --backend`, which grades them alike; loading is not counted for them. Every
program is alone on the machine. What is not named is left out. Standard library alone.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from remote import Engine, note

ROOT = Path(__file__).resolve().parent.parent


class Job:
    def __init__(self, args, place):
        self.args, self.place, self.engines, self.lines = args, place, [], []
        self.room = args.traces * (args.max_tokens + 512)

    def solve(self, name, words):
        """Runs the job; keeps what came of it as a line of the table."""
        args = self.args
        command = [args.tts, "solve", "--data", args.data, "--limit", args.problems, "--traces", args.traces, "--slots", args.traces]
        command += ["--strategy", "majority", "--temperature", 0.7, "--top-p", 0.95, "--max-tokens", args.max_tokens, "--run", self.place / f"run-{len(self.lines)}"]
        command = [str(word) for word in [*command, "--json", "--quiet", *words]]
        before = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("TTS_")})
        seconds = time.perf_counter() - before
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
        problems = [json.loads(line) for line in done.stdout.splitlines()]
        traces = [json.loads(line) for line in (self.place / f"run-{len(self.lines)}" / "traces.jsonl").read_text().splitlines()]
        gold = {p["problem_id"]: p["gold"] for p in problems}
        # whole numbers are compared as they are written: enough for one figure beside the vote, which `tts` grades
        one = sum(t.get("answer_key") == gold[t["problem_id"]] for t in traces)
        self.lines.append({
            "name": name, "seconds": seconds, "tokens": sum(p["tokens"]["generated"] for p in problems), "prompt": sum(p["tokens"]["prompt"] for p in problems),
            "right": sum(bool(p["correct"]) for p in problems), "one": one / len(traces),
            "confidence": sum((t.get("scores") or {}).get("mean") is not None for t in traces), "traces": len(traces),
        })
        note(json.dumps(self.lines[-1]))

    def here(self):
        self.solve("tts", ["--model", self.args.model, "--threads", self.args.threads])

    def served(self, name, command, env=None):
        engine = Engine(name, [str(word) for word in command], self.args.port, self.place / f"{name}.log", env)
        self.engines.append(engine)
        try:
            engine.wait(900)
            # whatever else the machine does
            patience = ["--backend-connect-timeout", "5m", "--backend-first-token-timeout", "60m", "--backend-idle-timeout", "30m"]
            self.solve(name, ["--backend", engine.url, *patience])
        finally:
            engine.kill(signal.SIGTERM)

    def llama(self):
        server = Path(self.args.llama) / "bin" / "llama-server"
        command = [server, "-m", self.args.model, "--host", "127.0.0.1", "--port", self.args.port, "-np", self.args.traces, "-c", self.room, "-t", self.args.threads, "--jinja"]
        self.served("llama-server", command + (["-kvu"] if self.args.unified else []))

    def vllm(self):
        command = [self.args.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", self.args.folder, "--served-model-name", "real", "--dtype", "bfloat16", "--host", "127.0.0.1"]
        command += ["--port", self.args.port, "--max-logprobs", 21, "--max-num-seqs", self.args.traces, "--max-model-len", self.args.max_tokens + 1024, "--generation-config", "vllm"]
        # a prompt that is read in two parts ends its CPU backend where the request has a seed
        command += ["--max-num-batched-tokens", 512 * self.args.traces]
        env = {"VLLM_CPU_OMP_THREADS_BIND": f"0-{self.args.threads - 1}", "VLLM_CPU_KVCACHE_SPACE": "4", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        self.served("vllm", command, env)

    def table(self):
        print(f"{self.args.problems} problems x {self.args.traces} traces, majority; {self.args.threads} threads; {time.strftime('%Y-%m-%d')}\n")
        print("| | seconds | tts is sooner by | tokens | tokens a second | prompt tokens | right by majority | one trace right | traces with confidences |")
        print("|---|---|---|---|---|---|---|---|---|")
        ours = [line["seconds"] for line in self.lines if line["name"] == "tts"]
        for line in self.lines:
            sooner = "" if line["name"] == "tts" else f"{line['seconds'] * len(ours) / sum(ours):.2f}"
            print(f"| {line['name']} | {line['seconds']:,.0f} | {sooner} | {line['tokens']:,} | {line['tokens'] / line['seconds']:.1f} | {line['prompt'] or ''} | "
                  f"{line['right']} of {self.args.problems} | {100 * line['one']:.1f}% | {line['confidence']} of {line['traces']} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tts", default=str(ROOT / "target" / "release" / "tts"))
    parser.add_argument("--model", required=True, help="a GGUF file of a real model")
    parser.add_argument("--data", required=True, help="JSON lines of problems and their answers")
    parser.add_argument("--llama", help="build folder of llama.cpp with bin/llama-server")
    parser.add_argument("--unified", action="store_true", help="llama-server with one pool of keys and values for all slots")
    parser.add_argument("--vllm", help="Python of an environment with vLLM")
    parser.add_argument("--folder", help="the same model as a Hugging Face folder, for vLLM")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--traces", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--port", type=int, default=18300)
    parser.add_argument("--place", help="folder for run folders and logs, kept [default: one that is removed]")
    args = parser.parse_args()
    if args.vllm and not args.folder:
        parser.error("--vllm needs --folder")
    # engines are ended however this ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="tts-job-") as temporary:
        place = Path(args.place or temporary)
        place.mkdir(parents=True, exist_ok=True)
        job = Job(args, place)
        try:
            job.here()
            if args.llama:
                job.llama()
            if args.vllm:
                job.vllm()
            if args.llama or args.vllm:
                job.here()
        finally:
            for engine in job.engines:
                engine.kill()
            if job.lines:
                job.table()


if __name__ == "__main__":
    main()
