#!/usr/bin/env python3
"""What holding Mamba states, or keys and values, in fewer bits does to confidences and log-probabilities, by distance from the beginning of a text.

    benches/cache_dtype.py --tts target/release/tts                     # states of the bundled model: bf16 beside f32
    benches/cache_dtype.py --model DIR --flag kv-dtype --formats f32,bf16,q8_0 --read benches/peers.py

Writes texts with the model as its file is (or takes the beginning of a file), reads each with every format, and compares what the others say at every position with what the first
says. Weights, and what the flag does not speak of, are f32 in all, so that nothing else differs. Standard library alone.
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
    parser.add_argument("--flag", choices=("state-dtype", "kv-dtype"), default="state-dtype", help="what is held otherwise")
    parser.add_argument("--formats", default="f32,bf16", help="how; the first is what the others are compared with")
    parser.add_argument("--texts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=3900, help="tokens of a text")
    parser.add_argument("--read", type=Path, help="a file whose first 3 characters a token are read instead of texts that the model writes")
    parser.add_argument("--start", default="Find the remainder when 7^53 is divided by 23.", help="how every text begins")
    args = parser.parse_args()

    def tts(command, *more):
        command = [args.tts, command, *(["--model", args.model] if args.model else []), "--json", "--quiet", *map(str, more)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0])

    formats = args.formats.split(",")

    def written(seed):
        ids = tts("complete", "--text", args.start, "--max-tokens", args.tokens, "--ignore-eos", "--temperature", 1, "--top-p", 1, "--seed", seed)["token_ids"]
        return "--token-ids", ",".join(map(str, ids))

    texts = [("--text", args.read.read_text()[: 3 * args.tokens])] if args.read else [written(seed) for seed in range(args.texts)]
    reads = [[tts("score", *text, "--dtype", "f32", f"--{args.flag}", held) for held in formats] for text in texts]

    print(f"| {args.flag} | tokens | confidence: mean difference | largest | its standard deviation over the text | log-probability: mean difference | largest | same first choice |")
    print("|---|---|---|---|---|---|---|---|")
    edges = [0, 256, 1024, 2048, *range(4096, args.tokens, 4096), args.tokens]
    for held in range(1, len(formats)):
        pairs = [(read[0], read[held]) for read in reads]
        for low, high in zip(edges, edges[1:]):
            if low >= high:
                continue

            def differences(field):
                return [abs(a[field][i] - b[field][i]) for a, b in pairs for i in range(max(low, 1), min(high, len(a[field])))]

            confidence, logprob = differences("confidence"), differences("logprobs")
            spread = statistics.pstdev(c for a, _ in pairs for c in a["confidence"][low:high])
            first = [a["top"][i][0][0] == b["top"][i][0][0] for a, b in pairs for i in range(low, min(high, len(a["top"])))]
            figures = [statistics.mean(confidence), max(confidence), spread, statistics.mean(logprob), max(logprob)]
            print(f"| {formats[held]} | {low:,} to {high:,} | {' | '.join(f'{f:.2g}' for f in figures)} | {100 * statistics.mean(first):.2f}% |")


if __name__ == "__main__":
    main()
