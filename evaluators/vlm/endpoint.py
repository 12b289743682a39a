"""A judge behind an OpenAI-compatible endpoint (vLLM, SGLang), for judges that only write.

Set ``SOAR_BENCH_JUDGE_URL`` (for example ``http://localhost:8000/v1``), ``SOAR_BENCH_JUDGE_MODEL``
and, where the server wants one, ``SOAR_BENCH_JUDGE_KEY``. The key is sent and nowhere written.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from evaluators.types import EvaluatorError
from evaluators.vlm.question import Question
from soar_bench.core.text import encodable, first_few, printable

if TYPE_CHECKING:
    import httpx2

URL, MODEL, KEY = "SOAR_BENCH_JUDGE_URL", "SOAR_BENCH_JUDGE_MODEL", "SOAR_BENCH_JUDGE_KEY"
#: Requests that are under way together.
AT_ONCE = 8
#: How often a request is tried, and the longest wait between tries in seconds.
ATTEMPTS, LONGEST_WAIT = 4, 30.0
#: Bytes of the longest body that is read.
MOST = 2**24


class _Again(Exception):
    """A failure that may pass: the reason, and the seconds to wait if the server says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Endpoint:
    """An endpoint, as the environment names it."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    #: of one request, in seconds
    timeout: float = 120.0
    #: of the first wait between tries, in seconds; each next one is twice as long
    wait: float = 0.5

    def __post_init__(self) -> None:
        """Leave out space around the key. EvaluatorError, without it, if no header can hold it."""
        object.__setattr__(self, "key", self.key.strip())
        if any(not "!" <= character <= "~" for character in self.key):
            raise EvaluatorError(f"{KEY} has characters that no key has: set it again")

    @classmethod
    def of_environment(cls) -> Endpoint:
        """Return the endpoint that the environment names. EvaluatorError if it names none."""
        url, model = os.environ.get(URL, ""), os.environ.get(MODEL, "")
        if not url or not model:
            raise EvaluatorError(
                f"no endpoint is named: set {URL} (such as http://localhost:8000/v1) and {MODEL}"
            )
        if not _is_address(url):
            raise EvaluatorError(f"{URL} must be an http address such as http://localhost:8000/v1")
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise EvaluatorError(f"{URL} must hold no user or password: set {KEY} instead")
        if "?" in url or "#" in url:  # which would stand before the rest of the path
            raise EvaluatorError(f"{URL} must hold no ? or #: a key is set in {KEY}")
        return cls(url.rstrip("/"), model, os.environ.get(KEY, ""))

    @property
    def _shown(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    def check(self) -> None:
        """Raise EvaluatorError unless the endpoint answers and has the model."""
        import httpx2

        try:
            with self._client(5.0) as client:
                body = self._json(client, 5.0, "GET", "/models")
                names = [str(model["id"]) for model in body["data"]]
        except (_Again, httpx2.HTTPError, KeyError, TypeError) as error:
            raise self._error(
                f"does not answer ({_reason(error)}): start it, or set {URL}"
            ) from None
        if self.model not in names:
            served = printable(first_few(names)) or "none"
            raise self._error(f"has no model {self.model!r} (it has: {served}): set {MODEL}")

    def write(self, questions: Sequence[Question], most: int) -> list[str]:
        """Return the answers, in order. EvaluatorError if one does not come after some tries."""
        with self._client(self.timeout) as client, ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda q: self._answer(client, q, most), questions))

    def _client(self, timeout: float) -> httpx2.Client:
        import httpx2

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx2.Client(timeout=timeout, headers=headers)

    def _answer(self, client: httpx2.Client, question: Question, most: int) -> str:
        import httpx2

        content = [
            {"type": "image_url", "image_url": {"url": data_url(question.image)}},
            {"type": "text", "text": encodable(question.text)},
        ]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": most,
            "temperature": 0,
        }
        reason = ""
        for attempt in range(ATTEMPTS):
            try:
                answer = self._json(client, self.timeout, "POST", "/chat/completions", json=body)
                return self._without_key(_text(answer))
            except (_Again, httpx2.HTTPError) as error:
                reason = _reason(error)
                asked = error.wait if isinstance(error, _Again) else None
                pause = self.wait * 2**attempt if asked is None else asked
            if attempt + 1 < ATTEMPTS:
                time.sleep(min(pause, LONGEST_WAIT))
        raise self._error(
            f"gave no answer in {ATTEMPTS} tries ({reason}): see its log, and run the same command "
            "again, which goes on here"
        )

    def _json(
        self, client: httpx2.Client, timeout: float, method: str, path: str, **body: Any
    ) -> Any:
        """Send a request and return the answer's body, within about ``timeout`` seconds.

        _Again for a busy or broken server, EvaluatorError if it refuses.
        """
        until, content = time.monotonic() + timeout, bytearray()
        with client.stream(method, f"{self.url}{path}", **body) as response:
            for part in response.iter_bytes():
                content += part
                if len(content) > MOST:
                    raise self._error(f"answers with over {MOST:,} bytes: check {URL}")
                if time.monotonic() > until:  # a server that trickles never times out by itself
                    raise _Again(f"no whole answer in {timeout:g} s")
        status = response.status_code
        if status in (408, 425, 429) or status >= 500:
            asked = response.headers.get("Retry-After", "")
            raise _Again(f"status {status}", float(asked) if asked.isdecimal() else None)
        if status >= 300:
            hint = f"set {KEY}" if status in (401, 403) else f"check {URL}, and see its log"
            # a server may repeat the key, which must be out before a part of it is cut off
            text = self._without_key(content.decode("utf-8", "replace"))
            text = printable(" ".join(text.split())[:120])
            raise self._error(f"refuses the request (status {status}: {text}): {hint}")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _Again("its answer is no JSON") from None

    def _error(self, text: str) -> EvaluatorError:
        return EvaluatorError(self._without_key(f"the judge's endpoint {self._shown} {text}"))

    def _without_key(self, text: str) -> str:
        """Return a text in which a server may have repeated the key, without it; what is shorter
        than 8 characters (vLLM's ``EMPTY``) is no secret, and may stand in any answer.
        """
        return text.replace(self.key, "...") if len(self.key) >= 8 else text


def _is_address(url: str) -> bool:
    """Return whether a text is an http address with a host, and a port if it names one."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        whole = parts.port != 0 and url.isprintable() and " " not in url
        return whole and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def data_url(image: np.ndarray) -> str:
    """Return uint8 RGB [H, W, 3] as a PNG in a ``data:`` address."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _text(body: Any) -> str:
    """Return the answer in a body, without what a model thinks aloud before it.

    Where the limit of tokens ended it, its last word may be a part of one, and is left out.
    """
    try:
        choice = body["choices"][0]
        text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _Again("its answer has no choices[0].message.content") from None
    if not isinstance(text, str):
        raise _Again("its answer's content is no text")
    answer = encodable(text.rpartition("</think>")[2])
    return re.sub(r"\S+$", "", answer) if cut else answer


def _reason(error: BaseException) -> str:
    """Return an error in a few words: our own as they are, a library's after its name."""
    text = str(error) if isinstance(error, _Again) else f"{type(error).__name__} {error}"
    return " ".join(text.split())[:160]
