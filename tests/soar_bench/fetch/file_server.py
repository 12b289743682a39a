"""A server of the test's own for ``soar-bench fetch``: never the network."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def some_bytes(size, seed=0):
    return random.Random(seed).randbytes(size)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Server:
    """Serves ``files`` by path, as well or as badly as a test asks."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.redirect: dict[str, tuple[str, dict[str, str]]] = {}
        self.headers: dict[str, str] = {}
        self.ranges = True
        #: bodies to break off, by how many bytes are sent
        self.cuts: list[int] = []
        #: seconds before a body, and between pieces of 64 kB
        self.silence = 0.0
        self.pause = 0.0
        #: paths whose body comes in chunks and never ends, and the bytes of it that were sent
        self.endless: set[str] = set()
        self.sent = 0
        #: (method, path, headers) of every request
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                outer.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler):
        path = handler.path
        self.requests.append((handler.command, path, dict(handler.headers)))
        if path in self.redirect:
            where, headers = self.redirect[path]
            handler.send_response(302)
            handler.send_header("Location", where)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        status = self.status.get(path, 200 if path in self.files else 404)
        if status != 200:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if path in self.endless and handler.command == "GET":
            self.send_without_end(handler)
            return
        content, start = self.files[path], 0
        asked = handler.headers.get("Range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if self.cuts:
            body = body[: self.cuts.pop(0)]
        time.sleep(self.silence)
        try:
            for at in range(0, len(body), 1 << 16):
                handler.wfile.write(body[at : at + (1 << 16)])
                time.sleep(self.pause)
        except OSError:
            pass

    def send_without_end(self, handler):
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        piece = b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"
        with suppress(OSError):
            while self.sent < 200_000_000:
                handler.wfile.write(piece)
                self.sent += 1 << 16

    def gets(self, path):
        return [headers for method, p, headers in self.requests if (method, p) == ("GET", path)]


def leftovers(folder):
    """Files in a set's folder that are neither published files nor the record."""
    return sorted(f.name for f in folder.iterdir() if f.suffix == ".part" or ".json." in f.name)


def is_right(file):
    return "" if file.read_bytes().startswith(b"right") else "it has no right header"
