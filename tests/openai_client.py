"""Uses a running `tts serve` through the official client: python3 tests/openai_client.py http://127.0.0.1:8080/v1"""

import asyncio
import sys

import openai

QUESTION = [{"role": "user", "content": "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."}]


def expect(what, right):
    if not right:
        raise SystemExit(f"{what} is not as it should be")


def whole(client):
    reply = client.chat.completions.create(model="bundled", messages=QUESTION, seed=1)
    message = reply.choices[0].message
    expect("the answer", "20" in message.content and reply.tts["answer"] == "20")
    expect("the finish reason", reply.choices[0].finish_reason == "stop")
    expect("the usage", reply.usage.completion_tokens == reply.tts["tokens"]["generated"] > 0)
    expect("the reasoning tokens", 0 < reply.usage.completion_tokens_details.reasoning_tokens < reply.usage.completion_tokens)
    named = client.chat.completions.create(model="bundled@deepconf-low-24", messages=QUESTION, seed=1)
    fields = client.chat.completions.create(
        model="bundled", messages=QUESTION, seed=1, extra_body={"strategy": "deepconf-low", "traces": 24}
    )
    expect("settings by name", named.tts["digest"] == fields.tts["digest"] and named.tts["strategy"] == "deepconf-low")
    several = client.chat.completions.create(model="bundled", messages=QUESTION, n=2, logprobs=True, top_logprobs=3, stop=["\n\n\n"])
    expect("choices", [c.index for c in several.choices] == [0, 1])
    for choice in several.choices:
        tokens = choice.logprobs.content
        expect("log-probabilities", "".join(t.token for t in tokens).strip() == choice.message.content)
        expect("alternatives", all(len(t.top_logprobs) == 3 for t in tokens))


def stream(client):
    content, reasoning, last, usage = "", "", None, None
    with client.chat.completions.create(
        model="bundled", messages=QUESTION, stream=True, stream_options={"include_usage": True}, extra_body={"traces": 12}
    ) as chunks:
        for chunk in chunks:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                content += choice.delta.content or ""
                reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                if choice.finish_reason:
                    last = chunk
    expect("the content of a stream", "20" in content)
    expect("progress", "12 traces at most" in reasoning)
    expect("the end of a stream", last.choices[0].finish_reason == "stop" and last.tts["answer"] == "20")
    expect("the usage of a stream", usage.completion_tokens == last.tts["tokens"]["generated"])
    # leaving early frees the traces
    left = client.chat.completions.create(
        model="bundled", messages=QUESTION, stream=True, extra_body={"traces": 512, "ignore_eos": True, "loop_stop": False}
    )
    next(iter(left))
    left.close()


def read(chunks):
    """A choice's thinking, content and log-probabilities put together, and in how many chunks they came."""
    reasoning, content, logprobs, finish, parts = "", "", [], None, 0
    for chunk in chunks:
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            content += choice.delta.content or ""
            logprobs += choice.logprobs.content if choice.logprobs else []
            finish = choice.finish_reason or finish
            parts += 1
    return reasoning, content, logprobs, finish, parts


def lone(client):
    for seed in range(4):
        ask = dict(model="bundled", messages=QUESTION, seed=seed, logprobs=True, top_logprobs=2, extra_body={"traces": 1})
        message = client.chat.completions.create(**ask).choices[0]
        reasoning, content, logprobs, finish, parts = read(client.chat.completions.create(stream=True, **ask))
        expect("a lone trace's thinking", reasoning == (getattr(message.message, "reasoning_content", None) or ""))
        expect("a lone trace's content", content == message.message.content)
        expect("a lone trace's log-probabilities", logprobs == message.logprobs.content)
        expect("a lone trace's end", finish == message.finish_reason)
        expect("a lone trace's parts", parts > 3)
        ask = dict(model="bundled", prompt="2 + 2 = ", max_tokens=40, seed=seed, stop=["7"], extra_body={"traces": 1})
        text = "".join(c.choices[0].text for c in client.completions.create(stream=True, **ask))
        expect("a lone completion", text == client.completions.create(**ask).choices[0].text and "7" not in text)


def names(client):
    ask = dict(model="bundled", messages=QUESTION, seed=1, extra_headers={"Idempotency-Key": "asked-twice"})
    first, second = client.chat.completions.create(**ask), client.chat.completions.create(**ask)
    expect("one name, one reply", first == second)
    try:
        client.chat.completions.create(**ask | {"seed": 2})
    except openai.UnprocessableEntityError:
        pass
    else:
        raise SystemExit("a name was given to two requests")


def rest(client):
    expect("the models", client.models.list().data[0].id == "bundled")
    expect("a model", client.models.retrieve("bundled@majority").id == "bundled@majority")
    text = client.completions.create(model="bundled", prompt="2 + 2 = ", max_tokens=8, logprobs=2, extra_body={"traces": 1})
    expect("a completion", "".join(text.choices[0].logprobs.tokens) == text.choices[0].text)
    parts = [c.choices[0].text for c in client.completions.create(model="bundled", prompt="2 + 2 = ", max_tokens=8, stream=True)]
    expect("a completion's stream", len("".join(parts)) > 0)
    for wrong, error in [
        ({"model": "gpt-4o"}, openai.NotFoundError),
        ({"temperature": 1000}, openai.BadRequestError),
        ({"n": 1000}, openai.BadRequestError),
    ]:
        try:
            client.chat.completions.create(**{"model": "bundled", "messages": QUESTION, **wrong})
        except error as refused:
            expect("an error's message", len(refused.body["message"]) > 10)
        else:
            raise SystemExit(f"{wrong} was not refused")


async def together(url):
    async with openai.AsyncOpenAI(base_url=url, api_key="any") as client:
        ask = lambda seed: client.chat.completions.create(model="bundled", messages=QUESTION, seed=seed)
        replies = await asyncio.gather(*(ask(seed % 4) for seed in range(16)))
    expect("equal seeds", len({r.tts["digest"] for r in replies}) == 4)


def main():
    url = sys.argv[1]
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=120) as client:
        whole(client)
        stream(client)
        lone(client)
        names(client)
        rest(client)
    asyncio.run(together(url))
    print(f"openai {openai.__version__}: chat, streams, completions, models, errors and 16 requests at once")


main()
