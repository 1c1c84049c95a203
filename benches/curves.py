#!/usr/bin/env python3
"""Measures how the cost of a step grows, and draws it: tokens a second against traces and against context, prefill, memory.

    benches/curves.py                        # measures what is missing, then draws into docs/pictures/
    benches/curves.py --only context,one     # some curves
    benches/curves.py --draw                 # draws what was measured before

Every point is kept in a JSON lines file and taken again only when the binary has changed or with --fresh. Models are random weights of published
shapes. Measuring needs the standard library alone, drawing needs matplotlib.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HALF, TINY = ("falcon-h1-0.5b", "bf16"), ("tiny-90m", "bf16")
TRACES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
# 0.5B's positions end at 16,384; the 90M shape goes to 262,144
CURVES = {
    "traces": [(TINY, {"batch": b, "tokens": 17}) for b in TRACES] + [(HALF, {"batch": b, "tokens": 9}) for b in TRACES],
    "context": [(TINY, {"batch": 8, "context": c, "tokens": 33}) for c in (1024, 2048, 4096, 8192, 16384, 32768)]
    + [(HALF, {"batch": 8, "context": c, "tokens": 33}) for c in (1024, 2048, 4096, 8192, 16000)],
    "one": [(TINY, {"batch": 1, "context": c, "tokens": 33}) for c in (1024, 4096, 16384, 32768, 65536, 131072, 261888)],
    "prefill": [(TINY, {"batch": 1, "prompt": p, "tokens": 2}) for p in (128, 512, 1024, 2048, 4096, 8192)]
    + [(HALF, {"batch": 1, "prompt": p, "tokens": 2}) for p in (128, 512, 1024, 2048, 4096, 8192)],
}
NAMES = {"falcon-h1-0.5b": "0.5B", "tiny-90m": "90M"}


def measure(args, chosen):
    """Points that are not in the file yet, one run of the program each."""
    version = hashlib.sha256(Path(args.tts).read_bytes()).hexdigest()[:12]
    for curve in chosen:
        for (shape, dtype), what in CURVES[curve]:
            key = json.dumps([curve, shape, dtype, what, args.threads], sort_keys=True)
            held = {} if args.fresh else points(args)
            if held.get(key, {}).get("version") == version:
                continue
            command = [*shlex.split(args.under), args.tts, "bench", "--json", "--shape", shape, "--dtype", dtype, "--threads", str(args.threads)]
            command += ["--repeat", str(args.repeat)] + [str(w) for name, value in what.items() for w in ("--" + name, value)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                print(f"{curve} {what}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            figures = json.loads(done.stdout)
            with open(args.results, "a") as out:
                record = {"key": key, "version": version, "curve": curve, "shape": shape, "dtype": dtype, "when": int(time.time()), "figures": figures}
                out.write(json.dumps(record) + "\n")
            print(f"{curve} {NAMES[shape]} {what}: {figures['decode_tokens_per_second']:.1f} tok/s", file=sys.stderr)


def points(args):
    """The newest measurement of every point."""
    if not Path(args.results).exists():
        return {}
    records = map(json.loads, Path(args.results).read_text().splitlines())
    return {r["key"]: r for r in records}


def draw(args):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "svg.hashsalt": "tts", "figure.figsize": (6, 3.7), "svg.fonttype": "none"})
    held = points(args)

    def series(curve, x, y):
        """(shape, xs, ys) of every shape of a curve, in the order of x."""
        for shape in (HALF[0], TINY[0]):
            here = sorted((x(r["figures"]), y(r["figures"])) for r in held.values() if r["curve"] == curve and r["shape"] == shape)
            if here:
                yield shape, *zip(*here)

    def plot(name, curve, x, ys, title, xlabel, ylabel, log=True):
        figure, axes = plt.subplots()
        drawn = False
        for label, style, y in ys:
            for shape, xs, values in series(curve, x, y):
                colour = {HALF[0]: "tab:blue", TINY[0]: "tab:orange"}[shape]
                axes.plot(xs, values, style, color=colour, markersize=4, label=f"{NAMES[shape]}{label}")
                drawn = True
        if drawn:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda v, _: f"{v / 1024:g}k" if v >= 1024 else f"{v:g}")
            if log:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}")
            else:
                axes.set_ylim(bottom=0)
            axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
            axes.legend(frameon=False)
            figure.tight_layout()
            args.plots.mkdir(parents=True, exist_ok=True)
            for form in args.forms.split(","):
                metadata = {"Date": None} if form == "svg" else None
                figure.savefig(args.plots / f"{name}.{form}", metadata=metadata, dpi=110)
        plt.close(figure)

    rate = lambda f: f["decode_tokens_per_second"]
    with_context = lambda f: f["context_tokens"] + f["prompt_tokens"]
    gib = lambda field: lambda f: f[field] / 2**30
    plot("traces", "traces", lambda f: f["batch"], [("", "o-", rate)], "Decode speed by traces at a time", "traces", "tokens a second, all traces")
    plot("memory", "traces", lambda f: f["batch"], [(", measured", "o-", gib("peak_rss_bytes")), (", predicted", "--", gib("predicted_bytes"))],
         "Peak memory by traces at a time", "traces", "GiB")
    plot("context", "context", with_context, [("", "o-", rate)], "Decode speed of 8 traces by private context", "tokens behind each trace", "tokens a second, all traces", log=False)
    plot("one", "one", with_context, [("", "o-", rate)], "Decode speed of one trace by context", "tokens behind it", "tokens a second", log=False)
    plot("prefill", "prefill", lambda f: f["prompt_tokens"], [("", "o-", lambda f: f["prefill_tokens_per_second"])], "Prefill speed by length of the prompt", "tokens of the prompt",
         "tokens a second", log=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="curves with commas between them: " + ", ".join(CURVES))
    parser.add_argument("--tts", default=str(ROOT / "target/release/tts"), help="the binary")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--results", default=str(ROOT / "target/curves.jsonl"), help="JSON lines of all points")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs/pictures", help="folder of the drawings")
    parser.add_argument("--forms", default="svg", help="svg, png or both with a comma between them")
    parser.add_argument("--under", default="", help="what every program is run under, as `nice -n -15`")
    parser.add_argument("--fresh", action="store_true", help="measures everything again")
    parser.add_argument("--draw", action="store_true", help="draws and measures nothing")
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else list(CURVES)
    for curve in chosen:
        if curve not in CURVES:
            parser.error(f"--only {curve} is no curve; the curves are {', '.join(CURVES)}")
    Path(args.results).parent.mkdir(parents=True, exist_ok=True)
    if not args.draw:
        measure(args, chosen)
    draw(args)


if __name__ == "__main__":
    main()
