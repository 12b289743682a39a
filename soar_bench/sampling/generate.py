"""Images from a checkpoint: every planned sample that is missing, and only those.

The plan is cut into batches once, by position. A batch that lacks an image is made as a whole, and
the lacking ones are saved: an image comes out of the same batch, the same to the last bit, whether
or not the work was stopped and however many processes share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soar_bench.cache.images import ImageGone, ImageStore, Writer
from soar_bench.checkpoints import Checkpoint
from soar_bench.core.distributed import ALONE, Counter, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import USUAL_BATCH, Peak, out_of_memory, release
from soar_bench.sampling.noise import noise_key
from soar_bench.suites.types import PlannedSample, Protocol, Suite, plan

if TYPE_CHECKING:
    from soar_bench.sampling.sampler import Sampler

#: Texts embedded together, in the suite's order: apart from the batch size, so that this does not
#: change an embedding's rounding.
EMBEDDED_TOGETHER = 32


@dataclass(frozen=True)
class Made:
    """Outcome of generation."""

    #: images that were missing and are there now
    images: int
    #: images made at once, as set or found to fit; None if nothing was made and none was set
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
        return plan(self.suite, self.images_per_prompt)

    @cached_property
    def store(self) -> ImageStore:
        settings = self.protocol.settings()
        return ImageStore.of(self.cache, self.checkpoint.digest, settings, self.suite.seed)

    @property
    def folder(self) -> Path:
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
        batch_size: int | None = USUAL_BATCH,
        device: str = "cpu",
        force: bool = False,
        group: Group = ALONE,
        observe: Callable[[str, int, int], None] = lambda stage, done, total: None,
        note: Callable[[str], None] = lambda words: None,
    ) -> Made:
        """Make missing samples, or all by ``force``; the result counts those of all processes."""
        store, seed = self.store, self.suite.seed
        if not group.share(force or bool(store.missing(self.samples))):
            return Made(0, batch_size)
        from soar_bench.sampling.sampler import Sampler

        waiting = partial(note, "waiting for another soar-bench that makes the same images")
        show = partial(observe, "generate")
        with store.lock(waiting) if group.main else nullcontext():
            if force and group.main:
                store.remove(self.samples)
            with closing(Sampler(self.checkpoint, self.protocol, device)) as sampler:
                made = generate(
                    sampler, self.samples, store, seed, batch_size, device, group, show, note
                )
            images = sum(group.gather(made.images))
            if group.size > 1:
                show(images, images)  # with those that ended later than this one
            return Made(images, made.batch_size)

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
    batch_size: int | None = USUAL_BATCH,
    device: str = "cpu",
    group: Group = ALONE,
    observe: Callable[[int, int], None] = lambda done, total: None,
    note: Callable[[str], None] = lambda words: None,
) -> Made:
    """Make what ``store`` lacks of ``samples``, the whole plan; ``seed`` is the suite's.

    ``batch_size`` None finds one that fits. ``observe`` hears of all processes together, ``note``
    takes sentences for a person. SoarBenchError if not even one image fits into memory.
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
            sampler.try_out(first, seed)  # loads what has to be loaded
            peak.start()
            sampler.try_out(first, seed)
        limit = min(group.gather(peak.batch()))
    batches = [range(i, min(i + limit, len(samples))) for i in range(0, len(samples), limit)]
    mine = group.mine([batch for batch in batches if not missing.isdisjoint(batch)])
    if batch_size is not None:
        _embed(sampler, samples, {i for batch in mine for i in batch})
    counter, done, fitting = Counter(group), 0, limit

    def saved(images: int) -> None:
        nonlocal done
        done += images
        observe(counter.add(images), len(missing))

    with Writer(store) as writer:
        saved(0)  # so that a speed counts the first batch too
        for batch in mine:
            images, fitting = _sample_in_parts(
                sampler, [samples[i] for i in batch], seed, fitting, note
            )
            if number := writer.wait():
                saved(number)
            writer.begin([(samples[i], images[i - batch.start]) for i in batch if i in missing])
        saved(writer.wait())
    return Made(done, limit)


def _embed(sampler: Sampler, samples: Sequence[PlannedSample], positions: set[int]) -> None:
    """Embed the texts of the samples at these positions, with their neighbours in the suite."""
    if not sampler.embeds:
        return
    texts = [*dict.fromkeys(sample.prompt.text for sample in samples if sample.prompt.text), ""]
    needed = {samples[i].prompt.text for i in positions} | {""}
    for start in range(0, len(texts), EMBEDDED_TOGETHER):
        chunk = texts[start : start + EMBEDDED_TOGETHER]
        if not needed.isdisjoint(chunk):
            sampler.embed(chunk)


def _sample_in_parts(
    sampler: Sampler,
    batch: Sequence[PlannedSample],
    seed: int,
    limit: int,
    note: Callable[[str], None],
) -> tuple[np.ndarray, int]:
    """Return uint8 RGB [B, H, W, 3], and how many images fit into memory, at most ``limit``."""
    parts: list[np.ndarray] = []
    start = 0
    while start < len(batch):
        part = batch[start : start + limit]
        images = _try(sampler, part, seed)
        if images is None:
            limit = -(-len(part) // 2)
            release()
            note(f"{len(part)} images at once do not fit into memory: going on with {limit}")
        else:
            parts.append(images)
            start += len(part)
    return np.concatenate(parts), limit


def _try(sampler: Sampler, part: Sequence[PlannedSample], seed: int) -> np.ndarray | None:
    """Return the images, or None if they do not fit; what they took is free again on return."""
    try:
        return sampler.sample(part, seed)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if len(part) == 1:
        raise SoarBenchError(
            "not even one image fits into memory: close what else uses the device, or choose a "
            "smaller --resolution or --dtype bfloat16"
        )
    return None
