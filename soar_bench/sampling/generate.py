"""Images from a checkpoint: every planned sample that is missing, and only those.

The plan is cut into batches once, by position. A batch that lacks an image is made as a whole, and
what it lacked is saved: so an image comes out of the same batch whether or not the work was stopped
in between and however many processes share it, and is the same to the last bit on the same machine.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from soar_bench.cache.images import ImageGone, ImageStore
from soar_bench.checkpoints import Checkpoint
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import USUAL_BATCH, Peak, out_of_memory, release
from soar_bench.sampling.noise import noise_key
from soar_bench.suites.types import PlannedSample, Protocol, Suite, plan

#: Texts embedded together, in the suite's order: apart from the batch size, so that this does not
#: change an embedding's rounding.
EMBEDDED_TOGETHER = 32


class Sampler(typing.Protocol):
    """What makes images; :class:`soar_bench.sampling.sampler.Sampler` is the real one."""

    @property
    def embeds(self) -> bool: ...
    def embed(self, texts: Sequence[str]) -> None: ...
    def sample(self, samples: Sequence[PlannedSample], seed: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Made:
    """How much was made."""

    #: images that were missing and are there now
    images: int
    #: images made at once, as asked for or found; None if it was to be found and nothing was made
    batch_size: int | None


@dataclass(frozen=True)
class Generation:
    """Images of a checkpoint for a suite under a protocol, kept in a cache."""

    checkpoint: Checkpoint
    suite: Suite
    protocol: Protocol
    cache: Path
    images_per_prompt: int

    @cached_property
    def samples(self) -> list[PlannedSample]:
        """All samples, in order."""
        return plan(self.suite, self.images_per_prompt)

    @cached_property
    def store(self) -> ImageStore:
        """The images that are there."""
        settings = self.protocol.settings()
        return ImageStore.of(self.cache, self.checkpoint.digest, settings, self.suite.seed)

    @property
    def folder(self) -> Path:
        """Folder of the images."""
        return self.store.folder

    @property
    def name(self) -> str:
        """Name of the images' journals in the cache."""
        return self.folder.name

    def digest(self, sample: PlannedSample) -> str:
        """Digest of the sample's pixels. ImageGone if there is no image."""
        return str(self._present(sample, self.store.digest(sample)))

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        """uint8 RGB [H, W, 3]. ImageGone if there is no image, or a damaged one."""
        image: np.ndarray = self._present(sample, self.store.read(sample))
        return image

    def noise(self, sample: PlannedSample) -> str:
        """Key of the noise that the sample starts from, 32 hexadecimal digits."""
        return f"{noise_key(self.suite.seed, sample.prompt.id, sample.index):032x}"

    def make(
        self,
        *,
        batch_size: int | None = USUAL_BATCH,
        device: str = "cpu",
        force: bool = False,
        group: Group = ALONE,
        observe: Callable[[str, int, int], None] = lambda stage, done, total: None,
        note: Callable[[str], None] = lambda words: None,
    ) -> Made:
        """Make the samples that the store lacks, or all of them by ``force``.

        The result counts the images of all processes.
        """
        if not group.share(force or bool(self.store.missing(self.samples))):
            return Made(0, batch_size)
        from soar_bench.sampling.sampler import Sampler

        waiting = partial(note, "waiting for another soar-bench that makes the same images")
        sampler = Sampler(self.checkpoint, self.protocol, device)
        with self.store.lock(waiting) if group.main else nullcontext():
            if force and group.main:
                self.store.remove(self.samples)
            try:
                made = generate(
                    sampler,
                    self.samples,
                    self.store,
                    self.suite.seed,
                    batch_size=batch_size,
                    device=device,
                    group=group,
                    observe=partial(observe, "generate"),
                    note=note,
                )
            finally:
                sampler.close()
            return Made(sum(group.gather(made.images)), made.batch_size)

    def _present(self, sample: PlannedSample, image: Any) -> Any:
        if image is None:
            self.store.file(sample).unlink(missing_ok=True)  # damaged: to be made again
            raise ImageGone(
                f"the image of {sample.prompt.id} (index {sample.index}) has gone from "
                f"{self.store.folder}: run the same command again"
            )
        return image


def generate(
    sampler: Sampler,
    samples: Sequence[PlannedSample],
    store: ImageStore,
    seed: int,
    *,
    batch_size: int | None = USUAL_BATCH,
    device: str = "cpu",
    group: Group = ALONE,
    observe: Callable[[int, int], None] = lambda done, total: None,
    note: Callable[[str], None] = lambda words: None,
) -> Made:
    """Makes what ``store`` lacks of ``samples``, the whole plan; ``seed`` is the suite's.

    ``batch_size`` None finds one that fits. ``observe`` hears of this process's share, ``note`` of
    what a person should know. SoarBenchError if not even one image fits into memory.
    """
    missing = set(group.share([i for i, s in enumerate(samples) if store.digest(s) is None]))
    if not missing:
        return Made(0, batch_size or USUAL_BATCH)
    limit = batch_size
    if limit is None:
        # Which samples are this process's depends on the batch size, which only a batch can tell.
        _embed(sampler, samples, set(range(len(samples))))
        first = samples[min(missing)]
        peak = Peak(device)
        if peak.known:
            sampler.sample([first], seed)  # loads what has to be loaded
            peak.start()
            sampler.sample([first], seed)
        limit = min(group.gather(peak.batch()))
    batches = [range(i, min(i + limit, len(samples))) for i in range(0, len(samples), limit)]
    mine = group.mine([batch for batch in batches if not missing.isdisjoint(batch)])
    if batch_size is not None:
        _embed(sampler, samples, {i for batch in mine for i in batch})
    shrinking = _Shrinking(sampler, seed, limit, note)
    total = sum(i in missing for batch in mine for i in batch)
    done = 0
    for batch in mine:
        images = shrinking.sample([samples[i] for i in batch])
        for i, image in zip(batch, images, strict=True):
            if i in missing:
                store.add(samples[i], image)
                done += 1
        observe(done, total)
    return Made(done, limit)


def _embed(sampler: Sampler, samples: Sequence[PlannedSample], wanted: set[int]) -> None:
    """Embeds the texts of the wanted samples, together with their neighbours in the suite."""
    if not sampler.embeds:
        return
    texts = [*dict.fromkeys(sample.prompt.text for sample in samples if sample.prompt.text), ""]
    needed = {samples[i].prompt.text for i in wanted} | {""}
    for start in range(0, len(texts), EMBEDDED_TOGETHER):
        chunk = texts[start : start + EMBEDDED_TOGETHER]
        if not needed.isdisjoint(chunk):
            sampler.embed(chunk)


class _Shrinking:
    """Makes batches in parts that fit into memory, which it learns once."""

    def __init__(
        self, sampler: Sampler, seed: int, limit: int, note: Callable[[str], None]
    ) -> None:
        self._sampler, self._seed, self._limit, self._note = sampler, seed, limit, note

    def sample(self, batch: Sequence[PlannedSample]) -> np.ndarray:
        """uint8 RGB [B, H, W, 3]."""
        parts: list[np.ndarray] = []
        start = 0
        while start < len(batch):
            part = batch[start : start + self._limit]
            images = self._try(part)
            if images is None:
                self._limit = -(-len(part) // 2)
                release()
                self._note(
                    f"{len(part)} images at once do not fit into memory: going on with "
                    f"{self._limit}"
                )
                continue
            parts.append(images)
            start += len(part)
        return np.concatenate(parts)

    def _try(self, part: Sequence[PlannedSample]) -> np.ndarray | None:
        """The images, or None if they did not fit; what they took is free again on return."""
        try:
            return self._sampler.sample(part, self._seed)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(part) == 1:
                raise SoarBenchError(
                    "not even one image fits into memory: close what else uses the device, or "
                    "choose a smaller --resolution or --dtype bfloat16"
                ) from None
            return None
