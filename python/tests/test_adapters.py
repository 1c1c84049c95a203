"""Evaluation harnesses against `tts serve`, as docs/python.md says: each test runs where its package is installed."""

import json

import pytest
from conftest import QUESTION


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Neither asks a hub for anything, and what they write goes."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_lm_evaluation_harness(server, tmp_path):
    lm_eval = pytest.importorskip("lm_eval")
    (tmp_path / "one.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "20"}) + "\n")
    task = {
        "task": "one",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "one.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "filter_list": [
            {
                "name": "boxed",
                "filter": [
                    {"function": "regex", "regex_pattern": r"\\boxed\{(.*?)\}"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match"}],
        "generation_kwargs": {"max_gen_toks": 512},
    }
    done = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args=f"model=bundled@majority-8,base_url={server}/chat/completions,num_concurrent=2",
        tasks=[task],
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    assert done["results"]["one"]["exact_match,boxed"] == 1.0


def test_inspect_ai(server, monkeypatch, tmp_path):
    inspect_ai = pytest.importorskip("inspect_ai")
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    monkeypatch.setenv("TTS_BASE_URL", server)
    monkeypatch.setenv("TTS_API_KEY", "any")
    task = inspect_ai.Task(dataset=[Sample(input=QUESTION, target=r"\boxed{20}")], scorer=includes())
    logs = inspect_ai.eval(
        task, model="openai-api/tts/bundled@majority-8", display="none", log_dir=str(tmp_path / "logs")
    )
    assert logs[0].status == "success", logs[0].error
    assert logs[0].results.scores[0].metrics["accuracy"].value == 1.0
    # the tokens of all eight traces are counted
    assert logs[0].samples[0].output.usage.output_tokens > 8 * 50
