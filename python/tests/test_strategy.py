"""Strategies as Python classes: live, over recordings, in sweeps, and when they fail."""

import math
import traceback

import pytest
from conftest import QUESTION

import tts


class Majority(tts.Strategy):
    """All traces, one vote each."""


class FirstTwo(tts.Strategy):
    """Two at a time, until two agree."""

    def begin(self, traces, slots, max_tokens):
        assert traces == 8 and max_tokens > 0
        self.seen = []
        return 2

    def finished(self, trace):
        self.seen.append(trace.answer_class)
        if trace.answer_class is not None and self.seen.count(trace.answer_class) == 2:
            return tts.DONE
        return 2 if len(self.seen) % 2 == 0 else None


class StopUnsure(tts.Strategy):
    """Stops a trace once the mean of its last tokens' confidences is below a bar, and weighs the others."""

    window = 16

    def __init__(self, bar):
        self.bar = bar
        self.recent = {}

    def token(self, trace, confidence, logprob):
        assert logprob <= 0
        recent = self.recent.setdefault(trace, [])
        recent.append(confidence)
        del recent[: -self.window]
        return len(recent) == self.window and sum(recent) / self.window < self.bar

    def begin(self, traces, slots, max_tokens):
        self.weights = {}
        return traces

    def finished(self, trace):
        if trace.finish == "stop" and trace.answer_class is not None:
            self.weights[trace.trace] = trace.scores["lowest_group"]

    def decide(self):
        return self.weights


def test_the_base_class_is_majority(solver):
    own = tts.open(traces=8, strategy=Majority).solve(QUESTION)
    theirs = solver.solve(QUESTION)
    assert own.strategy == "Majority"
    assert own.to_dict()["digest"] == theirs.to_dict()["digest"]
    assert [(v.answer, v.weight) for v in own.votes] == [(v.answer, v.weight) for v in theirs.votes]


def test_a_strategy_launches_and_ends():
    answer = tts.open(traces=8, strategy=FirstTwo).solve(QUESTION)
    assert str(answer) == "20" and 2 <= answer.traces < 8


def test_tokens_stop_traces_and_a_replay_does_the_same(recording):
    live = tts.open(traces=8, strategy=StopUnsure(6.5)).evaluate("heldout", limit=6)
    again = tts.replay(recording, strategy=StopUnsure(6.5), slots=64)
    fates = [answer.to_dict()["traces"] for answer in live]
    assert sum(f["stopped"] for f in fates) > 0 and sum(f["finished"] for f in fates) > 0
    assert fates == [answer.to_dict()["traces"] for answer in again]
    assert [(a.answer, a.tokens) for a in live] == [(a.answer, a.tokens) for a in again]
    assert all(math.isfinite(vote.weight) for answer in again for vote in answer.votes)


def test_each_problem_has_a_copy_of_its_own():
    class Counts(tts.Strategy):
        problems = 0

        def __init__(self):
            self.begun = 0

        def begin(self, traces, slots, max_tokens):
            self.begun += 1
            assert self.begun == 1
            return traces

    strategy = Counts()
    tts.open(traces=2, strategy=strategy).evaluate("heldout", limit=3)
    assert strategy.begun == 0


def test_a_strategy_is_swept_beside_others(recording, tmp_path):
    swept = tts.sweep(
        recording, strategies=[Majority, "majority"], traces=[2, 8], resamples=4, run=tmp_path / "s"
    )
    rows = {(row["strategy"], row["budget"]): row for row in swept.rows}
    assert len(rows) == 4
    for budget in (2, 8):
        assert rows["Majority", budget]["tokens"] == rows["majority", budget]["tokens"]
        assert rows["Majority", budget]["accuracy"] == rows["majority", budget]["accuracy"]


class Fails(tts.Strategy):
    def __init__(self, where):
        self.where = where

    def begin(self, traces, slots, max_tokens):
        if self.where == "begin":
            raise LookupError("in begin")
        return traces

    def finished(self, trace):
        if self.where == "finished":
            raise LookupError("in finished")

    def decide(self):
        if self.where == "decide":
            raise LookupError("in decide")


@pytest.mark.parametrize("where", ["begin", "finished", "decide"])
def test_an_exception_comes_out_with_its_traceback(where, recording):
    for run in (
        lambda: tts.open(traces=4, strategy=Fails(where)).solve(QUESTION),
        lambda: tts.open(traces=4, strategy=Fails(where)).stream(QUESTION).result(),
        lambda: list(tts.open(traces=4, strategy=Fails(where)).stream(QUESTION)),
        lambda: tts.open(traces=4, strategy=Fails(where)).evaluate("heldout", limit=2),
        lambda: tts.replay(recording, strategy=Fails(where)),
    ):
        with pytest.raises(LookupError, match=f"in {where}") as raised:
            run()
        assert f'raise LookupError("in {where}")' in "".join(traceback.format_exception(raised.value))


def test_an_exception_at_a_token_comes_out():
    class AtToken(tts.Strategy):
        def token(self, trace, confidence, logprob):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tts.open(traces=4, strategy=AtToken).solve(QUESTION)


@pytest.mark.parametrize(
    ("method", "gives", "error", "says"),
    [
        ("begin", 0, TypeError, "at least 1, not 0"),
        ("begin", "many", TypeError, "not many"),
        ("finished", "soon", TypeError, "tts.DONE, not soon"),
        ("finished", -1, TypeError, "not -1"),
        ("decide", [0], TypeError, "a dict of weights"),
        ("decide", {0: -1.0}, tts.Error, "weight -1"),
        ("decide", {99: 1.0}, tts.Error, "trace 99 vote, which has not ended"),
    ],
)
def test_what_a_strategy_may_not_say_is_named(method, gives, error, says):
    odd = type("Odd", (tts.Strategy,), {method: lambda self, *a: gives})
    with pytest.raises(error, match=says):
        tts.open(traces=8, strategy=odd).solve(QUESTION)


def test_what_is_no_strategy_is_refused():
    for wrong in (7, object(), int):
        with pytest.raises(TypeError, match="a class derived from tts.Strategy"):
            tts.open(strategy=wrong)
    unknown = type("Unknown", (tts.Strategy,), {"needs": ("sureness",)})
    with pytest.raises(ValueError, match="sureness"):
        tts.open(strategy=unknown)


def test_a_recording_without_confidences_is_refused_for_tokens(tmp_path):
    lines = [f'{{"problem_id": "a", "trace": {i}, "answer": "3", "tokens": 9}}\n' for i in range(4)]
    (tmp_path / "pool.jsonl").write_text("".join(lines))
    assert str(tts.replay(tmp_path / "pool.jsonl", strategy=Majority)[0]) == "3"
    with pytest.raises(tts.Error, match="confidence"):
        tts.replay(tmp_path / "pool.jsonl", strategy=StopUnsure(5.0))


def test_a_run_that_a_class_decided_is_named_by_it(tmp_path):
    strategy = FirstTwo
    tts.open(traces=8, strategy=strategy).evaluate("heldout", limit=1, run=tmp_path / "run")
    assert tts.load_run(tmp_path / "run").decisions["strategy"] == ["FirstTwo"]
    with pytest.raises(tts.Error, match="FirstTwo`, an object of its user's program"):
        tts.replay(tmp_path / "run")
