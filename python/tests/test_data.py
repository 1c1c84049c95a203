"""Sets of problems, sweeps, recordings as columns, and answers."""

import json
import struct

import pytest

import tts

PROBLEMS = [
    {"id": "a", "problem": "Let a_1 = 22 and a_{n+1} = 7 a_n + 4 mod 23. Find a_17.", "answer": "5"},
    {"id": "b", "problem": "Find the remainder when 8^46 is divided by 23."},
]


def test_a_set_of_dicts_is_graded(solver):
    told = []
    done = solver.evaluate(PROBLEMS, on_answer=told.append)
    assert [answer.problem_id for answer in done] == ["a", "b"] == [a.problem_id for a in told]
    assert (done[0].gold, done[0].correct, done[1].correct) == ("5", done[0].answer == "5", None)
    assert done.accuracy == float(done[0].correct)
    low, high = done.interval
    assert low <= done.accuracy <= high
    assert done.tokens == sum(answer.tokens for answer in done)
    assert "2 problems" in repr(done) and "<table>" in done._repr_html_()
    assert "tokens" in repr(solver.evaluate(PROBLEMS[1:])), "no accuracy without a right answer"


def test_an_evaluation_goes_on_where_it_stopped(tmp_path):
    solver = tts.open(traces=4, strategy="majority")

    def stop(answer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solver.evaluate("heldout", limit=3, run=tmp_path / "run", on_answer=stop)
    before = tts.load_run(tmp_path / "run").decisions.rows
    assert before >= 1
    done = solver.evaluate("heldout", limit=3, run=tmp_path / "run")
    fresh = solver.evaluate("heldout", limit=3)
    assert [a.to_dict()["digest"] for a in done] == [a.to_dict()["digest"] for a in fresh]
    assert tts.load_run(tmp_path / "run").decisions.rows == 3


def test_other_settings_do_not_mix(recording):
    with pytest.raises(tts.Error, match="seed"):
        tts.open(traces=8, strategy="majority", seed=7).evaluate("heldout", limit=6, run=recording)


def test_sets_that_are_none_are_named(solver, tmp_path):
    with pytest.raises(tts.Error, match="did you mean `heldout`"):
        solver.evaluate("heldot")
    with pytest.raises(tts.Error, match="nowhere.jsonl"):
        solver.evaluate(tmp_path / "nowhere.jsonl")
    with pytest.raises(tts.Error, match="question"):
        solver.evaluate([{"qid": 1, "text": "What is 1 + 1?"}])


def test_a_replay_decides_as_the_run_did(recording, solver):
    live = solver.evaluate("heldout", limit=6)
    for again in (tts.replay(recording), tts.replay(recording, strategy="majority", slots=3)):
        assert [(a.answer, a.tokens, a.correct) for a in again] == [
            (a.answer, a.tokens, a.correct) for a in live
        ]
    fewer = tts.replay(recording, strategy="adaptive-consistency", traces=4)
    assert fewer.tokens < live.tokens
    wrong = {live[0].problem_id: "-1"}
    assert tts.replay(recording, gold=wrong)[0].correct is False


def test_a_sweep_records_once_and_counts(solver, tmp_path):
    swept = solver.sweep(
        "heldout", limit=4, strategies=["majority", "adaptive-consistency"], traces=[1, 8], resamples=8, run=tmp_path
    )
    pandas = pytest.importorskip("pandas")
    table = swept.to_pandas()
    assert list(table["traces"]) == [1, 8, 1, 8] and isinstance(table, pandas.DataFrame)
    assert ((table["accuracy_low"] <= table["accuracy"]) & (table["accuracy"] <= table["accuracy_high"])).all()
    majority = table[(table["strategy"] == "majority") & (table["traces"] == 8)].iloc[0]
    recorded = tts.load_run(tmp_path)
    assert majority["tokens"] == pytest.approx(sum(recorded.traces["tokens"]) / 4)
    assert repr(swept).count("majority") == 2
    assert set(swept.pass_at) == {1, 8} and "<table>" in swept._repr_html_()
    # the folder is a sweep's: the same call decides nothing anew, and gives the same
    again = tts.sweep(
        tmp_path, strategies=["majority", "adaptive-consistency"], traces=[1, 8], resamples=8
    )
    assert again.rows == swept.rows


def test_columns_are_what_the_files_hold(recording):
    numpy = pytest.importorskip("numpy")
    run = tts.load_run(recording)
    assert run.traces.rows == 48 and run.decisions.rows == 6 and run.warnings == []
    assert "48 traces" in repr(run) and "<table>" in run._repr_html_()
    places = {
        (problem, trace): i
        for i, (problem, trace) in enumerate(zip(run.traces["problem_id"], run.traces["trace"]))
    }
    tokens = (recording / "tokens.bin").read_bytes()
    seen = 0
    for line in (recording / "traces.jsonl").read_text().splitlines():
        line = json.loads(line)
        i = places[line["problem_id"], line["trace"]]
        n, at = line["arrays"]["n"], line["arrays"]["offset"]
        assert n == line["tokens"] == run.traces["tokens"][i]
        assert list(run.traces["token_ids"][i]) == list(struct.unpack_from(f"<{n}I", tokens, at))
        for name, part in (("logprobs", 1), ("confidence", 2)):
            wanted = numpy.frombuffer(tokens, "<f4", n, at + 4 * n * part)
            numpy.testing.assert_array_equal(run.traces[name][i], wanted)
        assert run.traces["mean"][i] == pytest.approx(float(run.traces["confidence"][i].mean()), rel=1e-5)
        assert run.traces["answer"][i] == line["answer"]
        assert run.traces["gold"][i] is not None
        seen += 1
    assert seen == 48


def test_columns_are_views_that_cannot_be_written(recording):
    numpy = pytest.importorskip("numpy")
    run = tts.load_run(recording)
    lists = run.traces["confidence"]
    assert lists[0].base is not None and not lists[0].flags.owndata
    assert numpy.shares_memory(lists[3], lists.values) and len(lists) == 48
    assert numpy.shares_memory(run.traces["confidence"].values, lists.values), "asked twice, read once"
    with pytest.raises(ValueError, match="read-only"):
        lists.values[0] = 1.0
    del run
    assert float(lists.values.sum()) > 0, "a view keeps its column alive"
    with pytest.raises(IndexError):
        lists[48]
    assert len(lists[-2:]) == 2


def test_a_memoryview_does_without_numpy(recording):
    columns, _, _ = tts._tts.read_run(recording)
    view = memoryview(columns["tokens"])
    assert (view.format, view.itemsize, view.readonly, view.shape) == ("q", 8, True, (48,))
    assert len(bytes(columns["tokens"])) == 48 * 8
    with pytest.raises((BufferError, TypeError)):
        struct.pack_into("q", columns["tokens"], 0, 1)


def test_pandas_and_arrow_hold_the_same(recording):
    numpy = pytest.importorskip("numpy")
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    run = tts.load_run(recording)
    frame, arrow = run.traces.to_pandas(), pyarrow.table(run.traces)
    assert isinstance(frame, pandas.DataFrame) and len(frame) == arrow.num_rows == 48
    assert arrow.column_names == list(frame.columns) == list(run.traces)
    assert arrow["tokens"].to_pylist() == list(frame["tokens"])
    assert arrow["answer"].to_pylist() == run.traces["answer"]
    numpy.testing.assert_array_equal(arrow["confidence"][5].as_py(), frame["confidence"][5])
    values = arrow["confidence"].chunk(0).values
    assert values.buffers()[1].address == run.traces["confidence"].values.__array_interface__["data"][0]
    right = run.decisions.to_arrow()["correct"]
    assert right.type == pyarrow.bool_() and right.to_pylist() == run.decisions["correct"]


def test_recordings_of_others_are_read(tmp_path):
    line = {"problem_id": "p", "gold": "7", "answers": ["7", None], "lengths": [3, 2], "confidences": [[5.0, 6.0, 7.0], [4.0, 4.5]]}
    (tmp_path / "pool.jsonl").write_text(json.dumps(line) + "\n")
    run = tts.load_run(tmp_path / "pool.jsonl")
    assert run.traces["answer"] == ["7", None] and run.traces["gold"] == ["7", "7"]
    assert [list(c) for c in run.traces["confidence"]] == [[5, 6, 7], [4, 4.5]]
    assert run.decisions.rows == 0
    with pytest.raises(tts.Error, match="nothing"):
        tts.load_run(tmp_path / "nothing")


def test_answers_are_compared_by_meaning():
    assert tts.grade("0.5", r"\frac12") and not tts.grade("0.5", "0.51")
    assert tts.canonical(r"\frac{84}{2}") == tts.canonical("n = 42") == "42"
    assert tts.grade("(b)", "B", kind="choice")
    assert tts.extract(r"so it is \boxed{12}.") == "12" and tts.extract("nothing") is None
    with pytest.raises(tts.Error, match='no kind of answers "maths"'):
        tts.grade("1", "1", kind="maths")
