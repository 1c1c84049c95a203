"""Opening models: formats, folders, and downloads that tell how far they are."""

import hashlib
import http.server
import json
import pathlib
import subprocess
import sys
import threading

import pytest
from conftest import QUESTION

import tts

FOLDER = pathlib.Path(__file__).parents[2] / "data" / "bundled"
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix not in (".md", ".py")}


class Hub(http.server.BaseHTTPRequestHandler):
    """Stands for the hub, with one model."""

    def do_GET(self):
        if "/api/models/" in self.path:
            listed = {"sha": "0" * 40, "siblings": [{"rfilename": name} for name in FILES]}
            return self.answer(json.dumps(listed).encode())
        self.answer(FILES.get(self.path.rsplit("/", 1)[-1]))

    do_HEAD = do_GET

    def answer(self, body):
        self.send_response(404 if body is None else 200)
        self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield
    server.shutdown()


def test_a_download_tells_how_far_it_is(hub):
    told = {}
    solver = tts.open("own/model", traces=4, on_progress=lambda *now: told.setdefault(now[0], []).append(now[1:]))
    size = len(FILES["model.safetensors"])
    assert told["model.safetensors"][0] == (0, size)
    assert all(done <= size for done, _ in told["model.safetensors"])
    assert str(solver.solve(QUESTION)).isdigit()
    told.clear()
    tts.open("own/model", on_progress=lambda *now: told.update({now[0]: now}))
    assert told == {}, "it is here now"


def test_a_download_is_said_where_nobody_listens(hub):
    code = "import tts; tts.open('own/model')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "" and ended.stderr.count("fetching model.safetensors (") == 1


def test_a_folder_is_the_model_that_the_package_carries():
    settings = {"traces": 4, "strategy": "majority", "seed": 5}
    own = tts.open(FOLDER, **settings).solve(QUESTION).to_dict()
    assert own["digest"] == tts.open(**settings).solve(QUESTION).to_dict()["digest"]


def test_formats_are_named_and_change_the_traces():
    digests = {
        tts.open(traces=32, strategy="majority", dtype=dtype, kv_dtype=kv).solve(QUESTION).to_dict()["digest"]
        for dtype, kv in [("f32", None), ("q8_0", None), ("f32", "q8_0")]
    }
    assert len(digests) == 3
    with pytest.raises(tts.Error, match="dtype int4: it is one of auto, f32, bf16, q8_0, q4_0"):
        tts.open(dtype="int4")


def test_a_device_is_named():
    with pytest.raises(tts.Error, match="device rocm: it is cpu, cuda"):
        tts.open(device="rocm")
    with pytest.raises(tts.Error, match="NVIDIA driver|card 97"):
        tts.open(device="cuda:97")
    here = tts.open(traces=2, strategy="majority", max_tokens=4, device="auto").solve(QUESTION)
    assert here.tokens == 8
