"""One address into one file: resumed where it stopped, retried, every failure one sentence.

Only the standard library's client is used; it reads ``HTTPS_PROXY`` and ``NO_PROXY``. Hub addresses
go to ``HF_ENDPOINT`` where that is set, and ``HF_TOKEN`` goes to that host and no other.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from soar_bench.core.errors import SoarBenchError

HUB = "https://huggingface.co"

#: Attempts in a row that bring nothing new before it is given up; fewer where nobody answers.
TRIES = 4
_TRIES_UNANSWERED = 3
#: Seconds without a byte after which a connection counts as dead.
TIMEOUT = 30.0
#: Seconds before the second attempt; doubled before each further one.
WAIT = 1.0
_LONGEST_WAIT = 60.0
_CHUNK = 1 << 18
#: An index of digests is a few lines; anything larger is not one.
_LARGEST_JSON = 1 << 22

#: Answers that another attempt may get past.
_BUSY = {408, 425, 429, 500, 502, 503, 504}

#: Called with the bytes that are there and the bytes in all, where known.
Observer = Callable[[int, int | None], None]


class FetchError(SoarBenchError):
    """A file that could not be fetched; others may well be."""


class NotThere(FetchError):
    """The server has no such file."""


class Unreachable(FetchError):
    """No server answers, so that trying further files would fail alike."""


class _PassingError(Exception):
    """A failure that another attempt may get past."""

    def __init__(self, reason: str, *, reached: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reached, self.wait = reached, wait


def hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def actual(url: str) -> str:
    """The address that is asked: hub addresses at ``HF_ENDPOINT``."""
    return hub_endpoint() + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def human(size: int | None) -> str:
    """A size as people write it, in powers of ten; ``?`` where it is not known."""
    if size is None:
        return "?"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def check_space(place: Path, needed: int) -> None:
    """FetchError if the disk of an existing folder has fewer bytes free than needed."""
    free = shutil.disk_usage(place).free
    if needed > free:
        raise FetchError(
            f"{human(needed)} are needed and {human(free)} are free on the disk of {place}: free "
            "some, or set SOAR_BENCH_HOME to a folder on another disk"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects with the same method, and asks each host only for what it may know.

    The hub says a file's digest and size before it sends the client on to where the bytes are.
    """

    def __init__(self) -> None:
        self.declared: dict[str, str] = {}

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self.declared |= _declared(headers)
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            new.method = req.get_method()
            _authorise(new)
        return new


def _declared(headers: Any) -> dict[str, str]:
    found = {key: (headers.get(f"X-Linked-{key}") or "").strip('"') for key in ("Etag", "Size")}
    return {key: value for key, value in found.items() if value}


def _authorise(request: urllib.request.Request) -> None:
    token = os.environ.get("HF_TOKEN", "").strip()
    there, hub = urlsplit(request.full_url), urlsplit(hub_endpoint())
    if token and (there.scheme, there.netloc) == (hub.scheme, hub.netloc):
        # "unredirected": the library hands ordinary headers on to whatever host a redirect names.
        request.add_unredirected_header("Authorization", f"Bearer {token}")


def _open(
    url: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[Any, dict[str, str]]:
    """The response, and what the hub declared of the file on the way to it."""
    from soar_bench import __version__

    request = urllib.request.Request(
        actual(url),
        method=method,
        headers={
            "User-Agent": f"soar-bench/{__version__}",
            "Accept-Encoding": "identity",
            **(headers or {}),
        },
    )
    _authorise(request)
    redirects = _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error, {}
        error.close()
        if error.code in _BUSY:
            wait = error.headers.get("Retry-After") or ""
            raise _PassingError(
                f"{error.code} {_phrase(error.code)}",
                wait=float(wait) if wait.isdecimal() else 0.0,
            ) from None
        raise _refused(url, error.code) from None
    except (OSError, http.client.HTTPException) as error:
        raise _passing(url, error, reached=False) from None
    return response, redirects.declared | _declared(response.headers)


def _phrase(code: int) -> str:
    return HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "an unknown answer"


def _refused(url: str, code: int) -> FetchError:
    if code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return NotThere(
            f"{actual(url)} is not there ({code}): it has been moved or taken away; get the file "
            "from somebody's copy with --mirror"
        )
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        if actual(url).startswith(f"{hub_endpoint()}/"):
            page = actual(url).partition("/resolve/")[0]
            return FetchError(
                f"{actual(url)} may not be downloaded ({code}): accept the terms on {page} with "
                "your account and set HF_TOKEN to a token of it that is valid"
            )
        return FetchError(
            f"{actual(url)} may not be downloaded ({code} {_phrase(code)}): look whether a proxy "
            "forbids it, or get the file from somebody's copy with --mirror"
        )
    return FetchError(
        f"{actual(url)} cannot be downloaded ({code} {_phrase(code)}): try later, or get the file "
        "from somebody's copy with --mirror"
    )


def _passing(url: str, error: Exception, *, reached: bool) -> Exception:
    """What a failed connection means: to be tried again, or not."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {urlsplit(actual(url)).hostname} cannot be verified "
            f"({reason.verify_message}): correct the clock, or set SSL_CERT_FILE to your network's "
            "certificates"
        )
    if isinstance(reason, socket.gaierror):
        words = "its name cannot be resolved"
    elif isinstance(reason, TimeoutError):
        words = f"no answer for {TIMEOUT:g} seconds"
    elif isinstance(reason, OSError) and reason.strerror:
        words = reason.strerror.lower()
    else:
        words = str(reason) or type(reason).__name__
    return _PassingError(words, reached=reached)


def download(
    url: str, part: Path, size: int | None = None, observe: Observer = lambda done, total: None
) -> str:
    """Brings an address into ``part``, going on from what is there already.

    Returns the SHA-256 that the hub declares for the file, or nothing where it declares none;
    comparing is the caller's. FetchError if it cannot be brought; what has come stays in ``part``.
    """
    failures, best = 0, length(part)
    while True:
        try:
            return _attempt(url, part, size, observe)
        except _PassingError as passing:
            failures = 1 if length(part) > best else failures + 1
            best = max(best, length(part))
            if failures >= (TRIES if passing.reached else _TRIES_UNANSWERED):
                raise _given_up(url, passing) from None
            time.sleep(min(max(passing.wait, WAIT * 2 ** (failures - 1)), _LONGEST_WAIT))


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


def length(part: Path) -> int:
    """Bytes that have come."""
    return part.stat().st_size if part.exists() else 0


def _attempt(url: str, part: Path, size: int | None, observe: Observer) -> str:
    start = length(part)
    if size is not None and start == size:
        return ""
    if size is not None and start > size:
        part.unlink()
        start = 0
    response, declared = _open(url, headers={"Range": f"bytes={start}-"} if start else {})
    with response:
        range_of = response.headers.get("Content-Range") or ""
        if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if start and range_of.endswith(f"*/{start}"):  # all of it was there already
                return ""
            part.unlink(missing_ok=True)
            raise _PassingError("the part that was there does not fit")
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # this server sends it whole, so that it begins again
        elif not re.match(rf"bytes {start}-", range_of):
            part.unlink(missing_ok=True)
            raise _PassingError(f"another part was sent than asked for ({range_of})")
        coming = response.headers.get("Content-Length") or ""
        total = start + int(coming) if coming.isdecimal() else size
        if size is not None and total != size:
            raise FetchError(
                f"{actual(url)} is {total:,} bytes where {size:,} are expected: it is not the "
                "published file; look whether a proxy or a login page answers, or use --mirror"
            )
        if total is not None:
            check_space(part.parent, total - start)
        done = _receive(url, response, part, start, total, observe)
    if total is not None and done < total:
        raise _PassingError(f"the connection ended after {done:,} of {total:,} bytes")
    digest = declared.get("Etag", "")
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else ""


def _receive(
    url: str, response: Any, part: Path, start: int, total: int | None, observe: Observer
) -> int:
    """Appends what comes; returns the bytes that are there then."""
    done = start
    with part.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        observe(done, total)
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _passing(url, error, reached=True) from None
            if not chunk:
                break
            stream.write(chunk)
            done += len(chunk)
            observe(done, total)
        stream.flush()
        os.fsync(stream.fileno())
    return done


def remote_size(url: str) -> int | None:
    """Bytes of an address, asked of the server once; None where it does not say.

    Unreachable if no server answers.
    """
    try:
        response, declared = _open(url, method="HEAD")
    except _PassingError as passing:
        if not passing.reached:
            raise _given_up(url, passing) from None
        return None
    except Unreachable:
        raise
    except FetchError:
        return None
    with response:
        told = declared.get("Size") or response.headers.get("Content-Length") or ""
    return int(told) if told.isdecimal() else None


def read_json(url: str) -> Any:
    """A small JSON file at an address; None if there is none. FetchError if it cannot be read."""
    failures = 0
    while True:
        try:
            response, _ = _open(url)
            with response:
                return json.loads(response.read(_LARGEST_JSON))
        except NotThere:
            return None
        except ValueError:
            raise FetchError(f"{url} is not JSON: look what the mirror's server serves") from None
        except (_PassingError, OSError, http.client.HTTPException) as error:
            failures += 1
            passing = error if isinstance(error, _PassingError) else _PassingError(str(error))
            if failures >= (TRIES if passing.reached else _TRIES_UNANSWERED):
                raise _given_up(url, passing) from None
            time.sleep(WAIT * 2 ** (failures - 1))
