"""Ask servers for files: who is asked, with which headers, and what their refusals mean.

The client is the Hugging Face hub's, whose proxies, certificates, endpoint and token hold here too;
other hosts are asked with it alike.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from soar_bench.core.digests import versions
from soar_bench.core.errors import SoarBenchError

if TYPE_CHECKING:
    import httpx2

HUB = "https://huggingface.co"

#: Seconds without a byte after which a connection counts as dead.
TIMEOUT = 30.0
_MIRROR = "get the file from somebody's copy with --mirror"
#: Answers that another attempt may get past.
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class FetchError(SoarBenchError):
    """A file that could not be fetched; others may well be."""


class NotThere(FetchError):
    """The server has no such file."""


class Unreachable(FetchError):
    """A host does not answer, so that trying further files of it would fail alike."""

    def __init__(self, text: str, host: str) -> None:
        super().__init__(text)
        #: the address's own, or the one that its server sends on to
        self.host = host


class PassingError(Exception):
    """A failure that another attempt may get past, after ``wait`` seconds."""

    def __init__(
        self, reason: str, *, reached: bool = True, wait: float = 0.0, host: str = ""
    ) -> None:
        super().__init__(reason)
        self.reached, self.wait, self.host = reached, wait, host


def hub_endpoint() -> str:
    """Return the hub's address. SoarBenchError if ``HF_ENDPOINT`` is none."""
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    if not re.match(r"https?://[^/]", address):
        raise SoarBenchError(f"HF_ENDPOINT is {address!r}: write an address such as {HUB}")
    return address


def check_settings() -> None:
    """Raise SoarBenchError if a variable by which the network is reached cannot be right."""
    hub_endpoint()
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        place = os.environ.get(name)
        if place and not Path(place).exists():
            raise SoarBenchError(f"{name} names {place}, which is not there: correct or unset it")


def offline() -> bool:
    """Return whether the variables that the hub's client obeys forbid the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def actual(url: str) -> str:
    """Return the address that is asked: hub addresses at ``HF_ENDPOINT``."""
    return hub_endpoint() + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


@contextmanager
def request(
    url: str, method: str = "GET", start: int = 0, follow: bool = True
) -> Iterator[httpx2.Response]:
    """Open an address from a byte on. FetchError or PassingError, while it is read as well.

    ``follow`` is whether redirects are followed; else one of them is an answer.
    """
    import httpx2
    from huggingface_hub import get_session

    reached = False
    try:
        client = get_session()
    except (ImportError, ValueError) as error:
        raise Unreachable(
            f"the proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used ({error}): correct "
            "it, or get the files from somebody's copy with --mirror",
            host_of(url),
        ) from None
    except OSError as error:
        raise Unreachable(
            f"the certificates of SSL_CERT_FILE cannot be read ({error}): correct or unset it",
            host_of(url),
        ) from None
    try:
        headers = _headers(url, start)
        with client.stream(
            method, actual(url), headers=headers, timeout=TIMEOUT, follow_redirects=follow
        ) as response:
            reached = True
            _check_status(url, response)
            yield response
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # Endless redirects, and those to another protocol, are this address's fault alone.
        alone = not isinstance(error, httpx2.TransportError)
        reached |= alone or isinstance(error, httpx2.UnsupportedProtocol)
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


def linked(response: httpx2.Response, key: str) -> str:
    """Return what the hub says of a file before it sends the client on to where the bytes are."""
    answers = [*response.history, response]
    values = [answer.headers.get(f"X-Linked-{key}", "").strip('"') for answer in answers]
    return next((value for value in values if value), "")


def _check_status(url: str, response: httpx2.Response) -> None:
    """FetchError or PassingError if the answer is a refusal."""
    code, address = response.status_code, actual(url)
    answered = response.is_success or response.has_redirect_location
    if answered or code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return
    phrase = response.reason_phrase or "an unknown answer"
    if code in _BUSY:
        wait = response.headers.get("Retry-After", "")
        raise PassingError(f"{code} {phrase}", wait=float(wait) if wait.isdecimal() else 0.0)
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


def _connection_failed(url: str, error: Exception, *, reached: bool) -> Exception:
    """Return the error for a connection that failed: to be tried again, or not."""
    host = host_of(url) if reached else _asked_host(error) or host_of(url)
    cause = _system_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {host.partition(':')[0]} cannot be verified "
            f"({cause.verify_message}): correct the clock, or set SSL_CERT_FILE to your network's "
            "certificates",
            host,
        )
    return PassingError(reason(error), reached=reached, host=host)


def host_of(url: str) -> str:
    """Return the host, with its port, that an address is asked of."""
    return urlsplit(actual(url)).netloc


def _asked_host(error: Exception) -> str:
    """Return the host of a request that failed, which a redirect may have led to."""
    try:
        return urlsplit(str(error.request.url)).netloc  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # the client leaves it out of some errors
        return ""


def leads_to(url: str) -> str:
    """Return the host that the bytes of an address come from, without asking that host."""
    try:
        with request(url, "HEAD", follow=False) as response:
            location = response.headers.get("Location", "")
            return urlsplit(location).netloc or host_of(url)
    except (FetchError, PassingError):
        return host_of(url)


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


def given_up(url: str, passing: PassingError) -> FetchError:
    host = host_of(url)
    if passing.reached:
        return FetchError(
            f"{host} does not send {actual(url)} to its end ({passing}): run the same command "
            "again later, and it goes on from there"
        )
    sent_on = f", to which {host} sends on," if passing.host not in ("", host) else ""
    return Unreachable(
        f"{passing.host or host}{sent_on} cannot be reached ({passing}): check the network and "
        "HTTPS_PROXY, or get the files from somebody's copy with --mirror; the same command goes "
        "on from here",
        passing.host or host,
    )
