"""What several tests share: a solver, and a recording of the model that the package carries."""

import re
import subprocess
import sys

import pytest

import tts

QUESTION = "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."


@pytest.fixture(scope="session")
def solver():
    return tts.open(traces=8, strategy="majority")


@pytest.fixture(scope="session")
def recording(tmp_path_factory, solver):
    """A run folder of six problems, eight complete traces each."""
    folder = tmp_path_factory.mktemp("recording") / "run"
    solver.evaluate("heldout", limit=6, run=folder)
    return folder


@pytest.fixture(scope="session")
def server():
    """The address of a running `tts serve`."""
    words = ["serve", "--port", "0", "--traces", "1", "--strategy", "majority"]
    command = subprocess.Popen([sys.executable, "-m", "tts", *words], stderr=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://[\d.:]+", command.stderr.readline()).group() + "/v1"
    finally:
        command.terminate()
        command.communicate(timeout=60)
