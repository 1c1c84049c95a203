#!/usr/bin/env python3
"""A strategy of your own: majority that ends as soon as the leader is LEAD votes ahead.

    tts solve "..." --traces 64 --slots 8 --strategy "exec:python3 examples/policy.py"
    tts replay RUN --strategy "exec:python3 examples/policy.py 5"

One JSON object a line comes in, one goes out; src/policy.rs says what they hold.
"""

import json
import sys
from collections import Counter

LEAD = int(sys.argv[1]) if len(sys.argv) > 1 else 3


def answer(event):
    global voters
    match event["event"]:
        case "hello":
            return {"protocol": 1}
        case "begin":
            voters = {}
            return {"launch": event["traces"]}
        case "finished":
            if event["finish"] == "stop" and event["class"] is not None:
                voters[event["trace"]] = event["class"]
            ahead = [n for _, n in Counter(voters.values()).most_common(2)] + [0, 0]
            return {"done": True} if ahead[0] - ahead[1] >= LEAD else {}
        case "decide":
            return {"ballots": [{"trace": trace, "weight": 1.0} for trace in voters]}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
