#!/usr/bin/env python3
"""Prints as Markdown what `benches/gpu.sh run` left in a folder. Standard library alone."""

import json
import sys
from pathlib import Path

out = Path(sys.argv[1])


def lines(name):
    """The JSON lines of a part, those that were written before it was cut included."""
    path = out / name
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            pass
    return found


def text(name):
    path = out / name
    return path.read_text().strip() if path.exists() else ""


ours = [line for part in ("seven", "seven-q4", "half", "tiny") for line in lines(f"{part}.json")]
peers = lines("transformers.json")
card = text("card.txt") or "no card: " + (ours[0]["device"] if ours else "nothing ran")
memory = [int(line) for line in text("memory.txt").splitlines() if line.strip().isdigit()]
print(f"Card, driver, memory: {card}. Arithmetic: {ours[0]['tier'] if ours else 'none'}.", end=" ")
print(f"Most memory in use: {max(memory) / 1024:.1f} GiB." if memory else "Memory in use was not told.")
print()
print("| shape | weights | traces | context | ms a step | tokens/s | prefill tokens/s | GiB | transformers tokens/s | ratio |")
print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
for line in ours:
    same = [
        p for p in peers
        if (p["shape"], p["batch"]) == (line["model"], line["batch"]) and line["dtype"] == "bf16" and line["context_tokens"] == 0
    ]
    peer = f"{same[0]['decode_tokens_per_second']:.0f} | {line['decode_tokens_per_second'] / same[0]['decode_tokens_per_second']:.1f}" if same else "- | -"
    layers = f", {line['layers']} layers"
    print(
        f"| {line['model']}{layers} | {line['dtype']} | {line['batch']} | {line['prompt_tokens'] + line['context_tokens']} | "
        f"{line['step_ms']:.2f} | {line['decode_tokens_per_second']:.0f} | {line['prefill_tokens_per_second']:.0f} | "
        f"{line['predicted_bytes'] / 2**30:.1f} | {peer} |"
    )
print()
print("| part | ended with | seconds |\n|---|---:|---:|")
for line in text("parts.txt").splitlines():
    print("| {} | {} | {} |".format(*line.split()))
profile = [line for line in text("profile.txt").splitlines() if " us " in line or "kernels" in line]
if profile:
    print("\n```text\n" + "\n".join(profile) + "\n```")
