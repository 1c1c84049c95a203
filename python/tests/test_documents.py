"""What the documents show runs as it stands there."""

import pathlib
import re
import runpy
import shutil

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


def test_the_blocks_of_the_guide_run_one_after_the_other(recording, capsys):
    pytest.importorskip("pandas")
    shutil.copytree(recording, "run")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.S | re.M)
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    # how many tokens it takes depends on the machine's instructions
    said = re.search(r"print\(answer, .*?# (\d+) ", blocks[0]).group(1)
    assert capsys.readouterr().out.split()[0] == said


def test_the_example_draws_its_plot(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    runpy.run_path(str(ROOT / "examples/model_to_plot.py"))
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
