#!/usr/bin/env python3
"""Measures two builds of tts against each other on this machine, in alternation, and prints the ratios of medians as Markdown.

    cargo build --release && cp target/release/tts /tmp/before       # at the older commit
    benches/before_after.py /tmp/before target/release/tts
    benches/before_after.py /tmp/before target/release/tts --only bundled,tiny --rounds 9
    benches/before_after.py A B --quick                              # everything once, small: whether it runs

Every round runs all rows with one program and then with the other, and which goes first changes from round to round, so that what else the machine does
meets both. Random weights of published shapes, so nothing is needed but the two programs. A ratio is after / before of speeds (time: before / after), so above
1 is faster; the exit code is 1 if one is below --least. Standard library alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# name of the group: what `tts bench` is told; batch sizes
BENCHES = {
    "half-bf16": (["--shape", "falcon-h1-0.5b", "--dtype", "bf16"], [1, 8, 64]),
    "half-q8": (["--shape", "falcon-h1-0.5b", "--dtype", "q8_0"], [1, 8, 64]),
    "tiny": (["--shape", "tiny-90m", "--dtype", "bf16"], [512]),
}


def run(program, args, **more):
    env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True, env=env, **more)
    # a problem without an answer is an answer here
    if done.returncode not in (0, 1):
        sys.exit(f"{program} {' '.join(map(str, args))}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def bench(program, name, args):
    """{row: (figure, whether more is better)} of one group."""
    told, batches = BENCHES[name]
    more = ["--batch", "1,2", "--tokens", 2, "--prompt", 8, "--layers", 1] if args.quick else ["--batch", ",".join(map(str, batches))]
    more += [] if args.quick else ["--tokens", args.tokens, "--prompt", args.prompt]
    rows = {}
    for line in objects(run(program, ["bench", "--json", "--repeat", 1, "--threads", args.threads, *told, *more])):
        rows[f"{name}, {line['batch']} traces, decode tok/s"] = (line["decode_tokens_per_second"], True)
        rows[f"{name}, prompt of {line['prompt_tokens']}, prefill tok/s"] = (line["prefill_tokens_per_second"], True)
    return rows


def job(program, args, folder):
    """The whole job: 30 generated problems with 64 traces each, process start to end; and the first answer of one trace."""
    problems = f"{folder}/problems.jsonl"
    if not os.path.exists(problems):
        count = 2 if args.quick else 30
        with open(problems, "w") as out:
            out.write(run(program, ["generate", "--count", count, "--seed", 7]))
    traces = 4 if args.quick else 64
    command = ["solve", "--json", "--data", problems, "--traces", traces, "--threads", args.threads, "--strategy"]
    rows = {}
    for strategy in ["majority", "deepconf-low"]:
        before = time.perf_counter()
        solved = objects(run(program, [*command, strategy]))
        rows[f"bundled, {len(solved)} x {traces} {strategy}, seconds"] = (time.perf_counter() - before, False)
        rows[f"bundled, {len(solved)} x {traces} {strategy}, digest"] = ("".join(p["digest"] for p in solved), None)
    before = time.perf_counter()
    run(program, ["complete", "--text", "17*23=", "--max-tokens", 1])
    rows["bundled, seconds of a command for its first token"] = (time.perf_counter() - before, False)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--only", default="bundled," + ",".join(BENCHES), help="groups: bundled, " + ", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--least", type=float, default=0.98, help="smallest ratio that is no loss")
    parser.add_argument("--quick", action="store_true", help="one round of small workloads: only whether everything runs")
    args = parser.parse_args()
    groups = args.only.split(",")
    if wrong := [g for g in groups if g != "bundled" and g not in BENCHES]:
        parser.error(f"no group is called {wrong[0]}: bundled, {', '.join(BENCHES)}")
    programs = {"before": args.before, "after": args.after}
    taken = {side: {} for side in programs}
    better = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1 if args.quick else args.rounds):
            for group in groups:
                for side in ["before", "after"] if turn % 2 == 0 else ["after", "before"]:
                    print(f"round {turn + 1}: {group}, {side}", file=sys.stderr)
                    found = job(programs[side], args, folder) if group == "bundled" else bench(programs[side], group, args)
                    for row, (figure, more) in found.items():
                        taken[side].setdefault(row, []).append(figure)
                        better[row] = more
    worst = 9e9
    print("| | before | after | ratio |\n|---|---|---|---|")
    for row, more in better.items():
        both = [taken[side][row] for side in programs]
        if more is None:
            same = len({figure for figures in both for figure in figures}) == 1
            print(f"| {row} | | | {'the same' if same else 'ANOTHER'} |")
            continue
        before, after = map(statistics.median, both)
        ratio = after / before if more else before / after
        worst = min(worst, ratio)
        spread = " to ".join(f"{x:.3g}" for x in (min(both[1]), max(both[1])))
        print(f"| {row} | {before:.4g} | {after:.4g} ({spread}) | {ratio:.3f} |")
    print(f"\nleast ratio {worst:.3f}; medians of {1 if args.quick else args.rounds} rounds, {args.threads} threads")
    sys.exit(1 if worst < args.least and not args.quick else 0)


if __name__ == "__main__":
    main()
