"""A judge behind an endpoint, against a real HTTP server on this machine."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from evaluators import EvaluatorError
from evaluators.vlm import endpoint
from evaluators.vlm.endpoint import Endpoint
from evaluators.vlm.question import Question

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
KEY = "sk-not-to-be-seen"


class Server(ThreadingHTTPServer):
    """Answers by a script: one behaviour per request, the last one for all that follow."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.busy, self.most = ["good"], [], 0, 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_):
        pass


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(200, {"data": [{"id": "judge-7b"}]})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append((body, dict(self.headers)))
            behaviour = server.script.pop(0) if len(server.script) > 1 else server.script[0]
            server.busy += 1
            server.most = max(server.most, server.busy)
        try:
            self.answer(behaviour, body)
        finally:
            with server.lock:
                server.busy -= 1

    def answer(self, behaviour, body):
        text = body["messages"][0]["content"][1]["text"]
        good = {"choices": [{"message": {"content": f"answer to {text}"}}]}
        if behaviour == "good":
            self.reply(200, good)
        elif behaviour == "slow":
            time.sleep(0.5)
            self.reply(200, good)
        elif behaviour == "busy":
            self.reply(429, {"error": "later"}, {"Retry-After": "0"})
        elif behaviour == "broken":
            self.reply(500, {"error": "boom"})
        elif behaviour == "no json":
            self.reply(200, b"<html>")
        elif behaviour == "other json":
            self.reply(200, {"result": 1})
        elif behaviour == "refused":
            self.reply(401, {"error": f"Incorrect API key: {self.headers['Authorization'][7:]}"})
        elif behaviour == "echo":
            self.reply(200, {"choices": [{"message": {"content": self.headers["Authorization"]}}]})
        elif behaviour == "moved":
            self.reply(302, self.headers["Authorization"].encode(), {"Location": "/elsewhere"})
        elif behaviour == "thinks":
            text = "<think>Final Score: 1, or\ud83d?</think>Final Score: 4 \ud800"
            self.reply(200, {"choices": [{"message": {"content": text}}]})
        elif behaviour == "reasons":
            self.reply(200, {"choices": [{"message": {"content": None, "reasoning_content": "4"}}]})
        elif behaviour == "at its limit":
            choice = {"message": {"content": "Final Score: 4"}, "finish_reason": "length"}
            self.reply(200, {"choices": [choice]})
        elif behaviour == "too slow":
            self.reply(408, b"")
        elif behaviour == "another host":
            self.reply(307, b"", {"Location": self.server.other})
        elif behaviour == "no choice":
            self.reply(200, {"choices": []})
        elif behaviour == "no unicode":
            self.reply(200, b'{"choices": [{"message": {"content": "\xff"}}]}')
        elif behaviour == "later":
            self.reply(503, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
        elif behaviour == "much later":
            self.reply(429, b"", {"Retry-After": "86400"})
        elif behaviour in ("chunks", "half a chunk", "trickles", "huge"):
            self.chunks(behaviour, json.dumps(good, ensure_ascii=False).encode())
        elif behaviour == "half":
            content = json.dumps(good).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:10])
            self.close_connection = True

    def chunks(self, behaviour, content):
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        parts = [content[i : i + 1] for i in range(len(content))]  # in the middle of characters
        if behaviour == "half a chunk":
            parts = parts[:20]
        elif behaviour == "trickles":
            parts = [b" "] * 100
        elif behaviour == "huge":
            parts = [b" " * 2**14] * 100
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(0.05 if behaviour == "trickles" else 0)
        if behaviour != "half a chunk":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def reply(self, status, body, headers=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture()
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


def judge(server, **changes):
    return Endpoint(server.url, "judge-7b", KEY, **{"wait": 0.01, "timeout": 5.0, **changes})


def test_a_good_server_answers_in_order(server):
    questions = [Question(PICTURE, f"question {i}") for i in range(20)]
    server.script = ["slow", *["good"] * 19]
    assert judge(server).write(questions, 7) == [f"answer to question {i}" for i in range(20)]
    assert 1 < server.most <= endpoint.AT_ONCE
    body, headers = server.requests[0]
    assert body["max_tokens"] == 7 and body["temperature"] == 0 and body["model"] == "judge-7b"
    assert headers["Authorization"] == f"Bearer {KEY}"
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert np.array_equal(np.asarray(sent), PICTURE)


@pytest.mark.parametrize(
    "behaviour",
    ["busy", "broken", "later", "too slow", "no json", "other json", "no choice", "reasons",
     "no unicode", "half", "half a chunk"],
)  # fmt: skip
def test_a_failure_that_passes_is_tried_again(server, behaviour):
    server.script = [behaviour, behaviour, "good"]
    assert judge(server).write([Question(PICTURE, "one")], 5) == ["answer to one"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("busy", "status 429"), ("broken", "status 500"), ("no json", "no JSON"),
        ("other json", "no choices"), ("half", "ProtocolError"), ("slow", "ReadTimeout"),
        ("reasons", "content is no text"), ("trickles", "no whole answer in 0.2 s"),
    ],
)  # fmt: skip
def test_a_failure_that_stays_is_one_sentence_without_the_key(server, behaviour, words):
    server.script = [behaviour]
    with pytest.raises(EvaluatorError) as caught:
        judge(server, timeout=0.2).write([Question(PICTURE, "one")], 5)
    message = str(caught.value)
    assert words in message and "in 4 tries" in message and KEY not in message
    assert len(message.splitlines()) == 1 and len(server.requests) == endpoint.ATTEMPTS


def test_a_refusal_is_not_tried_again(server):
    server.script = ["refused"]
    with pytest.raises(EvaluatorError, match="status 401") as caught:
        judge(server).write([Question(PICTURE, "one")], 5)
    assert endpoint.KEY in str(caught.value) and KEY not in str(caught.value)
    assert len(server.requests) == 1


def test_an_answer_in_chunks_that_cut_characters_is_whole(server):
    server.script = ["chunks"]
    assert judge(server).write([Question(PICTURE, "ü 日本 🦊")], 5) == ["answer to ü 日本 🦊"]


def test_an_answer_without_end_is_given_up(server, monkeypatch):
    monkeypatch.setattr(endpoint, "MOST", 2**16)
    server.script = ["huge"]
    with pytest.raises(EvaluatorError, match="answers with over 65,536 bytes"):
        judge(server).write([Question(PICTURE, "one")], 5)


def test_thoughts_are_no_answer_and_every_answer_can_be_written_down(server):
    server.script = ["thinks"]
    (answer,) = judge(server).write([Question(PICTURE, "half a pair \ud800")], 5)
    assert answer == r"Final Score: 4 \ud800" and answer.encode()
    sent = server.requests[0][0]["messages"][0]["content"][1]["text"]
    assert sent == r"half a pair \ud800"


def test_a_number_at_the_limit_of_tokens_may_be_half_of_one(server):
    """4 of 4.75, for example."""
    server.script = ["at its limit"]
    assert judge(server).write([Question(PICTURE, "one")], 5) == ["Final Score: "]


def test_a_server_says_when_to_come_back_within_reason(server, monkeypatch):
    waits = []
    monkeypatch.setattr(endpoint.time, "sleep", waits.append)
    server.script = ["much later", "later", "busy", "good"]
    assert judge(server).write([Question(PICTURE, "one")], 5) == ["answer to one"]
    assert waits == [endpoint.LONGEST_WAIT, 0.02, 0]


def test_a_server_that_repeats_the_key_puts_it_into_no_answer_or_error(server):
    server.script = ["echo"]
    assert judge(server).write([Question(PICTURE, "one")], 5) == ["Bearer ..."]
    server.script = ["moved"]
    with pytest.raises(EvaluatorError, match=r"status 302: Bearer \.\.\.") as caught:
        judge(server).write([Question(PICTURE, "one")], 5)
    assert endpoint.URL in str(caught.value)


def test_the_key_does_not_follow_to_another_host(server):
    """Nor does the picture: an address that moved is told."""
    with Server() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        server.other, server.script = f"{other.url}/chat/completions", ["another host"]
        with pytest.raises(EvaluatorError, match="status 307"):
            judge(server).write([Question(PICTURE, "one")], 5)
        assert not other.requests and len(server.requests) == 1
        other.shutdown()


@pytest.mark.parametrize(
    "key", ["not\n-to-be-seen", "nöt-to-be-seen", "not to-be-seen", "to-be-seen\x1b"]
)
def test_a_key_that_no_header_can_hold_is_one_sentence_without_it(key, monkeypatch):
    """httpx would repeat it in its own error."""
    monkeypatch.setenv(endpoint.URL, "http://localhost:1/v1")
    monkeypatch.setenv(endpoint.MODEL, "m")
    monkeypatch.setenv(endpoint.KEY, key)
    with pytest.raises(EvaluatorError, match="has characters that no key has") as caught:
        Endpoint.of_environment()
    assert "to-be-seen" not in str(caught.value) and endpoint.KEY in str(caught.value)
    monkeypatch.setenv(endpoint.KEY, f" {KEY}\n")  # as a file ends
    assert Endpoint.of_environment().key == KEY


def test_an_endpoint_is_checked_before_the_work(server):
    judge(server).check()
    with pytest.raises(EvaluatorError, match="has no model 'other'"):
        Endpoint(server.url, "other").check()
    server.shutdown()
    server.server_close()
    with pytest.raises(EvaluatorError, match="does not answer") as caught:
        judge(server).check()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "model", "words"),
    [
        ("", "m", "no endpoint is named"),
        ("http://localhost:1/v1", "", "no endpoint is named"),
        ("http://localhost:1/v1?api_key=secret", "m", "must hold no"),
        ("http://localhost:1/v1#secret", "m", "must hold no"),
        ("localhost:1", "m", "must be an http address"),
        ("http://me:secret@localhost:1/v1", "m", "must hold no user"),
        ("http://localhost:x/v1", "m", "must be an http address"),
        ("http://localhost:99999/v1", "m", "must be an http address"),
        ("http://[::1/v1", "m", "must be an http address"),
        ("http://local host/v1", "m", "must be an http address"),
        ("http://localhost\x1b/v1", "m", "must be an http address"),
        (f"http://{'a' * 300}/v1", "m", "must be an http address"),
    ],
)
def test_the_environment_is_checked(monkeypatch, url, model, words):
    monkeypatch.setenv(endpoint.URL, url)
    monkeypatch.setenv(endpoint.MODEL, model)
    with pytest.raises(EvaluatorError, match=words) as caught:
        Endpoint.of_environment()
    assert "secret" not in str(caught.value)


def test_the_key_is_in_no_text_of_the_endpoint(monkeypatch):
    monkeypatch.setenv(endpoint.URL, "http://localhost:1/v1/")
    monkeypatch.setenv(endpoint.MODEL, "m")
    monkeypatch.setenv(endpoint.KEY, KEY)
    made = Endpoint.of_environment()
    assert made.key == KEY and KEY not in repr(made) and made.url == "http://localhost:1/v1"
