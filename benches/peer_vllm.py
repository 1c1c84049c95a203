#!/usr/bin/env python3
"""Decode speed of vLLM's CPU backend on a folder; prints a JSON line per batch size, or one for a whole job. Run by peers.py inside vLLM's own
environment.

The engine runs in this process and is stepped by hand, so that the time to the first token of all traces and the steps after it are told apart.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--batch", default="1,8,64")
parser.add_argument("--prompt", type=int, default=128)
parser.add_argument("--tokens", type=int, default=64)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--budget", type=float, default=60.0, help="seconds of decoding after which a batch size is cut short")
parser.add_argument("--logprobs", type=int)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--kv-gib", type=int, default=8)
parser.add_argument("--job", help="JSON file with [prompt tokens, tokens to generate] of every trace: offline generation of all of them instead")
args = parser.parse_args()
batches = [int(b) for b in args.batch.split(",")]
job = json.load(open(args.job)) if args.job else None
if job:
    # eight problems of 64 traces at a time: the fastest of the sizes tried
    batches = [512]
    args.prompt, args.tokens = max(p for p, _ in job), max(n for _, n in job)

os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{args.threads - 1}"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(args.kv_gib)
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ["HF_HUB_OFFLINE"] = "1"

from vllm import LLM, SamplingParams  # noqa: E402

READ_AT_ONCE = max(2048, args.prompt)
before = time.perf_counter()
llm = LLM(
    args.folder,
    dtype="bfloat16",
    skip_tokenizer_init=True,
    enforce_eager=not args.compile,
    enable_prefix_caching=False,
    mamba_ssm_cache_dtype="float32",
    max_num_seqs=max(batches),
    max_model_len=args.prompt + args.tokens + max(batches) * args.prompt // READ_AT_ONCE + 8,
    max_num_batched_tokens=READ_AT_ONCE,
    max_logprobs=max(args.logprobs or 0, 20),
)
load = time.perf_counter() - before
engine = llm.llm_engine


def run(batch, prompt, tokens):
    """Seconds to the first token of every trace, then seconds of every later step in which all traces take one token."""
    # traces whose prompt was read early decode while others' prompts are read: they must not end before the last has begun
    tokens += batch * prompt // READ_AT_ONCE + 1
    params = SamplingParams(
        temperature=1.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False, logprobs=args.logprobs
    )
    for i in range(batch):
        p = params.clone()
        p.seed = None
        engine.add_request(f"{prompt}-{tokens}-{batch}-{i}-{time.monotonic_ns()}", {"prompt_token_ids": ids(prompt)}, p)
    start = time.perf_counter()
    first, steps, counts = None, [], {}
    while engine.has_unfinished_requests():
        before = time.perf_counter()
        outputs = engine.step()
        now = time.perf_counter()
        if first is not None and len(outputs) == batch:
            steps.append(now - before)
            if now - start - first > args.budget and len(steps) >= 3:
                engine.abort_request([o.request_id for o in outputs])
                break
        for o in outputs:
            counts[o.request_id] = len(o.outputs[0].token_ids)
        if first is None and len(counts) == batch and all(counts.values()):
            first = now - start
    while engine.has_unfinished_requests():
        engine.step()
    return first, steps


def ids(n):
    return [31 * i % 97 + 5 for i in range(n)]


def whole_job():
    """All traces through `LLM.generate`, as an offline run would do it, each as long as it was in the run that is compared."""
    prompts = [{"prompt_token_ids": ids(prompt)} for prompt, _ in job]
    params = [
        SamplingParams(temperature=1.0, max_tokens=n, min_tokens=n, ignore_eos=True, detokenize=False, logprobs=args.logprobs) for _, n in job
    ]
    start = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds = time.perf_counter() - start
    tokens = sum(len(o.outputs[0].token_ids) for o in outputs)
    return {"peer": "vllm", "seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds, "load_seconds": load}


run(1, args.prompt, 3)
if job:
    print(json.dumps(whole_job()), flush=True)
    os._exit(0)
for batch in batches:
    first, steps = run(batch, args.prompt, args.tokens)
    step = statistics.median(steps) if steps else None
    print(
        json.dumps(
            {
                "peer": "vllm", "batch": batch, "prompt_tokens": args.prompt, "new_tokens": len(steps) + 1, "threads": args.threads,
                "compiled": args.compile, "first_token_seconds": first, "step_ms": step and step * 1e3,
                "decode_tokens_per_second": step and batch / step, "prefill_tokens_per_second": batch * args.prompt / first,
                "load_seconds": load, "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        ),
        flush=True,
    )
sys.stdout.flush()
os._exit(0)
