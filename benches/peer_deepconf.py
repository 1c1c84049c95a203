#!/usr/bin/env python3
"""The public DeepConf package (github.com/facebookresearch/deepconf) in its online mode on vLLM's CPU backend; prints one JSON line. Run by peers.py
inside vLLM's own environment.

Reads JSON lines {"prompt", "gold", "temperature", "top_p", "max_tokens"}, the prompts as they are rendered. The package stops traces on GPUs alone;
here its check of the device is passed over, everything else is as it comes.
"""

import argparse
import contextlib
import json
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("package", help="folder that holds the package's `deepconf`")
parser.add_argument("folder", help="the model")
parser.add_argument("problems")
parser.add_argument("--traces", type=int, default=64)
parser.add_argument("--warmup", type=int, default=16)
parser.add_argument("--keep-top", type=int, default=10, help="per cent of the warm-up traces that the bar lets through")
parser.add_argument("--window", type=int, default=32)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--kv-gib", type=int, default=4)
args = parser.parse_args()

os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{args.threads - 1}"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(args.kv_gib)
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, args.package)

from deepconf import DeepThinkLLM, processors  # noqa: E402
from vllm import SamplingParams  # noqa: E402

Processor = processors.WrappedPerReqLogitsProcessor
begin = Processor.__init__


def anywhere(self, *more):
    begin(self, *more)
    self.is_cuda = True


Processor.__init__ = anywhere
problems = [json.loads(line) for line in open(args.problems)]
with contextlib.redirect_stdout(sys.stderr):
    llm = DeepThinkLLM(
        args.folder,
        tensor_parallel_size=1,
        enable_prefix_caching=False,
        enforce_eager=True,
        mamba_ssm_cache_dtype="float32",
        max_num_seqs=args.traces,
        max_model_len=2048,
        max_logprobs=20,
    )
    answers, tokens, before = [], 0, time.perf_counter()
    for p in problems:
        out = llm.deepthink(
            p["prompt"],
            mode="online",
            warmup_traces=args.warmup,
            total_budget=args.traces,
            confidence_percentile=args.keep_top,
            window_size=args.window,
            sampling_params=SamplingParams(temperature=p["temperature"], top_p=p["top_p"], max_tokens=p["max_tokens"], logprobs=20),
        )
        tokens += out.total_tokens
        vote = (out.voting_results or {}).get("min_window_weighted") or {}
        answers.append(vote.get("answer"))
    seconds = time.perf_counter() - before
correct = sum(a is not None and a.strip() == p["gold"] for a, p in zip(answers, problems))
print(json.dumps({"seconds": seconds, "tokens": tokens, "correct": correct, "problems": len(problems)}), flush=True)
os._exit(0)
