"""Captioned images to train on, and their encoding into what the objective needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from training.pipeline import encode_images, encode_prompts
from training.types import TrainingError

METADATA_FILE = "metadata.jsonl"


class Source(Protocol):
    """Captioned images by number; any object with these three will do."""

    #: identifies the content, so that a run can say what it was trained on
    digest: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Image (uint8 RGB [H, W, 3]) and caption."""
        ...


class ImageFolder:
    """A folder with images and ``metadata.jsonl``: ``{"file_name": ..., "text": ...}`` a line.

    This is the layout of the datasets library's ``imagefolder``. Every record is checked when the
    folder is opened: a missing image is an error, and so is a path that leaves the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        metadata = folder / METADATA_FILE
        if not metadata.is_file():
            raise TrainingError(
                f"{folder} is not training data: it has no {METADATA_FILE} "
                '(one {"file_name": ..., "text": ...} a line)'
            )
        self.records = list(self._read(metadata))
        if not self.records:
            raise TrainingError(f"{metadata} names no images")
        self.digest = self._digest()

    def _read(self, metadata: Path) -> Iterator[tuple[Path, str]]:
        root = self.folder.resolve()
        try:
            lines = metadata.read_text("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise TrainingError(f"{metadata} is not UTF-8 text: {error}") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{metadata}, line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise TrainingError(f"{where} is not JSON: {error}") from None
            if not isinstance(record, dict) or not all(
                isinstance(record.get(key), str) for key in ("file_name", "text")
            ):
                raise TrainingError(f'{where} needs the texts "file_name" and "text"')
            path = (self.folder / record["file_name"]).resolve()
            if not path.is_relative_to(root):
                raise TrainingError(f"{where} names {record['file_name']!r}, outside {self.folder}")
            if not path.is_file():
                raise TrainingError(f"{where} names {record['file_name']!r}, which is missing")
            yield path, record["text"]

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path, text in self.records:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            digest.update(hashlib.sha256(text.encode("utf-8")).digest())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        path, text = self.records[index]
        try:
            with Image.open(path) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB")), text
        except (UnidentifiedImageError, OSError) as error:
            raise TrainingError(f"{path} is not a readable image: {error}") from None


def fit_to(image: np.ndarray, resolution: int) -> np.ndarray:
    """Resizes the shorter side to ``resolution`` (Lanczos) and crops the centre: [R, R, 3]."""
    if image.shape[:2] == (resolution, resolution):
        return image
    return np.asarray(
        ImageOps.fit(Image.fromarray(image), (resolution, resolution), Image.Resampling.LANCZOS)
    )


@dataclass(frozen=True)
class Encoded:
    """A data set as the objective sees it. Captions are stored once each."""

    latents: torch.Tensor  # float32 [N, C, h, w]
    captions: torch.Tensor  # int64 [N], rows of the two below
    prompt_embeds: torch.Tensor  # float32 [U + 1, L, D]; the last row is the empty caption
    pooled_embeds: torch.Tensor  # float32 [U + 1, P]

    @property
    def empty_caption(self) -> int:
        return len(self.prompt_embeds) - 1


def encode(
    source: Source,
    pipeline: Any,
    resolution: int,
    max_sequence_length: int,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Encodes every image (the mean of its latent distribution) and every distinct caption once."""
    numbers: dict[str, int] = {}
    latents, captions = [], []
    for start in range(0, len(source), batch_size):
        batch = [source[i] for i in range(start, min(start + batch_size, len(source)))]
        images = np.stack([fit_to(image, resolution) for image, _ in batch])
        latents.append(encode_images(pipeline, images))
        captions += [numbers.setdefault(text, len(numbers)) for _, text in batch]
        if progress is not None:
            progress(start + len(batch), len(source))
    embeds = [
        encode_prompts(pipeline, texts, max_sequence_length)
        for texts in _chunks([*numbers, ""], batch_size)
    ]
    return Encoded(
        latents=torch.cat(latents),
        captions=torch.tensor(captions),
        prompt_embeds=torch.cat([e for e, _ in embeds]),
        pooled_embeds=torch.cat([p for _, p in embeds]),
    )


def _chunks(texts: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


@lru_cache(maxsize=2)
def _order(count: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def rows_of_step(count: int, batch_size: int, step: int, seed: int) -> torch.Tensor:
    """Which samples global batch ``step`` holds: int64 [batch_size].

    The data is walked through in a new order each epoch; the order depends on (seed, epoch) alone,
    so a resumed run sees what an uninterrupted one would have seen.
    """
    rows: list[int] = []
    position = step * batch_size
    while len(rows) < batch_size:
        epoch, offset = divmod(position + len(rows), count)
        order = _order(count, epoch, seed)
        rows += order[offset : offset + batch_size - len(rows)].tolist()
    return torch.tensor(rows)
