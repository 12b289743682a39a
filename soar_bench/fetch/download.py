"""Download one URL to one file, with resume, retries and a bound on its size.

The client is the Hugging Face hub's, whose proxies, certificates, endpoint and token hold here too;
other hosts are asked with it alike. Its ``hf_hub_download`` is not used: it begins a file that was
interrupted anew, and writes on where an answer is longer than the file.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from soar_bench.core.digests import versions
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.temporary import scratch_folder
from soar_bench.core.text import parse_json, printable

if TYPE_CHECKING:
    import httpx2
    from tqdm import tqdm

HUB = "https://huggingface.co"

#: Attempts in a row that bring nothing new before it is given up; fewer where nobody answers.
TRIES = 4
_TRIES_UNANSWERED = 3
#: Seconds without a byte after which a connection counts as dead.
TIMEOUT = 30.0
#: Seconds before the second attempt; doubled before each further one.
WAIT = 1.0
_LONGEST_WAIT = 60.0
#: Bytes after which an answer is stopped whose size nobody says: of text, and of anything else.
LARGEST_TEXT, LARGEST = 64_000_000, 1_000_000_000
_TEXT = {".csv", ".json", ".jsonl", ".md", ".py", ".tsv", ".txt", ".yaml", ".yml"}
#: An index of digests is a few lines; anything larger is not one.
_LARGEST_JSON = 1 << 22
_MIRROR = "get the file from somebody's copy with --mirror"
#: Answers that another attempt may get past.
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class FetchError(SoarBenchError):
    """A file that could not be fetched; others may well be."""


class NotThere(FetchError):
    """The server has no such file."""


class Unreachable(FetchError):
    """The server does not answer, so that trying further files of it would fail alike."""


class _PassingError(Exception):
    """A failure that another attempt may get past, after ``wait`` seconds."""

    def __init__(self, reason: str, *, reached: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reached, self.wait = reached, wait


def hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB


def offline() -> bool:
    """Return whether the variables that the hub's client obeys forbid the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def actual(url: str) -> str:
    """Return the address that is asked: hub addresses at ``HF_ENDPOINT``."""
    return hub_endpoint() + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def human(size: int | None) -> str:
    """Return a size as people write it, in powers of ten; ``?`` where it is not known."""
    if size is None:
        return "?"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def largest(path: str, about: int | None = None) -> int:
    """Return the bytes after which a file is stopped whose size nobody says.

    By the bytes to expect of it, if they are known, or else by the suffix of its path.
    """
    if about is not None:
        return 2 * about
    return LARGEST_TEXT if PurePosixPath(path).suffix in _TEXT else LARGEST


def length(file: Path) -> int:
    """Return the bytes of a file; 0 where there is none."""
    return file.stat().st_size if file.is_file() else 0


def check_space(folder: Path, needed: int, variable: str = "SOAR_BENCH_HOME") -> None:
    """FetchError if the disk of a folder, which may not be there yet, has fewer bytes free.

    ``variable`` is the environment variable that names the folder.
    """
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{human(needed)} are needed and {human(free)} are free on the disk of {folder}: free "
            f"some, or set {variable} to a folder on another disk"
        )


def progress_bar(label: str, total: int | None, done: int = 0) -> tqdm[Any]:
    """Return a bar of bytes on the error stream; a line now and then where it is no terminal."""
    from tqdm import tqdm

    seconds = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        desc=printable(label), total=total, initial=done, unit="B", unit_scale=True, leave=False,
        mininterval=seconds, delay=seconds,
    )  # fmt: skip


def download(
    url: str, part: Path, size: int | None, label: str, most: int, *, always: bool = False
) -> str:
    """Bring an address into ``part``, appending to its bytes.

    ``size`` in bytes is pinned or from :func:`remote_size`; no more is written than that, than the
    answer announces, or, for a file of unknown size, than ``most``: ``always``, whatever the answer
    announces.

    Returns the SHA-256 that the hub declares for the file, empty where it declares none. FetchError
    if it cannot be brought; the bytes that came stay in ``part``.
    """
    if size is not None and length(part) > size:  # of another file
        part.unlink()
    failures, best = 0, length(part)
    while True:
        try:
            return _attempt(url, part, size, label, most, always)
        except _PassingError as passing:
            failures = 1 if length(part) > best else failures + 1
            best = max(best, length(part))
            if failures >= (TRIES if passing.reached else _TRIES_UNANSWERED):
                raise _given_up(url, passing) from None
            time.sleep(min(max(passing.wait, WAIT * 2 ** (failures - 1)), _LONGEST_WAIT))


def _attempt(url: str, part: Path, size: int | None, label: str, most: int, always: bool) -> str:
    start = length(part)
    if start and start == size:
        return ""
    with _request(url, start=start) as response:
        digest = _linked(response, "Etag")
        code, content_range = response.status_code, response.headers.get("Content-Range", "")
        if code == HTTPStatus.PARTIAL_CONTENT and not content_range.startswith(f"bytes {start}-"):
            code = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            raise _PassingError("the part that was there does not fit")
        if code != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # this server sends it whole, so that it begins again
        encoded = "Content-Encoding" in response.headers  # then the length is not the file's
        coming = "" if encoded else response.headers.get("Content-Length", "")
        total = start + int(coming) if coming.isdecimal() else size
        if size is not None and total != size:
            raise _wrong_size(url, f"is {total:,} bytes where {size:,} are expected")
        check_space(part.parent, (total or start) - start)
        known = size or (None if always else total)
        done, limit = start, known or most
        with part.open("r+b" if start else "wb") as stream, progress_bar(label, total, done) as bar:
            stream.seek(start)
            for chunk in response.iter_bytes():
                done += len(chunk)
                if done > limit:
                    break
                stream.write(chunk)
                bar.update(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())
    if done > limit:
        part.unlink()
        fault = f"sends more than the {limit:,} bytes that are"
        if not known:
            raise FetchError(
                f"{actual(url)} {fault} taken where no size is known: look what the server sends; "
                "a file that is larger needs its size where its evaluator names it"
            )
        raise _wrong_size(url, f"{fault} expected")
    if total is not None and done < total:
        raise _PassingError(f"the connection ended after {done:,} of {total:,} bytes")
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else ""


def remote_size(url: str) -> int | None:
    """Return the bytes of an address, asked of the server once; None where it does not say.

    Unreachable if no server answers.
    """
    try:
        with _request(url, "HEAD") as response:
            size = _linked(response, "Size") or response.headers.get("Content-Length", "")
    except _PassingError as passing:
        if not passing.reached:
            raise _given_up(url, passing) from None
        return None
    except Unreachable:
        raise
    except FetchError:
        return None
    return (int(size) if size.isdecimal() else 0) or None


def read_json(url: str) -> Any:
    """Return the small JSON file at an address; None if there is none.

    FetchError if it cannot be read.
    """
    with scratch_folder() as folder:
        file = folder / "index.json"
        try:
            download(url, file, None, url, _LARGEST_JSON, always=True)
            return parse_json(file.read_bytes())
        except NotThere:
            return None
        except ValueError:
            raise FetchError(f"{url} is not JSON: look what the mirror's server serves") from None


@contextmanager
def _request(url: str, method: str = "GET", start: int = 0) -> Iterator[httpx2.Response]:
    """Open an address from a byte on. FetchError or _PassingError, while it is read as well."""
    import httpx2
    from huggingface_hub import get_session

    reached = False
    try:
        client = get_session()
    except (ImportError, ValueError) as error:
        raise Unreachable(
            f"the proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used ({error}): correct "
            "it, or get the files from somebody's copy with --mirror"
        ) from None
    try:
        headers = _headers(url, start)
        with client.stream(
            method, actual(url), headers=headers, timeout=TIMEOUT, follow_redirects=True
        ) as response:
            reached = True
            _check_status(url, response)
            yield response
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # Endless redirects and the like are this address's fault alone.
        reached |= not isinstance(error, httpx2.TransportError)
        raise _connection_failed(url, error, reached=reached) from None


def _headers(url: str, start: int) -> dict[str, str]:
    """Return the headers of a request, with the hub's token for the hub alone.

    The client drops the token where a redirect leads to another host.
    """
    from huggingface_hub import constants, get_token

    agent = f"soar-bench/{versions()['soar-bench']}"
    headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if _on_hub(url) and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := get_token()):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _on_hub(url: str) -> bool:
    return actual(url).startswith(f"{hub_endpoint()}/")


def _linked(response: httpx2.Response, key: str) -> str:
    """Return what the hub says of a file before it sends the client on to where the bytes are."""
    answers = [*response.history, response]
    values = [answer.headers.get(f"X-Linked-{key}", "").strip('"') for answer in answers]
    return next((value for value in values if value), "")


def _check_status(url: str, response: httpx2.Response) -> None:
    """FetchError or _PassingError if the answer is a refusal."""
    code, address = response.status_code, actual(url)
    if response.is_success or code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return
    phrase = response.reason_phrase or "an unknown answer"
    if code in _BUSY:
        wait = response.headers.get("Retry-After", "")
        raise _PassingError(f"{code} {phrase}", wait=float(wait) if wait.isdecimal() else 0.0)
    if code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise NotThere(
            f"{address} is not there ({code}): it has been moved or taken away; {_MIRROR}"
        )
    refused = code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if refused and _on_hub(url):
        page = address.partition("/resolve/")[0]
        raise FetchError(
            f"{address} may not be downloaded ({code}): accept the terms on {page} with your "
            "account and set HF_TOKEN to a token of it that is valid"
        )
    can, advice = "cannot", "try later"
    if refused:
        can, advice = "may not", "look whether a proxy forbids it"
    raise FetchError(f"{address} {can} be downloaded ({code} {phrase}): {advice}, or {_MIRROR}")


def _wrong_size(url: str, fault: str) -> FetchError:
    return FetchError(
        f"{actual(url)} {fault}: it is not the published file; look whether a proxy or a login "
        "page answers, or use --mirror"
    )


def _connection_failed(url: str, error: Exception, *, reached: bool) -> Exception:
    """Return the error for a connection that failed: to be tried again, or not."""
    cause = _system_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {urlsplit(actual(url)).hostname} cannot be verified "
            f"({cause.verify_message}): correct the clock, or set SSL_CERT_FILE to your network's "
            "certificates"
        )
    return _PassingError(reason(error), reached=reached)


def _system_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def reason(error: Exception, seconds: float | None = None) -> str:
    """Return why the client's connection failed, in the system's words where it says.

    ``seconds`` without a byte count as a failure, ``TIMEOUT`` unless it is another client's.
    """
    cause = _system_error(error)
    if isinstance(cause, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(cause, TimeoutError):
        return f"no answer for {seconds or TIMEOUT:g} seconds"
    if cause is not None and cause.strerror:
        return cause.strerror.lower()
    return str(error) or type(error).__name__


def _given_up(url: str, passing: _PassingError) -> FetchError:
    host = urlsplit(actual(url)).netloc
    if passing.reached:
        return FetchError(
            f"{host} does not send {actual(url)} to its end ({passing}): run the same command "
            "again later, and it goes on from there"
        )
    return Unreachable(
        f"{host} cannot be reached ({passing}): check the network and HTTPS_PROXY, or get the "
        "files from somebody's copy with --mirror; the same command goes on from here"
    )
