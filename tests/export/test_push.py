"""`export --push`, against a stand-in of the Hub on this machine."""

import base64
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from seppo_core.cli.checks import check_request
from seppo_core.config.options import ExportRequest
from seppo_core.export.push import check_push

TOKEN = "hf_abcdefghijklmnop"
PUSH = "import sys; from pathlib import Path; from seppo_core.export.push import check_push, push; check_push('me/mine'); print(push(Path(sys.argv[1]), 'me/mine', 'lora of update-000002'))"  # noqa: E501


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of the Hub to make a model and commit small files to it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": f"http://{self.headers['Host']}/me/mine", "name": "me/mine"})
        if self.path == "/api/models/me/mine/preupload/main":
            files = [one | {"uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            return self.answer(200, {"files": [{k: v for k, v in one.items() if k != "sample"} for one in files]})
        if self.path.startswith("/api/models/me/mine/commit/main"):
            url = f"http://{self.headers['Host']}/me/mine/commit/1"
            return self.answer(200, {"commitUrl": url, "commitOid": "1", "success": True})
        return self.answer(200, {"errors": [], "warnings": []})

    def do_GET(self):
        self.answer(200, {"id": "me/mine", "sha": "0" * 40, "siblings": []})

    def answer(self, status: int, content: dict) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(hub, folder, token: str, home) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0", "HF_TOKEN": token,
        "HF_HOME": str(home), "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", PUSH, str(folder)], env=environment, capture_output=True, text=True, check=False
    )


def test_an_export_is_committed_with_its_card_and_the_token_goes_nowhere_else(hub, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags:\n- lora\n---\n\n# a card\n")
    (folder / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    done = push(hub, folder, TOKEN, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/me/mine")
    asked = {path.partition("?")[0]: body for path, _, body in hub.asked}
    assert json.loads(asked["/api/repos/create"])["visibility"] == "private"
    lines = [json.loads(line) for line in asked["/api/models/me/mine/commit/main"].splitlines()]
    files = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"}
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert lines[0]["value"]["summary"] == "lora of update-000002"
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_refusal_says_where_the_export_is(hub, tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/a.txt").write_text("a")
    done = push(hub, tmp_path / "export", "hf_other", tmp_path / "home")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: me/mine was not pushed (") and "hf upload me/mine" in last
    assert "hf_other" not in done.stdout + done.stderr


def test_nothing_is_done_without_a_token_or_a_name(monkeypatch, workshop, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    config = workshop.config(tmp_path / "run", "lora")
    with pytest.raises(ValueError, match="--push needs a token that may write: set HF_TOKEN"):
        check_request(config, ExportRequest(push="me/mine"))
    for name in ("mine", "me/", "me/mine/more", "../mine", "me/mi ne"):
        with pytest.raises(ValueError, match="should be owner/name"):
            check_push(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        check_push("me/mine")
