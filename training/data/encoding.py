"""A data set as the objective sees it: latents and embeddings, made once.

Images and captions are encoded in batches of a fixed size and make-up, which depend on the data
alone: with a cache, without one, by one process or by several, the numbers are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from training.cache import ALONE, Cache, Processes, Rows, write_tensors
from training.data.order import BucketOrder, samples_of_step, variants_of
from training.data.prompts import Prompts
from training.data.records import Source, asked_size_of, caption_of, key_of
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


@dataclass(frozen=True)
class _Job:
    """Shards of one kind, and how to name, make and measure one."""

    kind: str
    stage: str
    shards: Sequence[_Shard]
    make: Callable[[_Shard], dict[str, torch.Tensor]]
    identity: Callable[[_Shard], Any]
    #: bytes of a shard's tensors
    size: Callable[[_Shard], int]


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
    plan = plan_for(config, pipeline, source, sizes, device)
    encoded = plan.make(processes, progress)
    plan.encoders.release()
    return encoded


def plan_for(
    config: Config,
    pipeline: TrainingPipeline,
    source: Source,
    sizes: np.ndarray | None,
    device: torch.device,
) -> EncodingPlan:
    """Return what a training run has to encode; nothing is loaded. Raises as ``encode_for``."""
    images, side = config.images, config.resolution
    buckets = bucket_sizes(side, images.bucket_step) if images.buckets else None
    of_sample = None
    if images.record_sizes:
        asked = [asked_size_of(source, i) or (side, side) for i in range(len(source))]
        buckets, of_sample = _asked_buckets(asked, side)
    if buckets == []:
        raise TrainingError(
            f"images.bucket_step {images.bucket_step} is too coarse for resolution "
            f"{config.resolution}: no bucket has sides that are multiples of it"
        )
    for side in sorted({s for size in buckets or () for s in size} | {config.resolution}):
        check_pipeline(pipeline, side)
    return EncodingPlan(
        source,
        Encoders(pipeline, device, config.encoding),
        config.resolution,
        config.max_sequence_length,
        images=images,
        buckets=buckets,
        sizes=sizes,
        of_sample=of_sample,
        # Under bf16 the transformer's first layers round embeddings to it in any case.
        keep=torch.bfloat16 if config.precision == "bf16" else torch.float32,
        cache=Cache(config.cache) if config.cache is not None else None,
    )


class EncodingPlan:
    """Every variant of every image (the mean of its latent distribution) and every distinct
    caption once, in shards of which some may be in the cache.
    """

    def __init__(
        self,
        source: Source,
        encoders: Encoders,
        resolution: int,
        max_sequence_length: int,
        *,
        batch_size: int = BATCH,
        images: Images = DEFAULT_IMAGES,
        buckets: list[Size] | None = None,
        sizes: np.ndarray | None = None,
        of_sample: np.ndarray | None = None,
        keep: torch.dtype = torch.float32,
        cache: Cache | None = None,
    ) -> None:
        """Of :class:`Prompts` there are captions alone. ``buckets`` are sizes (width, height), of
        which each image takes number ``of_sample`` or, without that, the one nearest to its own
        size (``sizes``, int [N, 2]); None: all are squares of side ``resolution``. ``keep`` is the
        type that embeddings are stored in.
        """
        self.encoders, self._cache = encoders, cache
        self._named: dict[str, list[Path]] = {}
        self._source, self._images, self._keep = source, images, keep
        self._tokens, count = max_sequence_length, len(source)
        if buckets is None:
            of_sample, buckets = np.zeros(count, np.int64), [(resolution, resolution)]
            self._order = None
        else:
            if of_sample is None:
                assert sizes is not None
                of_sample = np.array([bucket_of(int(w), int(h), buckets) for w, h in sizes])
            self._order = BucketOrder(of_sample)
        numbers: dict[str, int] = {}
        of_source = (caption_of(source, sample) for sample in range(count))
        self._captions = [numbers.setdefault(caption, len(numbers)) for caption in of_source]
        self._texts = [*numbers, ""]
        starts = range(0, len(self._texts), batch_size)
        texts = [_Shard(range(i, min(i + batch_size, len(self._texts)))) for i in starts]
        pictures = (
            []
            if isinstance(source, Prompts)
            else _image_shards(of_sample, buckets, images.crops, batch_size)
        )
        self._latents = _Job(
            *("latents", "encode", pictures),
            *(self._latents_of, self._images_identity),
            lambda shard: len(shard.rows) * encoders.latent_bytes(shard.size),
        )
        self._embeds = _Job(
            *("text", "encode captions", texts, self._embeds_of, self._texts_identity),
            lambda shard: len(shard.rows) * encoders.caption_bytes(max_sequence_length, keep),
        )

    def bytes_to_come(self) -> int:
        """Return the bytes of all shards that are not in the cache yet; 0 without a cache."""
        return sum(
            job.size(shard)
            for job in (self._latents, self._embeds)
            for shard, file in zip(job.shards, self._files(job), strict=False)
            if not file.exists()
        )

    def make(
        self,
        processes: Processes = ALONE,
        progress: Progress = lambda stage, done, total: None,
    ) -> Encoded:
        """Encode what is missing, this process's share of it; return all.

        TrainingError, before anything is loaded, if the disk has no room for it.
        """
        if self._cache is not None:
            self._cache.check_space(self.bytes_to_come())
            processes.wait()  # all have looked before the first writes
        variants, rows = self._images.crops, len(self._captions) * self._images.crops
        latents = self._do(self._latents, processes, progress)
        stored = self._do(self._embeds, processes, progress)
        places = _places(self._embeds.shards, len(self._texts))
        return Encoded(
            latents=Rows(
                [_of(shard, "latents") for shard in latents],
                "latents",
                _places(self._latents.shards, rows),
            ),
            captions=torch.tensor(self._captions).repeat_interleave(variants),
            prompt_embeds=Rows([_of(s, "prompt") for s in stored], "prompt", places),
            pooled_embeds=Rows([_of(s, "pooled") for s in stored], "pooled", places),
            variants=variants,
            order=self._order,
        )

    def _pixels(self, row: int, size: Size) -> np.ndarray:
        sample, variant = divmod(row, self._images.crops)
        how = view(key_of(self._source, sample), variant, self._images)
        return cut(self._source[sample][0], size, how)

    def _latents_of(self, shard: _Shard) -> dict[str, torch.Tensor]:
        batch = np.stack([self._pixels(row, shard.size) for row in shard.rows])
        return {"latents": self.encoders.images(batch)}

    def _images_identity(self, shard: _Shard) -> Any:
        images, variants = self._images, self._images.crops
        keys = [(key_of(self._source, row // variants), row % variants) for row in shard.rows]
        how = [images.crop, images.flip] if variants > 1 or images.crop == "random" else None
        return [self.encoders.identity(VAE), PIL.__version__, shard.size, how, keys]

    def _embeds_of(self, shard: _Shard) -> dict[str, torch.Tensor]:
        prompt, pooled = self.encoders.prompts(self._batch(shard), self._tokens)
        return {"prompt": prompt.to(self._keep), "pooled": pooled.to(self._keep)}

    def _texts_identity(self, shard: _Shard) -> Any:
        identity = self.encoders.identity(TEXT)
        return [identity, self._tokens, str(self._keep), self._batch(shard)]

    def _batch(self, shard: _Shard) -> list[str]:
        return [self._texts[row] for row in shard.rows]

    def _files(self, job: _Job) -> list[Path]:
        """The file of each shard; none without a cache."""
        if self._cache is None:
            return []
        if job.kind not in self._named:
            identities = map(job.identity, job.shards)
            self._named[job.kind] = [self._cache.file(job.kind, each) for each in identities]
        return self._named[job.kind]

    def _do(self, job: _Job, processes: Processes, progress: Progress) -> list[Any]:
        """Return the file of each shard, or its tensors where there is no cache."""
        total = sum(len(shard.rows) for shard in job.shards)
        if self._cache is None:
            made, done = [], 0
            for shard in job.shards:
                made.append(job.make(shard))
                done += len(shard.rows)
                progress(job.stage, done, total)
            return made
        files = self._files(job)
        own = [n for n in processes.share(len(files)) if not files[n].exists()]
        for position, number in enumerate(own):
            write_tensors(files[number], job.make(job.shards[number]))
            done = total - sum(len(job.shards[n].rows) for n in own[position + 1 :])
            progress(job.stage, done, total)
        processes.wait()
        if missing := [file for file in files if not file.exists()]:
            raise TrainingError(
                f"{len(missing)} encodings of {len(files)} are not in {self._cache.folder}, "
                f"{missing[0]} among them: cache must be a folder that every process shares"
            )
        return files


def _asked_buckets(asked: Sequence[Size], resolution: int) -> tuple[list[Size], np.ndarray]:
    """The distinct sizes that records ask for, and the number of each sample's: int [N].

    TrainingError if one has more pixels than the resolution, by which memory is counted.
    """
    buckets = sorted(set(asked))
    width, height = max(buckets, key=math.prod)
    if width * height > resolution**2:
        raise TrainingError(
            f"a record asks for {width} x {height} pixels, which are more than resolution "
            f"{resolution} has: set resolution to {math.isqrt(width * height - 1) + 1} or more, or "
            "images.record_sizes to false"
        )
    numbers = {size: number for number, size in enumerate(buckets)}
    return buckets, np.array([numbers[size] for size in asked])


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


def _of(stored: Any, name: str) -> Path | torch.Tensor:
    """The tensor of that name in memory; a file holds all of them."""
    tensor: Path | torch.Tensor = stored if isinstance(stored, Path) else stored[name]
    return tensor
