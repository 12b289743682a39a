"""Checkpoints of the Hugging Face hub: found in its cache here, and fetched into it.

Nothing is downloaded but by ``soar-bench fetch``. Where the cache lies is the hub client's own
affair (``HF_HOME``, ``HF_HUB_CACHE``), and so are ``HF_ENDPOINT`` and ``HF_TOKEN``.
"""

from __future__ import annotations

import errno
import glob
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from soar_bench.core.errors import SoarBenchError
from soar_bench.fetch.download import FetchError, human

_NAME = re.compile(
    r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)"
    r"(@(?P<revision>refs/pr/\d+|[\w][\w.-]*)(/(?P<inside>[^\\]+))?)?"
)
#: What a pipeline, a transformer or an adapter is made of, beside weights.
_SETTINGS = (".json", ".txt", ".model", ".tiktoken", ".jinja")
_VARIANT = re.compile(r"^(?P<stem>[\w-]+)\.(?P<variant>\w+)(?P<rest>(-\d+-of-\d+)?\.safetensors)$")
_INDEX_VARIANT = re.compile(r"^(?P<stem>[\w-]+\.safetensors\.index)\.\w+\.json$")


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


def parse(name: str) -> HubId | None:
    """``org/name``, ``org/name@revision`` or ``org/name@revision/folder``; None for other names."""
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        return None
    return HubId(match["repo"], match["revision"] or "main", (match["inside"] or "").strip("/"))


def is_here(wanted: HubId) -> bool:
    return _cached(wanted) is not None


def find(wanted: HubId) -> tuple[Path, str]:
    """Where it lies in the cache, and the commit. SoarBenchError if it is not there."""
    snapshot = _cached(wanted)
    if snapshot is None:
        raise SoarBenchError(
            f"there is no file or folder {wanted}, and the hub's cache here has no such repository "
            f"and revision: if it is one of the hub, run `soar-bench fetch --checkpoint {wanted}`"
        )
    place = snapshot / wanted.inside
    if not place.exists():
        raise SoarBenchError(
            f"{wanted.inside} is not in the copy of {wanted.repo} here ({snapshot}): run "
            f"`soar-bench fetch --checkpoint {wanted}`"
        )
    return place, snapshot.name


def check_space(planned: HubPlan) -> None:
    """FetchError if the disk of the hub's cache has too little room."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE).expanduser().resolve()
    while not place.is_dir():
        place = place.parent
    free = shutil.disk_usage(place).free
    if planned.to_come > free:
        raise FetchError(
            f"{human(planned.to_come)} are needed and {human(free)} are free on the disk of "
            f"{place}: free some, or set HF_HUB_CACHE to a folder on another disk"
        )


def _cached(wanted: HubId) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # Without files asked for, a snapshot that is whole for us does not have to be whole for
        # the hub: what is needed was fetched and no more.
        folder = snapshot_download(
            wanted.repo, revision=wanted.revision, local_files_only=True, allow_patterns=[]
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    path: str
    #: bytes; None where the hub does not say
    size: int | None


@dataclass(frozen=True)
class HubPlan:
    """What a fetch will bring."""

    wanted: HubId
    commit: str
    files: tuple[HubFile, ...]

    @property
    def to_come(self) -> int:
        """Bytes of the files that are not here."""
        folder = _cached(replace(self.wanted, revision=self.commit))
        here = {f.path for f in self.files if folder is not None and (folder / f.path).exists()}
        return sum(file.size or 0 for file in self.files if file.path not in here)

    def summary(self) -> str:
        count = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        size = human(sum(file.size or 0 for file in self.files))
        rest = f", {human(self.to_come)} to come" if self.to_come else ", all here"
        return f"{self.wanted} at {self.commit[:12]}: {count}, {size}{rest}"


def plan(wanted: HubId) -> HubPlan:
    """Asks the hub what the repository holds. FetchError if it cannot be had."""
    from huggingface_hub import HfApi

    with _sentences(wanted):
        info = HfApi().model_info(wanted.repo, revision=wanted.revision, files_metadata=True)
    siblings = {s.rfilename: s.size for s in info.siblings or []}
    paths = needed(list(siblings), wanted.inside)
    if not any(path.endswith(".safetensors") for path in paths):
        where = f" in {wanted.inside}" if wanted.inside else ""
        raise FetchError(
            f"{wanted.repo} holds no .safetensors weights{where}: other formats are not read"
        )
    files = tuple(HubFile(path, siblings[path]) for path in paths)
    return HubPlan(wanted, str(info.sha), files)


def fetch(planned: HubPlan) -> Path:
    """Brings the files into the hub's cache; those that are there are left alone. FetchError if
    that fails; what came stays, and the next fetch goes on from there.
    """
    from huggingface_hub import snapshot_download

    with _sentences(planned.wanted):
        folder = snapshot_download(
            planned.wanted.repo,
            revision=planned.wanted.revision,
            allow_patterns=[glob.escape(file.path) for file in planned.files],
        )
    missing = [f.path for f in planned.files if not (Path(folder) / f.path).exists()]
    if missing:
        raise FetchError(f"{planned.wanted}: {missing[0]} did not come; fetch again")
    return Path(folder)


def needed(paths: Sequence[str], inside: str = "") -> list[str]:
    """Which of a repository's files a checkpoint is loaded from.

    Safetensors, settings and vocabularies; of a pipeline only what lies in its components'
    folders, since repositories hold copies of the weights beside them; of variants such as fp16
    only those without a plain file.
    """
    there = set(paths)
    pipeline = "model_index.json" in there and not inside
    chosen = []
    for path in sorted(paths):
        pure = PurePosixPath(path)
        if inside and path != inside and not path.startswith(f"{inside}/"):
            continue
        if any(part.startswith(".") for part in pure.parts):
            continue
        weights = pure.suffix == ".safetensors"
        if not weights and (pure.suffix not in _SETTINGS or ".bin.index" in pure.name):
            continue
        if weights and pipeline and len(pure.parts) == 1:
            continue
        if _plain_is_there(pure, there):
            continue
        chosen.append(path)
    return chosen


def _plain_is_there(path: PurePosixPath, there: set[str]) -> bool:
    """Whether a file is a variant of weights that are there without one."""
    folder = path.parent
    if match := _INDEX_VARIANT.match(path.name):
        plain = match["stem"].removesuffix(".safetensors.index")
    elif (match := _VARIANT.match(path.name)) or (
        match := re.match(r"^(?P<stem>[\w-]+?)-\d+-of-\d+\.\w+\.safetensors$", path.name)
    ):
        plain = match["stem"]
    else:
        return False
    names = (f"{plain}.safetensors", f"{plain}.safetensors.index.json")
    return any(str(folder / name) in there for name in names)


@contextmanager
def _sentences(wanted: HubId) -> Iterator[None]:
    """The hub client's errors as one sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        words = "asks for its terms to be accepted on its page, and for HF_TOKEN to be set"
    except errors.RepositoryNotFoundError:
        words = "is not on the hub, or is private: look at the name, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        words = f"has no revision {wanted.revision}"
    except Exception as error:
        client = type(error).__module__.partition(".")[0].startswith("httpx")
        if not client and not isinstance(error, OSError):
            raise
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        words = f"could not be fetched: {' '.join(str(error).split())[:200]}"
    else:
        return
    raise FetchError(f"{wanted.repo} {words}")
