"""Download one URL to one file, with resume, retries and a bound on its size.

The hub's own ``hf_hub_download`` is not used: it begins a file that was interrupted anew, and
writes on where an answer is longer than the file.
"""

from __future__ import annotations

import os
import re
import sys
import time
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from soar_bench.core.files import free_space
from soar_bench.core.temporary import scratch_folder
from soar_bench.core.text import human, parse_json, printable
from soar_bench.fetch.connection import (
    FetchError,
    NotThere,
    PassingError,
    Unreachable,
    actual,
    given_up,
    linked,
    request,
)

if TYPE_CHECKING:
    from tqdm import tqdm

#: Attempts in a row that bring nothing new before it is given up; fewer where nobody answers.
TRIES = 4
_TRIES_UNANSWERED = 3
#: Seconds before the second attempt; doubled before each further one.
WAIT = 1.0
_LONGEST_WAIT = 60.0
#: Bytes after which an answer is stopped whose size nobody says: of text, and of anything else.
LARGEST_TEXT, LARGEST = 64_000_000, 1_000_000_000
_TEXT = {".csv", ".json", ".jsonl", ".md", ".py", ".tsv", ".txt", ".yaml", ".yml"}
#: An index of digests is a few lines; anything larger is not one.
_LARGEST_JSON = 1 << 22


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
    if needed > (free := free_space(folder)):
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
        except PassingError as passing:
            failures = 1 if length(part) > best else failures + 1
            best = max(best, length(part))
            if failures >= (TRIES if passing.reached else _TRIES_UNANSWERED):
                raise given_up(url, passing) from None
            time.sleep(min(max(passing.wait, WAIT * 2 ** (failures - 1)), _LONGEST_WAIT))


def _attempt(url: str, part: Path, size: int | None, label: str, most: int, always: bool) -> str:
    start = length(part)
    if start and start == size:
        return ""
    with request(url, start=start) as response:
        digest = linked(response, "Etag")
        code, content_range = response.status_code, response.headers.get("Content-Range", "")
        if code == HTTPStatus.PARTIAL_CONTENT and not content_range.startswith(f"bytes {start}-"):
            code = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            raise PassingError("the part that was there does not fit")
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
        raise PassingError(f"the connection ended after {done:,} of {total:,} bytes")
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else ""


def remote_size(url: str) -> int | None:
    """Return the bytes of an address, asked of the server once; None where it does not say.

    Unreachable if no server answers.
    """
    try:
        with request(url, "HEAD") as response:
            size = linked(response, "Size") or response.headers.get("Content-Length", "")
    except PassingError as passing:
        if not passing.reached:
            raise given_up(url, passing) from None
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


def _wrong_size(url: str, fault: str) -> FetchError:
    return FetchError(
        f"{actual(url)} {fault}: it is not the published file; look whether a proxy or a login "
        "page answers, or use --mirror"
    )
