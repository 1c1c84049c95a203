#!/usr/bin/env python3
"""Turns result pickles of DeepConf's reference code into a recording that `tts replay` and `tts sweep` read.

    python3 tools/from_deepconf.py outputs/*.pkl > traces.jsonl
    tts replay traces.jsonl --strategy deepconf-high

One line a trace: problem_id, trace, finish, tokens, answer, gold, and token_ids and confidence where the pickle holds them. Its online runs keep the
means of groups instead of the tokens' confidences; such a problem is written as the pickle has it, on one line, into a file of its own that --dumps
names, because lines of single traces cannot hold them. A pickle can run any program when it is opened: open only your own.

Needs Python 3.8, and numpy where the pickle holds arrays of it.
"""

import argparse
import json
import math
import pickle
import sys

PARTS = ("warmup_traces", "final_traces", "traces")
FINISH = {None: "stop", "stop": "stop", "eos": "stop", "length": "length", "gconf_threshold": "low_confidence", "abort": "cancelled"}


def plain(value):
    """numpy's numbers and arrays as Python's own; what is no number becomes null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def traces_of(result):
    if result.get("all_traces"):
        return list(result["all_traces"])
    return [trace for part in PARTS for trace in result.get(part) or []]


def name_of(result, place):
    for key in ("question_id", "qid", "problem_id", "id"):
        if result.get(key) is not None:
            return str(result[key])
    return place


def line_of(problem, number, trace, gold):
    reason = trace.get("stop_reason", trace.get("finish_reason"))
    if reason not in FINISH:
        raise ValueError(f"trace {number} of problem {problem} ended for an unknown reason: {reason!r}")
    line = {"problem_id": problem, "trace": number, "finish": FINISH[reason]}
    ids = plain(trace.get("token_ids"))
    confidence = plain(trace.get("confs"))
    tokens = trace.get("num_tokens") or len(ids or confidence or [])
    if not tokens:
        return None
    line["tokens"] = int(tokens)
    answer = plain(trace.get("extracted_answer"))
    line["answer"] = answer if answer != "" else None
    if gold is not None:
        line["gold"] = gold
    if trace.get("text") is not None:
        line["text"] = trace["text"]
    if ids:
        line["token_ids"] = ids
    if confidence:
        line["confidence"] = confidence
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pickles", nargs="+", help="result files")
    parser.add_argument("--dumps", metavar="FILE", help="where problems with nothing but means of groups go, as JSON lines")
    args = parser.parse_args()
    dumps = open(args.dumps, "w", encoding="utf-8") if args.dumps else None
    written, empty, grouped, counts = 0, 0, 0, {}
    for path in args.pickles:
        with open(path, "rb") as file:
            loaded = pickle.load(file)
        for i, result in enumerate(loaded if isinstance(loaded, list) else [loaded]):
            if not isinstance(result, dict):
                sys.exit(f"{path}: no result of DeepConf: a dictionary was expected, not {type(result).__name__}")
            problem = name_of(result, f"{path}#{i}")
            gold = plain(result.get("ground_truth"))
            traces = traces_of(result)
            if not any(len(t.get("confs", ())) for t in traces) and any(len(t.get("group_confs", ())) for t in traces):
                grouped += 1
                if dumps:
                    kept = {k: result[k] for k in PARTS + ("ground_truth", "config") if k in result}
                    dumps.write(json.dumps({"question_id": problem, **plain(kept)}) + "\n")
                    continue
            for trace in traces:
                # several runs of one problem are one pool
                number = counts.get(problem, 0)
                line = line_of(problem, number, trace, gold)
                if line is None:
                    empty += 1
                    continue
                counts[problem] = number + 1
                print(json.dumps(line, ensure_ascii=False))
                written += 1
    told = [f"{written} traces of {len(counts)} problems"]
    if empty:
        told.append(f"{empty} without a token were left out")
    if grouped:
        where = f"written to {args.dumps}" if dumps else "kept without confidences; --dumps FILE keeps the means of their groups"
        told.append(f"{grouped} problems hold means of groups only: {where}")
    print("; ".join(told), file=sys.stderr)


if __name__ == "__main__":
    main()
