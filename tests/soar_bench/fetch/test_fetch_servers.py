"""Servers, networks and proxies that refuse or fail: one sentence each."""

from __future__ import annotations

import shutil
import socket
import threading

import huggingface_hub
import pytest
from file_server import some_bytes

from evaluators import catalogue, weights
from evaluators.weights import Weights
from soar_bench.fetch import connection


def nobody():
    """An address at which no server listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, ["is not there (404)", "--mirror"]),
        (410, ["is not there (410)"]),
        (403, ["may not be downloaded (403 Forbidden)", "proxy"]),
        (451, ["cannot be downloaded (451"]),
        (503, ["does not send", "503 Service Unavailable", "again later"]),
    ],
)
def test_a_refusal_is_one_sentence_and_stops_only_its_file(catalogued, run, server, status, words):
    file_set = catalogued(files={"a.bin": b"a", "b.bin": b"b"})
    server.status["/set/a.bin"] = status
    code, output = run("set")
    assert code == 1 and "Traceback" not in output
    assert all(word in output for word in words), output
    assert [f.path for f in file_set.missing()] == ["a.bin"]


def test_a_busy_server_is_asked_again(catalogued, run, server):
    catalogued()
    server.status["/set/a.bin"] = 429
    threading.Timer(0.02, server.status.clear).start()
    assert run("set")[0] == 0


def test_a_gated_repository_says_whose_terms_to_accept(catalogued, run, server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    file_set = Weights("gated", (weights.hub("who/what", "0" * 40, "m.bin"),), "", "")
    monkeypatch.setattr(catalogue, "ALL", (file_set,))
    server.status[f"/who/what/resolve/{'0' * 40}/m.bin"] = 401
    code, output = run("gated")
    assert code == 1
    assert f"accept the terms on {server.address}/who/what with" in output and "HF_TOKEN" in output


def test_the_token_goes_to_the_hub_and_nowhere_else(catalogued, run, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    catalogued("other")
    assert run("other")[0] == 0
    assert all("Authorization" not in headers for _, _, headers in server.requests)

    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")
    server.requests.clear()
    catalogued("hub", address=connection.HUB)
    elsewhere = f"http://localhost:{server.port}/elsewhere"  # another name, so another host
    server.redirect["/hub/a.bin"] = ("/moved", {})
    server.redirect["/moved"] = (elsewhere, {})
    server.files["/elsewhere"] = some_bytes(300_000)
    code, output = run("hub")
    assert code == 0, output
    sent = {path: headers.get("Authorization") for _, path, headers in server.requests}
    assert sent == {"/hub/a.bin": "Bearer secret", "/moved": "Bearer secret", "/elsewhere": None}


def test_a_token_that_was_stored_by_logging_in_is_the_hubs_as_well(
    catalogued, run, server, monkeypatch, tmp_path
):
    (tmp_path / "token").write_text("stored\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    catalogued("hub", address=connection.HUB)
    assert run("hub")[0] == 0
    assert [h.get("Authorization") for h in server.gets("/hub/a.bin")] == ["Bearer stored"]


def test_without_a_network_one_sentence_says_so_and_the_rest_is_not_tried(
    catalogued, run, monkeypatch
):
    catalogued(files={"a.bin": b"a", "b.bin": b"b"}, address=nobody(), sized=False)
    code, output = run("set")
    assert code == 1
    assert "cannot be reached (connection refused)" in output and "--mirror" in output
    assert "files that were not tried then: 1" in output and output.count("cannot be reached") == 1


def test_a_host_that_cannot_be_reached_stops_no_other(catalogued, run):
    for sized in (True, False):
        catalogued("far", files={"a.bin": b"a", "b.bin": b"b"}, address=nobody(), sized=sized)
        near = catalogued("near", files={"c.bin": b"c"}, sized=sized)
        code, output = run("far", "near")
        assert code == 1 and not near.missing()
        assert output.count("cannot be reached") == 1 and "not tried then: 1" in output
        shutil.rmtree(near.folder)


def test_a_host_that_a_server_sends_on_to_stops_only_what_lies_there(catalogued, run, server):
    """As where the hub can be reached and the store of its large files cannot."""
    contents = {"a.bin": b"a", "b.bin": b"b", "c.bin": b"c"}
    file_set, gone = catalogued(files=contents, sized=False), nobody()
    for name in ("a.bin", "b.bin"):
        server.redirect[f"/set/{name}"] = (f"{gone}/{name}", {})
    code, output = run("set")
    assert code == 1 and [f.path for f in file_set.missing()] == ["a.bin", "b.bin"]
    host = gone.removeprefix("http://")
    assert f"{host}, to which 127.0.0.1:{server.port} sends on, cannot be reached" in output
    assert output.count("cannot be reached") == 1 and "not tried then: 1" in output


def test_a_redirect_to_another_protocol_stops_only_its_file(catalogued, run, server):
    file_set = catalogued(files={"a.bin": b"a", "b.bin": b"b"})
    server.redirect["/set/a.bin"] = ("ftp://127.0.0.1/a.bin", {})
    code, output = run("set")
    assert code == 1 and [f.path for f in file_set.missing()] == ["a.bin"]
    assert "unsupported protocol" in output and "cannot be reached" not in output


@pytest.mark.parametrize("address", ["nonsense", "http://", "ftp://hub"])
def test_an_address_of_the_hub_that_is_none_is_told_first(catalogued, run, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    catalogued(address=connection.HUB, sized=False)
    for arguments in (["set"], ["--checkpoint", "org/tiny"]):
        code, output = run(*arguments)
        assert code == 2 and f"HF_ENDPOINT is '{address.rstrip('/')}': write an" in output


def test_certificates_that_are_none_are_told(catalogued, run, monkeypatch, tmp_path):
    catalogued()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    for arguments in (["set"], ["--checkpoint", "org/tiny"]):
        code, output = run(*arguments)
        assert code == 2 and "nowhere.pem, which is not there: correct or unset it" in output
    (tmp_path / "nowhere.pem").write_text("no certificate")
    huggingface_hub.close_session()
    code, output = run("set")
    huggingface_hub.close_session()
    assert code == 1 and "the certificates of SSL_CERT_FILE cannot be read" in output


def test_a_checkpoint_that_cannot_be_had_stops_nothing_else(catalogued, run, monkeypatch):
    from soar_bench.checkpoints import hub

    def refused(hub_id):
        raise connection.FetchError(f"{hub_id} asks for its terms to be accepted")

    monkeypatch.setattr(hub, "plan", refused)
    file_set = catalogued()
    code, output = run("set", "--checkpoint", "org/gated,org/other")
    assert code == 2 and not file_set.missing()
    assert output.count("asks for its terms to be accepted") == 2


def test_a_name_that_cannot_be_resolved_is_said(catalogued, run, monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    catalogued()
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    assert "its name cannot be resolved" in run("set")[1]


def test_a_server_that_falls_silent_is_left(catalogued, run, server, monkeypatch):
    monkeypatch.setattr(connection, "TIMEOUT", 0.1)
    catalogued()
    server.silence = 0.5
    code, output = run("set")
    assert code == 1 and "no answer for 0.1 seconds" in output


def test_redirects_without_an_end_stop_only_their_file(catalogued, run, server):
    file_set = catalogued(files={"a.bin": b"a", "b.bin": b"b"})
    server.redirect["/set/a.bin"] = ("/set/a.bin", {})
    code, output = run("set")
    assert code == 1 and "redirects" in output and "Traceback" not in output
    assert [f.path for f in file_set.missing()] == ["a.bin"]


@pytest.fixture()
def run_behind(catalogued, run, monkeypatch):
    """run_behind(proxy) -> (exit code, what was said) of a fetch through it."""

    def go(proxy):
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HTTP_PROXY", proxy)
        catalogued(address="http://example.invalid")
        huggingface_hub.close_session()
        return run("set")

    yield go
    huggingface_hub.close_session()


@pytest.mark.parametrize("proxy", ["nonsense://host:1", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(run_behind, proxy):
    code, output = run_behind(proxy)
    assert code == 1 and "HTTP_PROXY" in output and "Traceback" not in output


def test_a_proxy_that_is_not_there_is_named(run_behind):
    code, output = run_behind(nobody())
    assert code == 1 and "example.invalid cannot be reached (connection refused)" in output
    assert "HTTPS_PROXY" in output
