"""The package as it is installed: the command line, the version, its types."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import tomllib

import pytest

import tts

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*words, **options):
    return subprocess.run([sys.executable, "-m", "tts", *words], capture_output=True, text=True, **options)


def test_the_command_is_the_entry_point_and_keeps_its_exit_codes():
    module, function = PROJECT["scripts"]["tts"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert run("--version").stdout.strip() == f"tts {tts.__version__}"
    good = run("solve", "Find the greatest common divisor of 437 and 161.", "--traces", "4")
    assert good.returncode == 0 and good.stdout.strip().isdigit()
    bad = run("solve", "--traces", "0", "x")
    assert bad.returncode == 2 and bad.stderr.startswith("error: ") and "Traceback" not in bad.stderr
    assert run().returncode == 2


def test_ctrl_c_ends_the_command_with_what_there_is():
    words = ["solve", "Find the greatest common divisor of 437 and 161.", "--traces", "100000"]
    words += ["--strategy", "majority"]
    command = subprocess.Popen(
        [sys.executable, "-m", "tts", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(1.5)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 130, err
    assert out.strip().isdigit() and "Traceback" not in err


def test_a_reader_that_leaves_is_no_failure():
    command = subprocess.Popen(
        [sys.executable, "-m", "tts", "generate", "--count", "20000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.readline()
    command.stdout.close()
    assert command.wait(timeout=60) == 0, command.stderr.read()


def test_every_public_name_has_words_and_types():
    for name in tts.__all__:
        public = getattr(tts, name)
        if callable(public):
            assert public.__doc__, name
    assert pathlib.Path(tts.__file__).with_name("py.typed").exists()


def checked(*words):
    pytest.importorskip("mypy")
    ended = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT, env={**os.environ}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_types_hold():
    checked("mypy", "python/tts", "--python-executable", sys.executable)


def test_the_stubs_are_those_of_the_extension():
    # what modules have by themselves, and what the interpreter adds to a class from 3.12 on
    checked("mypy.stubtest", "tts._tts", "--allowlist", "python/tests/stubtest-allowed.txt", "--ignore-unused-allowlist")
