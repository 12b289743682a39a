"""Encodings on disk, named by their content.

A shard holds the encodings of one batch: a safetensors file whose name is a digest of everything
its numbers depend on, the batch's own make-up included, so that reading it is encoding it again,
bit for bit. Shards appear whole or not at all: several processes write to one folder, one that was
killed left nothing half done, and what is there is never made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soar_bench.core.digests import digest_of
from soar_bench.core.files import free_space, replace_atomically, write_text
from soar_bench.core.text import human
from training.types import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import torch

#: Raised when the content of a shard means something else.
SCHEMA = 1
#: Image latents, text embeddings, sizes or faults of images, digests of files.
KINDS = ("latents", "text", "checked", "digests")
#: Shards of one array that are open at a time.
_OPEN = 64


@dataclass(frozen=True)
class Processes:
    """The number of this process among all, and a way to wait for the others."""

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None

    def share(self, tasks: int) -> range:
        """Return the numbers of the tasks that are this process's."""
        return range(self.rank, tasks, self.count)


ALONE = Processes()


class Cache:
    """A folder of shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, kind: str, identity: Any, ending: str = "safetensors") -> Path:
        """Return the file of the shard of that identity (anything JSON can hold), made or not."""
        digest = digest_of([SCHEMA, kind, identity])
        return self.folder / kind / digest[:2] / f"{digest}.{ending}"

    def check_space(self, needed: int) -> None:
        """Raise TrainingError unless so many more bytes fit on the disk."""
        free = free_space(self.folder)
        if needed > free:
            raise TrainingError(
                f"the encodings need {human(needed)} more in {self.folder}, where "
                f"{human(free)} are free: free some, or set cache to a folder elsewhere"
            )

    def shards(self) -> Iterator[tuple[str, Path]]:
        """Yield every shard with its kind."""
        for kind in KINDS:
            for ending in ("safetensors", "json"):
                for file in sorted((self.folder / kind).glob(f"??/*.{ending}")):
                    yield kind, file

    def clear(self) -> int:
        """Delete every shard, and nothing else; return their number."""
        files = [file for _, file in self.shards()]
        for file in files:
            file.unlink(missing_ok=True)
        for kind in KINDS:
            for folder in [*(self.folder / kind).glob("??"), self.folder / kind]:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        return len(files)


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a shard, whole or not at all."""
    from safetensors.torch import save_file

    with replace_atomically(file) as aside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside)


def write_json(file: Path, content: Any) -> None:
    write_text(file, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


class Rows:
    """An array whose rows lie in shards, read when they are asked for.

    ``shards`` are files, of which the tensor ``name`` is read row by row through a memory map, or
    tensors in memory. Rows come as float32, whatever they are kept as.
    """

    def __init__(
        self, shards: Sequence[Path | torch.Tensor], name: str, places: np.ndarray
    ) -> None:
        self._shards = shards
        self._name = name
        self._places = places  # int64 [N, 2]: shard and row in it
        self._open = lru_cache(maxsize=_OPEN)(self._opened)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: int | torch.Tensor) -> torch.Tensor:
        """One row, or those of an int64 [B] stacked; they must be of one shape."""
        import torch

        if isinstance(rows, int):
            shard, row = self._places[rows].tolist()
            return self._read(shard, row).float()
        return torch.stack([self[row] for row in rows.tolist()])

    def _read(self, shard: int, row: int) -> torch.Tensor:
        where = self._shards[shard]
        if not isinstance(where, Path):
            return where[row]
        # A copy: a view would keep the file mapped.
        tensor: torch.Tensor = self._open(shard)[row : row + 1][0].clone()
        return tensor

    def _opened(self, shard: int) -> Any:
        from safetensors import SafetensorError, safe_open

        file = self._shards[shard]
        try:
            opened: Any = safe_open(file, framework="pt")
            return opened.get_slice(self._name)
        except FileNotFoundError:
            raise TrainingError(
                f"{file} is gone: run the same command again, and leave the cache in place "
                "while it runs"
            ) from None
        except SafetensorError as error:
            raise TrainingError(f"{file} is damaged ({error}): delete it") from None
