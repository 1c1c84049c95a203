#!/usr/bin/env python3
"""Decode speed of transformers on a folder, or on random weights of a Falcon-H1 shape; prints a JSON line per batch size. Run by peers.py and gpu.sh
inside an environment with transformers and torch."""

import argparse
import json
import statistics
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?")
parser.add_argument("--shape", help="a shape of random_model.py instead of a folder")
parser.add_argument("--layers", type=int)
parser.add_argument("--device", default="cpu")
parser.add_argument("--batch", default="1,8")
parser.add_argument("--prompt", type=int, default=128)
parser.add_argument("--tokens", type=int, default=8)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()



def opened():
    if not args.shape:
        return AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.bfloat16).to(args.device)
    import random_model

    config = random_model.Shape(args.shape, args.layers).config()
    config = AutoConfig.for_model(config.pop("model_type"), **config)
    with torch.device(args.device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def now():
    if args.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


if args.device == "cpu":
    torch.set_num_threads(args.threads)
model = opened().eval()
with torch.inference_mode():
    for batch in map(int, args.batch.split(",")):
        ids = torch.tensor([[31 * i % 97 + 5 for i in range(args.prompt)]] * batch, device=args.device)
        start = now()
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        first = now() - start
        steps = []
        for _ in range(args.tokens):
            before = now()
            token = torch.multinomial(out.logits[:, -1].float().softmax(-1), 1)
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
            steps.append(now() - before)
        step = statistics.median(steps)
        print(
            json.dumps(
                {
                    "peer": "transformers", "shape": args.shape, "device": args.device, "batch": batch, "prompt_tokens": args.prompt, "new_tokens": args.tokens, "threads": args.threads,
                    "first_token_seconds": first, "step_ms": step * 1e3, "decode_tokens_per_second": batch / step,
                    "prefill_tokens_per_second": batch * args.prompt / first,
                }
            ),
            flush=True,
        )
