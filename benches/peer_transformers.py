#!/usr/bin/env python3
"""Decode speed of transformers on a folder; prints a JSON line per batch size. Run by peers.py inside an environment with transformers and torch."""

import argparse
import json
import statistics
import time

import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--batch", default="1,8")
parser.add_argument("--prompt", type=int, default=128)
parser.add_argument("--tokens", type=int, default=8)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

torch.set_num_threads(args.threads)
model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.bfloat16).eval()
with torch.inference_mode():
    for batch in map(int, args.batch.split(",")):
        ids = torch.tensor([[31 * i % 97 + 5 for i in range(args.prompt)]] * batch)
        start = time.perf_counter()
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        first = time.perf_counter() - start
        steps = []
        for _ in range(args.tokens):
            before = time.perf_counter()
            token = torch.multinomial(out.logits[:, -1].float().softmax(-1), 1)
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
            steps.append(time.perf_counter() - before)
        step = statistics.median(steps)
        print(
            json.dumps(
                {
                    "peer": "transformers", "batch": batch, "prompt_tokens": args.prompt, "new_tokens": args.tokens, "threads": args.threads,
                    "first_token_seconds": first, "step_ms": step * 1e3, "decode_tokens_per_second": batch / step,
                    "prefill_tokens_per_second": batch * args.prompt / first,
                }
            ),
            flush=True,
        )
