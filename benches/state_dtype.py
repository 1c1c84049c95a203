#!/usr/bin/env python3
"""What bf16 Mamba states do to confidences and log-probabilities, by distance from the beginning of a text.

    benches/state_dtype.py --tts target/release/tts                     # the bundled model
    benches/state_dtype.py --tts target/release/tts --model DIR --tokens 8000

Writes texts with f32 states, reads each with f32 and with bf16 ones, and compares what the two say at every position. Weights, keys and values
are f32 in both, so that nothing else differs. Standard library alone.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tts", default=str(ROOT / "target/release/tts"), help="the binary")
    parser.add_argument("--model", help="a model other than the bundled one")
    parser.add_argument("--texts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=3900, help="tokens of a text")
    parser.add_argument("--start", default="Find the remainder when 7^53 is divided by 23.", help="how every text begins")
    args = parser.parse_args()

    def tts(command, *more):
        command = [args.tts, command, *(["--model", args.model] if args.model else []), "--dtype", "f32", "--json", "--quiet", *map(str, more)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0])

    reads = []
    for seed in range(args.texts):
        ids = tts("complete", "--text", args.start, "--max-tokens", args.tokens, "--ignore-eos", "--temperature", 1, "--top-p", 1, "--seed", seed)["token_ids"]
        text = ",".join(map(str, ids))
        reads.append([tts("score", "--token-ids", text, "--state-dtype", held) for held in ("f32", "bf16")])

    print("| tokens | confidence: mean difference | largest | its standard deviation over the text | log-probability: mean difference | largest | same first choice |")
    print("|---|---|---|---|---|---|---|")
    edges = [0, 256, 1024, 2048, *range(4096, args.tokens, 4096), args.tokens]
    for low, high in zip(edges, edges[1:]):
        if low >= high:
            continue

        def differences(field):
            return [abs(a[field][i] - b[field][i]) for a, b in reads for i in range(max(low, 1), min(high, len(a[field])))]

        confidence, logprob = differences("confidence"), differences("logprobs")
        spread = statistics.pstdev(c for a, _ in reads for c in a["confidence"][low:high])
        first = [a["top"][i][0][0] == b["top"][i][0][0] for a, b in reads for i in range(low, min(high, len(a["top"])))]
        figures = [statistics.mean(confidence), max(confidence), spread, statistics.mean(logprob), max(logprob)]
        print(f"| {low:,} to {high:,} | {' | '.join(f'{f:.2g}' for f in figures)} | {100 * statistics.mean(first):.2f}% |")


if __name__ == "__main__":
    main()
