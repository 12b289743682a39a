"""Checkpoints of the Hugging Face hub: find them in its cache here, and fetch them into it.

Nothing is downloaded but by ``soar-bench fetch``. Where the cache lies is the hub client's own
affair (``HF_HOME``, ``HF_HUB_CACHE``), and so are ``HF_ENDPOINT`` and the token.
"""

from __future__ import annotations

import errno
import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from soar_bench.core.digests import digest_file, git_blob
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import count, human
from soar_bench.fetch.connection import FetchError, reason
from soar_bench.fetch.download import check_space, largest

_NAME = re.compile(
    r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)"
    r"(@(?P<revision>refs/pr/\d+|[\w][\w.-]*)(/(?P<inside>[^\\]+))?)?"
)
#: Suffixes of what a pipeline, a transformer or an adapter is made of, beside weights.
_SETTINGS = (".json", ".txt", ".model", ".tiktoken", ".jinja")
#: Bytes after which weights are stopped whose size the hub does not say.
_LARGEST_WEIGHTS = 10_000_000_000
#: Weights or their index, with a variant such as ``fp16`` before or after the shard's number.
_VARIANT = re.compile(
    r"(?P<stem>[\w-]+?)(-\d+-of-\d+)?"
    r"(\.\w+(-\d+-of-\d+)?\.safetensors(\.index\.json)?|\.safetensors\.index\.\w+\.json)"
)


@dataclass(frozen=True)
class HubId:
    """A repository at a revision, or a folder or file inside it."""

    repo: str
    #: branch, tag or commit
    revision: str = "main"
    #: path inside the repository; empty for all of it
    inside: str = ""

    def __str__(self) -> str:
        inside = f"/{self.inside}" if self.inside else ""
        plain = self.revision == "main" and not inside
        return self.repo if plain else f"{self.repo}@{self.revision}{inside}"


@dataclass(frozen=True)
class HubPlan:
    """The files of a repository that a fetch will bring."""

    hub_id: HubId
    commit: str
    #: bytes by path; None where the hub does not say
    sizes: Mapping[str, int | None]

    @property
    def absent(self) -> list[str]:
        """The files that are not here."""
        folder = _cached(replace(self.hub_id, revision=self.commit))
        return [p for p in self.sizes if folder is None or not (folder / p).exists()]

    @property
    def to_come(self) -> int:
        """Bytes of the files that are not here."""
        return sum(self.sizes[path] or 0 for path in self.absent)

    def summary(self) -> str:
        size = human(sum(size or 0 for size in self.sizes.values()))
        rest = f", {human(self.to_come)} to come" if self.to_come else ", all here"
        return (
            f"{self.hub_id} at {self.commit[:12]}: {count(len(self.sizes), 'file')}, {size}{rest}"
        )


def parse(name: str) -> HubId | None:
    """Read ``org/name``, ``org/name@revision`` or ``org/name@revision/folder``; None for others."""
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        return None
    return HubId(match["repo"], match["revision"] or "main", (match["inside"] or "").strip("/"))


def at_commit(name: str, commit: str) -> str:
    """Return the name of a checkpoint at a commit; other names and no commit change nothing."""
    hub_id = parse(name) if commit else None
    return str(replace(hub_id, revision=commit)) if hub_id else name


def is_here(hub_id: HubId) -> bool:
    return _cached(hub_id) is not None


def find(hub_id: HubId) -> tuple[Path, str]:
    """Return where it lies in the cache, and the commit. SoarBenchError if it is not there."""
    snapshot, command = _cached(hub_id), f"run `soar-bench fetch --checkpoint {hub_id}`"
    if snapshot is None:
        others = f", or name what is here: {', '.join(o)}" if (o := other_revisions(hub_id)) else ""
        raise SoarBenchError(
            f"there is no file or folder {hub_id}, and the hub's cache here has no such repository "
            f"and revision: if it is one of the hub, {command}{others}"
        )
    place = snapshot / hub_id.inside
    if not place.exists():
        raise SoarBenchError(
            f"{hub_id.inside} is not in the copy of {hub_id.repo} here ({snapshot}): {command}"
        )
    return place, snapshot.name


def other_revisions(hub_id: HubId) -> list[str]:
    """Return the names of the revisions of a repository that are here, the newest first."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.repo.replace('/', '--')}"
    here = [place for place in folder.glob("snapshots/*") if any(place.iterdir())]
    newest = sorted(here, key=lambda place: place.stat().st_mtime, reverse=True)
    return [str(replace(hub_id, revision=place.name)) for place in newest]


def damaged(hub_id: HubId) -> list[Path]:
    """Return the files here whose bytes are not those of the names that the hub gives them.

    A file of the cache is a link to one named by its content: a SHA-256, or git's digest for small
    ones. Copies without links are not compared.
    """
    files = [file.resolve() for file in sorted(find(hub_id)[0].rglob("*")) if file.is_file()]
    return [file for file in files if _digest_like(file.name, file) != file.name]


def _digest_like(name: str, file: Path) -> str:
    """Return a file's digest of the kind that its name is; the name where it is none."""
    if re.fullmatch("[0-9a-f]{64}", name):
        return digest_file(file)
    if re.fullmatch("[0-9a-f]{40}", name):
        return git_blob(file)
    return name


def _cached(hub_id: HubId) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # Without files asked for, a snapshot that is whole for us does not have to be whole for
        # the hub: what is needed was fetched and no more.
        folder = snapshot_download(
            hub_id.repo, revision=hub_id.revision, local_files_only=True, allow_patterns=[]
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def plan(hub_id: HubId) -> HubPlan:
    """Ask the hub what the repository holds. FetchError if it cannot be had."""
    from huggingface_hub import HfApi

    with _sentences(hub_id):
        info = HfApi().model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    paths = needed(list(sizes), hub_id.inside)
    if not any(path.endswith(".safetensors") for path in paths):
        where = f" in {hub_id.inside}" if hub_id.inside else ""
        raise FetchError(
            f"{hub_id.repo} holds no .safetensors weights{where}: other formats are not read"
        )
    return HubPlan(hub_id, str(info.sha), {path: sizes[path] for path in paths})


def fetch(planned: HubPlan) -> Path:
    """Bring the files into the hub's cache; those that are there are left alone.

    FetchError if that fails; files that came whole stay.
    """
    from huggingface_hub import constants, snapshot_download

    check_space(Path(constants.HF_HUB_CACHE), planned.to_come, "HF_HUB_CACHE")
    limit = sum(_bound(path, planned.sizes[path]) for path in planned.absent)
    with _sentences(planned.hub_id):
        folder = snapshot_download(
            planned.hub_id.repo,
            revision=planned.hub_id.revision,
            allow_patterns=[glob.escape(path) for path in planned.sizes],
            tqdm_class=_bounded_bar(planned.hub_id, limit),
        )
    missing = [path for path in planned.sizes if not (Path(folder) / path).exists()]
    if missing:
        raise FetchError(f"{planned.hub_id}: {missing[0]} did not come; fetch again")
    return Path(folder)


def _bound(path: str, size: int | None) -> int:
    """Return the bytes after which a file is stopped."""
    if size is not None:
        return size
    return _LARGEST_WEIGHTS if path.endswith(".safetensors") else largest(path)


def _bounded_bar(hub_id: HubId, limit: int) -> type[Any]:
    """Return a progress bar that ends a download of more bytes than the hub has announced.

    The hub's client compares sizes only when an answer has ended; a disk may be full by then.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class BoundedBar(tqdm):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            # Other bars count files, or bytes on the wire, which may be more than the files'.
            wire = str(keywords.get("name")).endswith("transfer")
            self.limit = limit if keywords.get("unit") == "B" and not wire else None
            self.done = 0
            super().__init__(*args, **keywords)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            if self.limit is not None and self.done > self.limit:
                raise FetchError(
                    f"{hub_id.repo} sends more than the {limit:,} bytes that the hub announced, "
                    "and was stopped: look whether a proxy changes downloads"
                )
            return super().update(n)

    return BoundedBar


def needed(paths: Sequence[str], inside: str = "") -> list[str]:
    """Return the files of a repository that a checkpoint is loaded from.

    Safetensors, settings and vocabularies; of a pipeline only what lies in its components'
    folders, since repositories hold copies of the weights beside them; of variants such as fp16
    only those without a plain file.
    """
    names = set(paths)
    pipeline = "model_index.json" in names and not inside

    def loads(path: PurePosixPath) -> bool:
        if path.suffix == ".safetensors":
            return not (pipeline and len(path.parts) == 1)
        return path.suffix in _SETTINGS and ".bin.index" not in path.name

    return [
        str(path)
        for path in map(PurePosixPath, sorted(paths))
        if path.is_relative_to(inside)
        and not any(part.startswith(".") for part in path.parts)
        and loads(path)
        and not _is_spare_variant(path, names)
    ]


def _is_spare_variant(path: PurePosixPath, names: set[str]) -> bool:
    """Return whether a file is a variant of weights that are among the names without one."""
    match = _VARIANT.fullmatch(path.name)
    plain = [f"{match['stem']}.safetensors{end}" for end in ("", ".index.json")] if match else []
    return any(str(path.parent / name) in names for name in plain)


@contextmanager
def _sentences(hub_id: HubId) -> Iterator[None]:
    """Turn the hub client's errors into one sentence."""
    import httpx2
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError:
        page = f"{constants.ENDPOINT}/{hub_id.repo}"
        fault = (
            f"asks for its terms to be accepted on its page ({page}), and for HF_TOKEN to be set"
        )
    except errors.RepositoryNotFoundError:
        fault = "is not on the hub, or is private: look at the name, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        fault = f"has no revision {hub_id.revision}"
    except httpx2.TransportError as error:
        why = reason(error, constants.HF_HUB_DOWNLOAD_TIMEOUT)
        advice = "check the network, HTTPS_PROXY and HF_ENDPOINT, and run the same command again"
        fault = f"could not be fetched ({why}): {advice}"
    except (httpx2.HTTPError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        fault = f"could not be fetched: {' '.join(str(error).split())[:200]}"
    else:
        return
    raise FetchError(f"{hub_id.repo} {fault}")
