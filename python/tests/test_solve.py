"""Asking questions: answers, events, asyncio, interrupts, refusals."""

import _thread
import asyncio
import json
import pickle
import subprocess
import sys
import threading
import time

import pytest
from conftest import QUESTION

import tts


def test_an_answer_says_what_the_vote_was(solver):
    answer = solver.solve(QUESTION)
    assert answer.answer == str(answer) == "20"
    assert sum(vote.traces for vote in answer.votes) <= answer.traces == 8
    assert answer.votes[0].answer == "20" and answer.votes[0].share > 0.5
    assert sum(vote.share for vote in answer.votes) == pytest.approx(1)
    assert answer.margin == pytest.approx(
        answer.votes[0].share - (answer.votes[1].share if len(answer.votes) > 1 else 0)
    )
    whole = answer.to_dict()
    assert whole["tokens"]["generated"] == answer.tokens > 0
    assert json.loads(json.dumps(whole)) == whole


def test_it_is_the_answer_of_the_command_line(solver):
    words = ["solve", QUESTION, "--traces", "8", "--strategy", "majority", "--json"]
    ended = subprocess.run([sys.executable, "-m", "tts", *words], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["digest"] == solver.solve(QUESTION).to_dict()["digest"]


def test_text_and_html_show_the_vote_and_escape_it(solver):
    answer = solver.solve(QUESTION)
    lines = repr(answer).splitlines()
    assert "'20'" in lines[0] and f"{answer.tokens:,} tokens in 8 traces" in lines[0]
    assert lines[1].split()[0] == "20" and lines[1].endswith("traces")
    assert "<strong>20</strong>" in answer._repr_html_()

    class Odd:
        """Stands for an answer that a model made of markup."""

        answer = gold = "<b>"
        tokens, traces, seconds, strategy, correct = 5, 1, 0.1, "majority", False
        votes, warnings = answer and [], ["a & b"]

    from tts._show import answer_html

    shown = answer_html(Odd())
    assert "<b>" not in shown and "&lt;b&gt;" in shown and "a &amp; b" in shown


def test_events_come_in_order_and_end_with_the_decision(solver):
    solving = solver.stream(QUESTION)
    events = list(solving)
    assert isinstance(events[0], tts.Event.Started) and events[0].slots == 8
    ended = [event for event in events if isinstance(event, tts.Event.TraceEnded)]
    assert sorted(event.trace for event in ended) == list(range(8))
    match events[-1]:
        case tts.Event.Decided(answer):
            assert answer == "20"
    answer = solving.result()
    assert answer.tokens == sum(event.tokens for event in ended)
    assert repr(ended[0]).startswith("Event.TraceEnded(trace=")


def test_asyncio_awaits_several_at_once_and_iterates(solver):
    async def ask():
        answers = await asyncio.gather(*(solver.solve_async(QUESTION) for _ in range(3)))
        solving = solver.stream(QUESTION)
        kinds = [type(event) async for event in solving]
        return answers, kinds[-1], await solving

    answers, last, streamed = asyncio.run(ask())
    assert {str(answer) for answer in [*answers, streamed]} == {"20"}
    assert last is tts.Event.Decided


def test_a_cancelled_task_cancels_its_traces():
    slow = tts.open(traces=4000, slots=4, strategy="majority")

    async def ask():
        task = asyncio.create_task(slow.solve_async(QUESTION))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    # the engine is free again: a short question does not wait behind four thousand traces
    assert slow.stream(QUESTION).cancel() is None


def test_ctrl_c_ends_a_solve(solver):
    slow = tts.open(traces=100_000, slots=8, strategy="majority")
    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        slow.solve(QUESTION)
    # and nothing else: the solver goes on
    assert str(solver.solve(QUESTION)) == "20"


def test_other_threads_run_while_the_engine_does():
    slow = tts.open(traces=2000, slots=32, strategy="majority")
    solving = slow.stream(QUESTION)
    waiter = threading.Thread(target=lambda: pytest.raises(tts.Error, solving.result))
    waiter.start()
    turns = 0
    while turns < 1000:
        turns += 1
        time.sleep(0)
    assert waiter.is_alive()
    solving.cancel()
    waiter.join(timeout=60)
    assert not waiter.is_alive()
    with pytest.raises(tts.Error, match="cancelled"):
        solving.result()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"traces": 0}, "traces 0 leaves nothing to run"),
        ({"strategy": "majorty"}, 'did you mean "majority"'),
        ({"temperature": -1}, "temperature -1: it must be between 0"),
        ({"top_k": 1.5}, "top_k 1.5: it must be a whole number"),
        ({"slots": "4y2"}, "4y2"),
        ({"time_limit": -1}, "time_limit -1"),
        ({"max_tokens": 0}, "max_tokens 0 leaves nothing"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, says):
    with pytest.raises(tts.Error, match=says):
        tts.open(**settings)


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(tts.Error, match="nothing-here"):
        tts.open(tmp_path / "nothing-here.gguf")
    with pytest.raises(tts.Error, match="127.0.0.1:9"):
        tts.remote("http://127.0.0.1:9/v1")
    with pytest.raises(TypeError):
        tts.open(trace=8)


def test_traces_come_from_an_engine_elsewhere(server):
    solver = tts.remote(server, backend_model="bundled", strategy="majority", traces=4, seed=3)
    answer = solver.solve(QUESTION)
    assert answer.traces == 4 and server in str(answer.to_dict()["machine"])


def test_an_empty_question_is_refused(solver):
    with pytest.raises(tts.Error):
        solver.solve("   ")


def test_results_of_the_extension_are_not_made_by_hand():
    for kind in (tts.Answer, tts.Vote, tts.EndedTrace, tts.Column, tts.Solving):
        with pytest.raises(TypeError):
            kind()
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(tts.open())
