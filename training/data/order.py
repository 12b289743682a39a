"""In which order samples are trained on: a function of seed and step alone.

So a run that is resumed sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch


@lru_cache(maxsize=2)
def _order(count: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def rows_of_step(count: int, batch_size: int, step: int, seed: int) -> torch.Tensor:
    """Return the samples of global batch ``step``: int64 [batch_size].

    The data is walked through in a new order each epoch, which depends on (seed, epoch) alone; a
    batch may reach into the next epoch, so none is short and nothing is dropped or repeated.
    """
    return samples_of_step(count, batch_size, step, seed)[0]


def samples_of_step(
    count: int, batch_size: int, step: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples of global batch ``step``, and the epoch of each: int64 [batch_size] twice."""
    rows: list[int] = []
    epochs: list[int] = []
    position = step * batch_size
    while len(rows) < batch_size:
        epoch, offset = divmod(position + len(rows), count)
        order = _order(count, epoch, seed)
        part = order[offset : offset + batch_size - len(rows)].tolist()
        rows += part
        epochs += [epoch] * len(part)
    return torch.tensor(rows), torch.tensor(epochs)


class BucketOrder:
    """The same where every batch must hold samples of one bucket.

    Each epoch, every bucket is walked through in a new order and cut into batches; the last batch
    of a bucket is filled up from the start of the bucket's own order, so within an epoch every
    sample is seen, and fewer than a batch of each bucket is seen twice. The batches are shuffled.
    """

    def __init__(self, buckets: np.ndarray) -> None:
        self._buckets = buckets  # int [N]: the bucket of each sample
        self._counts = np.unique(buckets, return_counts=True)[1]
        self._epoch = lru_cache(maxsize=2)(self._make)

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch."""
        return int(sum(-(-count // batch_size) for count in self._counts.tolist()))

    def repeated(self, batch_size: int) -> int:
        """Samples that an epoch sees more often than once."""
        return self.steps(batch_size) * batch_size - len(self._buckets)

    def samples_of_step(
        self, batch_size: int, step: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples and epochs of global batch ``step``: int64 [batch_size] twice."""
        epoch, number = divmod(step, self.steps(batch_size))
        rows = torch.from_numpy(self._epoch(batch_size, epoch, seed)[number])
        return rows, torch.full_like(rows, epoch)

    def _make(self, batch_size: int, epoch: int, seed: int) -> np.ndarray:
        """Every batch of an epoch: int64 [steps, batch_size]."""
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(len(self._buckets))
        batches = []
        for bucket in np.unique(self._buckets):
            members = order[self._buckets[order] == bucket]
            full = -(-len(members) // batch_size) * batch_size
            batches.append(np.resize(members, full).reshape(-1, batch_size))
        return random.permutation(np.concatenate(batches)).astype(np.int64)


@lru_cache(maxsize=2)
def _first_variants(count: int, variants: int, seed: int) -> torch.Tensor:
    random = np.random.default_rng((seed, count, variants))
    return torch.from_numpy(random.integers(variants, size=count))


def variants_of(
    samples: torch.Tensor, epochs: torch.Tensor, count: int, variants: int, seed: int
) -> torch.Tensor:
    """Return the variant of each sample to train on: int64, from (seed, epoch, sample) alone.

    A sample starts at a drawn variant and goes on to the next each epoch, so ``variants`` epochs
    see each once.
    """
    return (_first_variants(count, variants, seed)[samples] + epochs) % variants
