"""Uses a running `tts serve` through LiteLLM, LangChain and `llm`, whichever are installed, and calls tools:

    pip install openai litellm langchain-openai llm
    tts serve --model qwen2.5-coder-1.5b.gguf --traces 8 &
    python3 tests/agent_clients.py http://127.0.0.1:8080/v1 qwen2.5-coder-1.5b

The model's chat template must know tools, and the model must be good enough to call one when it is asked to.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

QUESTION = "What is the weather in Paris? Use the tool."
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def expect(what, right):
    if not right:
        raise SystemExit(f"{what} is not as it should be")


def official(url, model):
    import openai

    client = openai.OpenAI(base_url=url, api_key="any")
    messages = [{"role": "user", "content": QUESTION}]
    reply = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], seed=1)
    choice = reply.choices[0]
    calls = choice.message.tool_calls
    expect("the finish reason of a call", choice.finish_reason == "tool_calls")
    expect("the call", calls[0].function.name == "weather" and "Paris" in json.loads(calls[0].function.arguments)["city"])
    name, arguments = "", ""
    for chunk in client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], seed=1, stream=True):
        for part in chunk.choices[0].delta.tool_calls or []:
            name += part.function.name or ""
            arguments += part.function.arguments or ""
    expect("a call in a stream", (name, arguments) == ("weather", calls[0].function.arguments))
    messages += [choice.message, {"role": "tool", "tool_call_id": calls[0].id, "content": "Rain, 12 degrees."}]
    after = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], seed=1)
    expect("the answer after a call", "12" in (after.choices[0].message.content or ""))
    expect("cached tokens", after.usage.prompt_tokens_details.cached_tokens > 0)
    response = client.responses.create(model=model, input="Say hello.")
    expect("a response", response.status == "completed" and response.output_text)
    with client.responses.stream(model=model, input="Say hello.") as events:
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        expect("a response's stream", text == events.get_final_response().output_text != "")
    flat = {"type": "function", **WEATHER["function"]}
    called = client.responses.create(model=model, input=QUESTION, tools=[flat])
    expect("a call in a response", any(item.type == "function_call" and item.name == "weather" for item in called.output))


def litellm(url, model):
    import litellm

    asked = {"model": f"openai/{model}", "api_base": url, "api_key": "any"}
    messages = [{"role": "user", "content": QUESTION}]
    reply = litellm.completion(messages=messages, tools=[WEATHER], tool_choice="auto", **asked)
    expect("LiteLLM's call", reply.choices[0].message.tool_calls[0].function.name == "weather")
    chunks = litellm.completion(messages=[{"role": "user", "content": "Say hello."}], stream=True, **asked)
    expect("LiteLLM's stream", "".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def langchain(url, model):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"Rain in {city}, 12 degrees."

    chat = ChatOpenAI(model=model, base_url=url, api_key="any").bind_tools([weather])
    history = [HumanMessage(QUESTION)]
    reply = chat.invoke(history)
    expect("LangChain's call", reply.tool_calls[0]["name"] == "weather")
    history += [reply, ToolMessage(weather.invoke(reply.tool_calls[0]["args"]), tool_call_id=reply.tool_calls[0]["id"])]
    expect("LangChain's answer", "12" in chat.invoke(history).content)
    expect("LangChain's stream", "".join(part.content for part in chat.stream("Say hello.")))


def llm(url, model):
    with tempfile.TemporaryDirectory() as folder:
        entry = f"- model_id: tts\n  model_name: {model}\n  api_base: {url}\n"
        pathlib.Path(folder, "extra-openai-models.yaml").write_text(entry)
        env = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": "any"}
        program = pathlib.Path(sys.executable).with_name("llm")
        ran = subprocess.run([program, "-m", "tts", "Say hello."], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        expect("llm's answer", ran.returncode == 0 and ran.stdout.strip())


def main():
    url, model = sys.argv[1:]
    os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False")
    for package, use in [("openai", official), ("litellm", litellm), ("langchain_openai", langchain), ("llm", llm)]:
        if importlib.util.find_spec(package):
            use(url, model)
            print(f"{package}: as it should be")
        else:
            print(f"{package}: not installed")


if __name__ == "__main__":
    main()
