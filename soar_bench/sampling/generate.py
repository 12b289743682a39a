"""Images from a checkpoint: every planned sample that is missing, and only those.

The plan is cut into batches once, by position. A batch that lacks an image is made as a whole, and
what it lacked is saved: so an image comes out of the same batch whether or not the work was stopped
in between and however many processes share it, and is the same to the last bit on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from soar_bench.cache.images import ImageStore
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import USUAL_BATCH, Peak, out_of_memory, release
from soar_bench.suites.types import PlannedSample

#: Texts embedded together, in the suite's order: apart from the batch size, so that this does not
#: change an embedding's rounding.
EMBEDDED_TOGETHER = 32


class Sampler(Protocol):
    """What makes images; :class:`soar_bench.sampling.sampler.Sampler` is the real one."""

    @property
    def embeds(self) -> bool: ...
    def embed(self, texts: Sequence[str]) -> None: ...
    def sample(self, samples: Sequence[PlannedSample], seed: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Made:
    """What one process did."""

    #: images that were missing and are there now
    images: int
    #: images made at once, as asked for or found
    batch_size: int


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
