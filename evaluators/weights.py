"""Weight files: where they are published, where they lie here, and whether they are whole.

They lie in ``$SOAR_BENCH_HOME/weights`` (default ``~/.cache/soar-bench/weights``), one folder per
set, whose ``digests.json`` has the SHA-256 that each file was first seen with. Nothing here
downloads. Imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soar_bench.core.digests import file_digest, git_blob
from soar_bench.core.errors import EvaluatorError
from soar_bench.core.files import home
from soar_bench.core.text import parse_json

DIGESTS_FILE = "digests.json"
#: Says in a record that the file's structure was found right.
RIGHT = "right"


class WeightsMissing(EvaluatorError):
    """Weights are not here and have to be fetched first."""


@dataclass(frozen=True)
class WeightFile:
    """One published file."""

    #: path inside its set's folder
    path: str
    #: pinned address
    url: str
    #: its SHA-256; None where it is not known before the first fetch, which then records it
    sha256: str | None = None
    #: bytes; None where not known
    size: int | None = None
    #: first hexadecimal digits of the SHA-256, where a publisher puts only those in the file name
    sha256_prefix: str = ""
    #: bytes to expect where ``size`` is not known, for people
    about: int | None = None
    #: returns why a file cannot be the published one, read off its structure; empty if it may be
    structure: Callable[[Path], str] | None = None
    #: git's id of the content, where its repository says that and nobody the SHA-256
    git_blob: str = ""

    @property
    def has_structure(self) -> bool:
        """Whether anything is known of the content but a SHA-256."""
        return bool(self.git_blob or self.structure)

    def wrong_structure(self, place: Path, entry: Mapping[str, Any]) -> str:
        """Return why the file in a place has another git blob id or structure; empty if right.

        ``entry`` is its record, which says whether that was looked at before.
        """
        if entry.get("structure") == RIGHT:
            return ""
        if self.git_blob and (blob := git_blob(place)) != self.git_blob:
            return f"git blob {blob[:12]}…, expected {self.git_blob[:12]}…"
        wrong = self.structure(place) if self.structure else ""
        return f"{wrong}; {place.stat().st_size:,} bytes" if wrong else ""


def hub(
    repo: str, revision: str, path: str, *, sha256: str | None = None, size: int | None = None
) -> WeightFile:
    """Return a file of a hub repository at a pinned revision."""
    url = f"https://huggingface.co/{repo}/resolve/{revision}/{path}"
    return WeightFile(path, url, sha256, size)


@dataclass(frozen=True)
class Weights:
    """Files that belong together, as an evaluator needs them."""

    #: what ``soar-bench fetch`` calls the set; also its folder's name
    name: str
    files: tuple[WeightFile, ...]
    licence: str
    #: repository or paper they come from
    source: str
    #: another folder than the home's, for weights that a user or a test brings
    folder_override: Path | None = None
    #: the evaluator's file whose name fetches them, where theirs is not the project's
    of_file: str = field(default="", compare=False)

    @property
    def to_fetch(self) -> str:
        """The name to give to ``soar-bench fetch``."""
        return self.of_file or self.name

    @property
    def folder(self) -> Path:
        return self.folder_override or home() / "weights" / self.name

    def at(self, folder: Path) -> Weights:
        """Return the set with a user's own files in a folder, whose digests are not pinned."""
        files = tuple(WeightFile(f.path, f.url) for f in self.files)
        return replace(self, files=files, folder_override=folder)

    def file(self, path: str) -> Path:
        """Return the path of one of the set's files here. KeyError if it has no such file."""
        if path not in {f.path for f in self.files}:
            raise KeyError(path)
        return self.folder / path

    def missing(self) -> list[WeightFile]:
        return [f for f in self.files if not (self.folder / f.path).is_file()]

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by path. WeightsMissing if one is not here.

        EvaluatorError if one is not the published one or has changed since the first fetch.
        """
        if missing := self.missing():
            names = ", ".join(f.path for f in missing)
            if self.folder_override is not None:
                raise WeightsMissing(f"{self.folder} lacks {names} of the weights {self.name}")
            raise WeightsMissing(
                f"the weights {self.name} are not here ({self.folder} lacks {names}): "
                f"run `soar-bench fetch {self.to_fetch}`"
            )
        digests = {}
        for file in self.files:
            place, entry = self.folder / file.path, recorded(self.folder).get(file.path, {})
            digest = file_digest(place)
            wrong = what_is_wrong(file, digest, entry) or file.wrong_structure(place, entry)
            if wrong:
                raise EvaluatorError(
                    f"{self.folder / file.path} is damaged or another file ({wrong}): "
                    f"run `soar-bench fetch {self.to_fetch}`, which replaces it"
                )
            digests[file.path] = digest
        return digests

    def digest(self) -> str:
        """Return one digest of the whole set; see :meth:`digests` for errors."""
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.digests().items()))
        return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def what_is_wrong(file: WeightFile, digest: str, entry: Mapping[str, Any] | None) -> str:
    """Return why a file of this digest is not the published one; empty if it is, or if unknown."""
    expected = file.sha256 or file.sha256_prefix or str((entry or {}).get("pinned") or "")
    if digest.startswith(expected):
        return ""
    return f"SHA-256 {digest[:12]}…, expected {expected[:12]}…"


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of ``digests.json``; none if it is absent or damaged."""
    try:
        entries = parse_json((folder / DIGESTS_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    table = entries if isinstance(entries, dict) else {}
    return {path: entry for path, entry in table.items() if isinstance(entry, dict)}
