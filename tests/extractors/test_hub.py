"""Checkpoints from a hub are pinned, safe and downloaded once. The hub of these tests is a small local server."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from affuse.errors import EncoderError
from affuse.extractors._hub import digest_of, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "lab/safe": {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "README.md": b"read",
        "pytorch_model.bin": b"pickled",
        "modeling.py": b"raise SystemExit",
    },
    "lab/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickled"},
    "lab/empty": {"config.json": b"{}"},
}


class Hub(BaseHTTPRequestHandler):
    """The part of the interface of the hub that a download needs."""

    def do_GET(self):  # noqa: N802
        self.respond(body=True)

    def do_HEAD(self):  # noqa: N802
        self.respond(body=False)

    def log_message(self, *_):
        pass

    def respond(self, *, body: bool):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        model = parts[:2] != ["api", "models"]
        name = "/".join(parts[0:2] if model else parts[2:4])
        if name == "lab/gated":
            return self.send(403, b"", {"X-Error-Code": "GatedRepo"}, body=body)
        if name not in FILES:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
        revision = parts[3] if model else parts[5] if len(parts) > 5 else "main"
        if revision not in ("main", COMMIT):
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body=body)
        if not model:
            siblings = [{"rfilename": f} for f in FILES[name]]
            info = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            if parts[4] == "tree":
                info = [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in FILES[name].items()]
            return self.send(200, json.dumps(info).encode(), {}, body=body)
        content = FILES[name].get("/".join(parts[4:]))
        if content is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.send(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT}, body=body)

    def send(self, status: int, content: bytes, headers: dict, *, body: bool):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


RESOLVE = """
import json, sys
from affuse.errors import AffuseError
from affuse.extractors._hub import resolve
results = []
for checkpoint, allow in json.loads(sys.argv[1]):
    try:
        found = resolve(checkpoint, allow_pickle=allow)
        files = sorted(p.name for p in found.folder.iterdir())
        results.append([found.identity(), files, found.pickled])
    except AffuseError as error:
        results.append([type(error).__name__, str(error)])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def resolve_all(tmp_path_factory):
    """Return a function that resolves checkpoints in a subprocess, with the hub up or down and one cache on disk."""
    home = tmp_path_factory.mktemp("hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def results(*requests, up=True):
        port = server.server_port if up else 9
        own = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home)}
        environment = {**os.environ, **own, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", RESOLVE, json.dumps(requests)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    yield results
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_pinned_and_without_executable_files(resolve_all):
    (first,) = resolve_all(["lab/safe", False])
    assert first[0] == {"checkpoint": "lab/safe", "revision": COMMIT}
    assert first[1] == ["config.json", "model.safetensors"]
    again = resolve_all(["lab/safe", False], [f"lab/safe@{COMMIT}", False], ["lab/safe", True], up=False)
    assert [result[0] for result in again] == [first[0]] * 3


def test_an_unavailable_checkpoint_says_what_to_do(resolve_all):
    results = resolve_all(
        ["lab/pickled", False],
        ["lab/gated", False],
        ["lab/missing", False],
        ["lab/safe@v9", False],
        ["lab/empty", False],
        ["lab/pickled", True],
    )
    words = ["--allow-pickle", "hf auth login", "Found no model lab/missing", "no revision 'v9'", "contains no weights"]
    for (kind, message), word in zip(results[:5], words, strict=True):
        assert kind == "EncoderError"
        assert word in message
    identity, files, pickled = results[5]
    assert identity["revision"] == COMMIT
    assert (files, pickled) == (["config.json", "pytorch_model.bin"], True)


def test_an_unreachable_hub_is_an_environment_failure(resolve_all):
    ((kind, message),) = resolve_all(["lab/other", False], up=False)
    assert kind == "EnvironmentFailure"
    assert "copy the folder of the model" in message


def test_a_folder_is_identified_by_its_contents_and_not_by_its_path(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    one, two = resolve(str(tmp_path / "one")), resolve(str(tmp_path / "two"))
    assert one.identity() == two.identity()
    (tmp_path / "two" / "model.safetensors").write_bytes(b"WEIGHTS")
    os.utime(tmp_path / "two" / "model.safetensors", ns=(1, 1))
    assert digest_of(tmp_path / "two") != one.revision


def test_a_folder_with_pickled_weights_is_refused_unless_allowed(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(EncoderError, match=r"pickled weights only \(pytorch_model.bin\).*--allow-pickle"):
        resolve(str(tmp_path))
    assert resolve(str(tmp_path), allow_pickle=True).pickled


@pytest.mark.parametrize("name", ["/nowhere/at/all", "bert", "./lab/safe", "a/b/c"])
def test_a_name_that_is_neither_folder_nor_model_is_refused(name):
    with pytest.raises(EncoderError, match="org/name"):
        resolve(name)
