"""Checkpoints of the hub: found in its cache, fetched into it, never downloaded otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from soar_bench.checkpoints import digest_pipeline, hub, resolve
from soar_bench.checkpoints.hub import HubId, needed, parse
from soar_bench.core.errors import SoarBenchError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", HubId("org/name")),
        ("org/name@v1.0", HubId("org/name", "v1.0")),
        (f"org/name@{COMMIT}", HubId("org/name", COMMIT)),
        ("org/na-me.2@main/lora/style", HubId("org/na-me.2", "main", "lora/style")),
        ("org/name@refs/pr/7/unet", HubId("org/name", "refs/pr/7", "unet")),
        ("name", None),
        ("/org/name", None),
        ("a/b/c", None),
        ("../name", None),
        ("org/name@main/../..", None),
        ("org/name@", None),
        ("org/na me", None),
    ],
)
def test_hub_ids_are_told_from_paths(name, expected):
    assert parse(name) == expected


def test_of_a_pipeline_only_what_is_loaded_is_fetched():
    repository = [
        ".gitattributes",
        "LICENSE.md",
        "model_index.json",
        "sd3.5_medium.safetensors",
        "text_encoders/t5xxl_fp16.txt.bin",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/pytorch_model.bin",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "text_encoder_3/model-00002-of-00002.safetensors",
        "text_encoder_3/model.fp16-00001-of-00001.safetensors",
        "text_encoder_3/model.safetensors.index.fp16.json",
        "text_encoder_3/model.safetensors.index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "tokenizer_3/spiece.model",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/model.onnx",
        "vae/diffusion_flax_model.msgpack",
        "image.png",
    ]
    assert needed(repository) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "text_encoder_3/model-00002-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "tokenizer_3/spiece.model",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_of_an_adapter_or_a_part_everything_that_counts_is_fetched():
    repository = ["README.md", "a.safetensors", "lora/adapter_config.json", "lora/x.safetensors"]
    assert needed(repository) == repository[1:]
    assert needed(repository, "lora") == repository[2:]
    assert needed(repository, "lora/x.safetensors") == repository[3:]


# ---- the cache, laid out as the hub's client does


def cached(cache: Path, repo: str, content: Path, refs: dict[str, str] | None = None) -> Path:
    """Puts a folder into a cache: blobs by digest, links to them by commit, names of commits."""
    root = cache / f"models--{repo.replace('/', '--')}"
    for file in sorted(f for f in content.rglob("*") if f.is_file()):
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link = root / "snapshots" / COMMIT / file.relative_to(content)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for name, commit in (refs or {"main": COMMIT}).items():
        ref = root / "refs" / name
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
    return root / "snapshots" / COMMIT


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    # The client reads the variables once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_cached_pipeline_is_the_folder_it_was_made_of(cache, tiny_pipeline):
    cached(cache, "org/tiny", tiny_pipeline, {"main": COMMIT, "v1": COMMIT})
    for name in ("org/tiny", "org/tiny@v1", f"org/tiny@{COMMIT}"):
        checkpoint = resolve(name)
        assert checkpoint.form == "pipeline"
        assert checkpoint.revision == COMMIT
        assert checkpoint.label == "tiny"
        assert checkpoint.digest == digest_pipeline(tiny_pipeline)


def test_a_damaged_copy_is_named_where_every_byte_is_read(cache, tiny_pipeline):
    cached(cache, "org/whole", tiny_pipeline, {"main": COMMIT})
    assert hub.damaged(HubId("org/whole")) == []
    file = hub.find(HubId("org/whole"))[0] / "transformer" / "config.json"
    file.resolve().write_text("{}")
    assert hub.damaged(HubId("org/whole")) == [file.resolve()]


def test_a_part_of_a_cached_repository_can_be_named(cache, tiny_pipeline):
    cached(cache, "org/tiny", tiny_pipeline)
    checkpoint = resolve("org/tiny@main/transformer", base="org/tiny")
    assert checkpoint.form == "transformer"
    assert checkpoint.label == "tiny-transformer"
    assert checkpoint.base == ("org/tiny", digest_pipeline(tiny_pipeline))
    with pytest.raises(SoarBenchError, match="unet is not in the copy of org/tiny here"):
        resolve("org/tiny@main/unet", base="org/tiny")


def test_an_absent_repository_names_the_command_that_fetches_it(cache, tiny_pipeline):
    cached(cache, "org/tiny", tiny_pipeline)
    for name in ("org/other", "org/tiny@v2"):
        with pytest.raises(SoarBenchError, match=f"soar-bench fetch --checkpoint {name}`"):
            resolve(name)


def test_a_repository_at_another_commit_is_named(cache, tiny_pipeline):
    """As where it was fetched at a commit, and is named without it."""
    cached(cache, "org/tiny", tiny_pipeline, {"v1": COMMIT})
    with pytest.raises(SoarBenchError, match=f"or name what is here: org/tiny@{COMMIT}$"):
        resolve("org/tiny")


def test_a_folder_goes_before_a_repository_of_the_same_name(
    cache, tiny_pipeline, tmp_path, monkeypatch
):
    cached(cache, "org/tiny", tiny_pipeline)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    with pytest.raises(SoarBenchError, match="org/tiny is no checkpoint"):
        resolve("org/tiny")


def test_an_interrupted_copy_is_refused(cache, tiny_pipeline):
    snapshot = cached(cache, "org/tiny", tiny_pipeline)
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SoarBenchError, match=r"vae holds no diffusion_pytorch_model\.safetensors"):
        resolve("org/tiny")


# ---- a server that answers as the hub does


class Hub(BaseHTTPRequestHandler):
    root: Path
    asked: list[str]
    #: names of files whose terms were not accepted, and of files whose body never ends
    gated: frozenset[str] = frozenset()
    endless: frozenset[str] = frozenset()
    #: bytes of bodies without an end that were sent
    sent: ClassVar[list[int]] = [0]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        files = sorted(f for f in self.root.rglob("*") if f.is_file())
        names = [f.relative_to(self.root).as_posix() for f in files]
        if path in ("/api/models/org/tiny/revision/main", "/api/models/org/tiny"):
            siblings = [
                {"rfilename": name, "size": file.stat().st_size, "blobId": "0" * 40}
                for name, file in zip(names, files, strict=True)
            ]
            self._json({"id": "org/tiny", "sha": COMMIT, "siblings": siblings})
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            self._json(
                [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                    for name, file in zip(names, files, strict=True)
                ]
            )
        elif path.startswith("/org/tiny/resolve/"):
            name = path.removeprefix("/org/tiny/resolve/").partition("/")[2]
            if name in self.gated:
                self._missing("GatedRepo", 403)
            elif name in self.endless and self.command == "GET":
                self._send_without_end()
            elif name in names:
                self._file(self.root / name)
            else:
                self._missing("EntryNotFound")
        else:
            self._missing("RepoNotFound")

    def _json(self, value: object) -> None:
        self._answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path) -> None:
        body = file.read_bytes()
        etag = hashlib.sha256(body).hexdigest()
        self._answer(body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send_without_end(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            while self.sent[0] < 500_000_000:
                self.wfile.write(b"10000\r\n" + b"x" * (1 << 16) + b"\r\n")
                self.sent[0] += 1 << 16

    def _missing(self, code: str, status: int = 404) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture()
def server(tiny_pipeline: Path, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    root = tmp_path / "repository"
    shutil.copytree(tiny_pipeline, root)
    (root / "single.safetensors").write_bytes(b"a copy of everything, not needed")
    (root / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"not read")
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"root": root, "asked": asked})
    served = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}", asked
    served.shutdown()
    served.server_close()
    thread.join()


def run(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    return subprocess.run(
        [sys.executable, "-m", "soar_bench", "fetch", *arguments],
        capture_output=True,
        text=True,
        env={
            **kept,
            "HF_HOME": str(tmp_path / "hf"),
            "SOAR_BENCH_HOME": str(tmp_path / "home"),
            "NO_PROXY": "127.0.0.1",
            **variables,
        },
        timeout=240,
    )


def test_fetch_brings_what_eval_needs_and_no_more(server, tmp_path, tiny_pipeline, monkeypatch):
    address, asked = server
    done = run(tmp_path, "--checkpoint", "org/tiny", HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr
    assert "org/tiny: fetched" in done.stdout
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    checkpoint = resolve("org/tiny")
    assert checkpoint.digest == digest_pipeline(tiny_pipeline)
    assert not (checkpoint.pipeline / "single.safetensors").exists()
    assert not (checkpoint.pipeline / "vae" / "diffusion_pytorch_model.bin").exists()
    assert not [line for line in asked if line.endswith((".bin", "single.safetensors"))]

    asked.clear()
    again = run(tmp_path, "--checkpoint", "org/tiny", HF_ENDPOINT=address)
    assert again.returncode == 0
    assert "all here" in again.stdout
    assert not [line for line in asked if line.startswith("GET /org/tiny/resolve")]

    offline = run(tmp_path, "--checkpoint", "org/tiny", "--offline", HF_ENDPOINT=address)
    assert offline.returncode == 0
    assert "org/tiny: here" in offline.stdout


def test_an_answer_without_an_end_is_stopped(server, tmp_path, monkeypatch):
    """The hub announces the size; the answer is chunked and announces none."""
    address, _ = server
    monkeypatch.setattr(Hub, "endless", frozenset({"vae/diffusion_pytorch_model.safetensors"}))
    monkeypatch.setattr(Hub, "sent", [0])
    done = run(tmp_path, "--checkpoint", "org/tiny", HF_ENDPOINT=address)
    assert done.returncode == 2
    assert "org/tiny sends more than the" in done.stderr and "was stopped" in done.stderr
    assert "Traceback" not in done.stderr
    assert Hub.sent[0] < 100_000_000
    files = [f for f in (tmp_path / "hf" / "hub").rglob("*") if f.is_file()]
    assert files and all(f.stat().st_size < 10_000_000 for f in files), "nothing of it is kept"
    monkeypatch.setattr(Hub, "endless", frozenset())
    assert run(tmp_path, "--checkpoint", "org/tiny", HF_ENDPOINT=address).returncode == 0


def test_terms_that_were_not_accepted_are_named_with_their_page(server, tmp_path, monkeypatch):
    address, _ = server
    monkeypatch.setattr(Hub, "gated", frozenset({"model_index.json"}))
    done = run(tmp_path, "--checkpoint", "org/tiny", HF_ENDPOINT=address, HF_TOKEN="hf_x")
    assert done.returncode == 2
    assert f"terms to be accepted on its page ({address}/org/tiny)" in done.stderr
    assert "HF_TOKEN" in done.stderr and "Traceback" not in done.stderr


def test_offline_nothing_is_asked(server, tmp_path):
    address, asked = server
    done = run(tmp_path, "--checkpoint", "org/tiny", "--offline", HF_ENDPOINT=address)
    assert done.returncode == 1
    assert "run `soar-bench fetch --checkpoint org/tiny` where there is internet" in done.stderr
    assert asked == []


def test_what_the_hub_does_not_have_is_one_sentence(server, tmp_path):
    address, _ = server
    done = run(tmp_path, "--checkpoint", "org/other", HF_ENDPOINT=address)
    assert done.returncode == 2
    assert "org/other is not on the hub, or is private" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_does_not_answer_is_one_sentence(tmp_path):
    done = run(tmp_path, "--checkpoint", "org/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "org/tiny could not be fetched (connection refused): check the network" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_hub_id_is_refused(tmp_path):
    done = run(tmp_path, "--checkpoint", "tiny")
    assert done.returncode == 2
    assert "'tiny' is no hub id" in done.stderr


def test_a_repository_without_safetensors_is_refused(monkeypatch):
    import huggingface_hub

    class Info:
        sha = COMMIT
        siblings = ()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: Info())
    with pytest.raises(SoarBenchError, match=r"org/old holds no \.safetensors weights"):
        hub.plan(HubId("org/old"))
