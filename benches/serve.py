"""Load on a `tts serve` that this script starts: hundreds of clients at once, none may be lost.

    python3 benches/serve.py target/release/tts [--clients 100,300] [--rounds 3] [--hold 1000]

Each client asks for an answer, reads it whole, and asks again; a third of them stream. Printed for each number of clients: replies, those that were not
answered as they should be, requests and tokens a second, and how long a reply took. Then with `--hold` idle connections beside them. Nothing but Python.
"""

import argparse
import asyncio
import json
import subprocess
import time

QUESTION = "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."


async def ask(address, body):
    reader, writer = await asyncio.open_connection(*address)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
    reply = await reader.read(-1)
    writer.close()
    return reply


def tokens_of(reply, streamed):
    """Generated tokens of a reply that is whole, else nothing."""
    if not reply.startswith(b"HTTP/1.1 200"):
        return None
    if not streamed:
        return json.loads(reply.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"]
    if b"data: [DONE]" not in reply:
        return None
    last = [line for line in reply.split(b"\n") if line.startswith(b'data: {') and b'"usage":{' in line][-1]
    return json.loads(last[6:])["usage"]["completion_tokens"]


async def client(address, index, rounds, traces, found):
    for i in range(rounds):
        streamed = index % 3 == 0
        body = {"messages": [{"role": "user", "content": QUESTION}], "traces": traces, "seed": index * rounds + i, "strategy": "majority"}
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        began = time.perf_counter()
        try:
            tokens = tokens_of(await ask(address, body), streamed)
        except (OSError, ValueError, KeyError, IndexError):
            tokens = None
        found.append((time.perf_counter() - began, tokens))


async def hold(address, n):
    """Connections that say nothing more than half a request."""
    held = []
    for _ in range(n):
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"POST /v1/chat/comp")
            held.append(writer)
        except OSError:
            pass
    return held


def memory(pid):
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def measure(address, clients, args, pid, held):
    found = []
    began = time.perf_counter()
    await asyncio.gather(*(client(address, i, args.rounds, args.traces, found) for i in range(clients)))
    took = time.perf_counter() - began
    times = sorted(t for t, _ in found)
    lost = sum(tokens is None for _, tokens in found)
    tokens = sum(tokens or 0 for _, tokens in found)
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))]
    print(
        f"{clients:5} clients, {held:4} idle beside them: {len(found)} requests, {lost} lost; {len(found) / took:.1f} requests/s, "
        f"{tokens / took:,.0f} tokens/s; a reply took {at(0.5):.2f} s (median), {at(0.99):.2f} s (99 %); peak memory {memory(pid):.0f} MiB",
        flush=True,
    )
    return lost


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tts")
    parser.add_argument("--clients", default="100,300")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--traces", type=int, default=8)
    parser.add_argument("--hold", type=int, default=1000)
    args = parser.parse_args()
    command = [args.tts, "serve", "--port", "0", "--quiet", "--max-requests", "1000", "--max-connections", "1000", "--memory", "1GiB"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        host, port = server.stdout.readline().strip().removeprefix("http://").split(":")
        address = (host, int(port))
        lost = 0
        numbers = [int(n) for n in args.clients.split(",")]
        for clients in numbers:
            lost += await measure(address, clients, args, server.pid, 0)
        if args.hold:
            held = await hold(address, args.hold - numbers[0])
            lost += await measure(address, numbers[0], args, server.pid, len(held))
            for writer in held:
                writer.close()
        raise SystemExit(lost > 0)
    finally:
        server.terminate()
        server.wait()


asyncio.run(main())
