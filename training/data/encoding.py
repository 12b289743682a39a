"""A data set as the objective sees it: latents and embeddings, made once.

Images and captions are encoded in batches of a fixed size and make-up, which depend on the data
alone: with a cache, without one, by one process or by several, the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from training.cache import ALONE, Cache, Processes, Rows, write_tensors
from training.data.order import BucketOrder, samples_of_step, variants_of
from training.data.records import Source, caption_of, key_of
from training.data.views import Size, bucket_of, bucket_sizes, cut, view
from training.encoders import TEXT, VAE, Encoders, TrainingPipeline, check_pipeline
from training.types import DEFAULT_IMAGES, Config, Images, TrainingError

#: Images, or captions, that are encoded together. Another number rounds differently.
BATCH = 64

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Encoded:
    """A data set as the objective sees it. Captions are stored once each.

    A row is one variant (crop and flip) of one sample: ``row = sample * variants + variant``.
    """

    latents: Rows  # float32 [N * V, C, h, w], of one shape within a bucket
    captions: torch.Tensor  # int64 [N * V], rows of the two below
    prompt_embeds: Rows  # float32 [U + 1, L, D]; the last row is the empty caption
    pooled_embeds: Rows  # float32 [U + 1, P]
    variants: int = 1
    order: BucketOrder | None = None

    @property
    def empty_caption(self) -> int:
        return len(self.prompt_embeds) - 1

    def rows_of_step(self, batch_size: int, step: int, seed: int) -> torch.Tensor:
        """Return the rows of global batch ``step``: int64 [batch_size], from (seed, step) alone."""
        count = len(self.captions) // self.variants
        if self.order is None:
            samples, epochs = samples_of_step(count, batch_size, step, seed)
        else:
            samples, epochs = self.order.samples_of_step(batch_size, step, seed)
        if self.variants == 1:
            return samples
        return samples * self.variants + variants_of(samples, epochs, count, self.variants, seed)


@dataclass(frozen=True)
class _Shard:
    """One batch to encode: rows of one size, or captions."""

    rows: Sequence[int]
    size: Size = (0, 0)


def encode_for(
    config: Config,
    pipeline: TrainingPipeline,
    source: Source,
    sizes: np.ndarray | None,
    device: torch.device,
    processes: Processes,
    progress: Progress,
) -> Encoded:
    """Return the data of a training run, encoded as its settings say.

    The pipeline's encoders are loaded only if something is not in the cache. Raises TrainingError
    if the pipeline cannot see images of the sizes asked for.
    """
    encoders = Encoders(pipeline, device)
    images = config.images
    buckets = bucket_sizes(config.resolution, images.bucket_step) if images.buckets else None
    if buckets == []:
        raise TrainingError(
            f"images.bucket_step {images.bucket_step} is too coarse for resolution "
            f"{config.resolution}: no bucket has sides that are multiples of it"
        )
    for side in sorted({s for size in buckets or () for s in size} | {config.resolution}):
        check_pipeline(pipeline, side)
    cache = Cache(config.cache) if config.cache is not None else None
    try:
        return encode(
            source,
            encoders,
            config.resolution,
            config.max_sequence_length,
            images=images,
            buckets=buckets,
            sizes=sizes,
            # Under bf16 the transformer's first layers round embeddings to it in any case.
            keep=torch.bfloat16 if config.precision == "bf16" else torch.float32,
            cache=cache,
            processes=processes,
            progress=progress,
        )
    finally:
        encoders.release()


def encode(
    source: Source,
    encoders: Encoders,
    resolution: int,
    max_sequence_length: int,
    *,
    batch_size: int = BATCH,
    images: Images = DEFAULT_IMAGES,
    buckets: list[Size] | None = None,
    sizes: np.ndarray | None = None,
    keep: torch.dtype = torch.float32,
    cache: Cache | None = None,
    processes: Processes = ALONE,
    progress: Progress = lambda stage, done, total: None,
) -> Encoded:
    """Encode every variant of every image (the mean of its latent distribution) and every distinct
    caption once.

    ``buckets`` are sizes (width, height), of which each image takes the one nearest to its own
    (``sizes``, int [N, 2]); None: all are squares of side ``resolution``. ``keep`` is the type that
    embeddings are stored in.
    """
    variants = images.crops
    count = len(source)
    if buckets is None:
        of_sample, buckets = np.zeros(count, np.int64), [(resolution, resolution)]
        order = None
    else:
        assert sizes is not None
        of_sample = np.array([bucket_of(int(w), int(h), buckets) for w, h in sizes])
        order = BucketOrder(of_sample)
    shards = _image_shards(of_sample, buckets, variants, batch_size)
    work = _Work(cache, processes, progress)

    def pixels(row: int, size: Size) -> np.ndarray:
        sample, variant = divmod(row, variants)
        image = source[sample][0]
        return cut(image, size, view(key_of(source, sample), variant, images))

    def latents(shard: _Shard) -> dict[str, torch.Tensor]:
        batch = np.stack([pixels(row, shard.size) for row in shard.rows])
        return {"latents": encoders.images(batch)}

    def of_images(shard: _Shard) -> Any:
        keys = [(key_of(source, row // variants), row % variants) for row in shard.rows]
        how = [images.crop, images.flip] if variants > 1 or images.crop == "random" else None
        return [encoders.identity(VAE), PIL.__version__, shard.size, how, keys]

    stored = work.do("latents", "encode", shards, latents, of_images)
    rows = Rows([_of(s, "latents") for s in stored], "latents", _places(shards, count * variants))

    numbers: dict[str, int] = {}
    of_source = (caption_of(source, sample) for sample in range(count))
    captions = [numbers.setdefault(caption, len(numbers)) for caption in of_source]
    texts = [*numbers, ""]
    starts = range(0, len(texts), batch_size)
    shards = [_Shard(range(start, min(start + batch_size, len(texts)))) for start in starts]

    def embeds(shard: _Shard) -> dict[str, torch.Tensor]:
        prompt, pooled = encoders.prompts([texts[row] for row in shard.rows], max_sequence_length)
        return {"prompt": prompt.to(keep), "pooled": pooled.to(keep)}

    def of_texts(shard: _Shard) -> Any:
        batch = [texts[row] for row in shard.rows]
        return [encoders.identity(TEXT), max_sequence_length, str(keep), batch]

    stored = work.do("text", "encode captions", shards, embeds, of_texts)
    places = _places(shards, len(texts))
    return Encoded(
        latents=rows,
        captions=torch.tensor(captions).repeat_interleave(variants),
        prompt_embeds=Rows([_of(s, "prompt") for s in stored], "prompt", places),
        pooled_embeds=Rows([_of(s, "pooled") for s in stored], "pooled", places),
        variants=variants,
        order=order,
    )


def _image_shards(
    of_sample: np.ndarray, buckets: list[Size], variants: int, batch_size: int
) -> list[_Shard]:
    shards = []
    for number, size in enumerate(buckets):
        samples = np.flatnonzero(of_sample == number)
        rows = (samples[:, None] * variants + np.arange(variants)).ravel()  # sample after sample
        shards += [
            _Shard(rows[start : start + batch_size].tolist(), size)
            for start in range(0, len(rows), batch_size)
        ]
    return shards


def _places(shards: Sequence[_Shard], count: int) -> np.ndarray:
    """Shard and position in it of every row: int64 [count, 2]."""
    places = np.empty((count, 2), np.int64)
    for number, shard in enumerate(shards):
        places[np.asarray(shard.rows)] = [(number, i) for i in range(len(shard.rows))]
    return places


class _Work:
    """Shards that are missing, made by this process and the others."""

    def __init__(self, cache: Cache | None, processes: Processes, progress: Progress) -> None:
        self._cache, self._processes, self._progress = cache, processes, progress

    def do(
        self,
        kind: str,
        stage: str,
        shards: Sequence[_Shard],
        make: Callable[[_Shard], dict[str, torch.Tensor]],
        identity: Callable[[_Shard], Any],
    ) -> list[Any]:
        """Return the file of each shard, or its tensors where there is no cache."""
        total = sum(len(shard.rows) for shard in shards)
        if self._cache is None:
            made, done = [], 0
            for shard in shards:
                made.append(make(shard))
                done += len(shard.rows)
                self._progress(stage, done, total)
            return made
        files = [self._cache.file(kind, identity(shard)) for shard in shards]
        own = [n for n in self._processes.share(len(shards)) if not files[n].exists()]
        for position, number in enumerate(own):
            tensors = make(shards[number])
            if position == 0:
                size = sum(t.numel() * t.element_size() for t in tensors.values())
                self._cache.check_space(size * len(own) * self._processes.count)
            write_tensors(files[number], tensors)
            done = total - sum(len(shards[n].rows) for n in own[position + 1 :])
            self._progress(stage, done, total)
        self._processes.wait()
        if missing := [file for file in files if not file.exists()]:
            raise TrainingError(
                f"{len(missing)} encodings of {len(files)} are not in {self._cache.folder}, "
                f"{missing[0]} among them: cache must be a folder that every process shares"
            )
        return files


def _of(stored: Any, name: str) -> Path | torch.Tensor:
    """The tensor of that name in memory; a file holds all of them."""
    tensor: Path | torch.Tensor = stored if isinstance(stored, Path) else stored[name]
    return tensor
