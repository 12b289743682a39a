"""The samples of a probe: some of a data set, as a pipeline's frozen parts see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from training.data import Source
from training.data.views import fit_to
from training.encoders import encode_images, encode_prompts

#: Pictures, or captions, that are encoded together, whatever else is done in batches.
_BATCH = 64


class Part:
    """``count`` samples of a source from number ``first`` on."""

    def __init__(self, source: Source, first: int, count: int) -> None:
        if first + count > len(source):
            raise SoarBenchError(
                f"the data has {len(source)} samples, not the {first + count} that are asked for: "
                "take fewer with --samples or name more data"
            )
        self._source, self.first, self._count = source, first, count
        self.digest = digest_of([source.digest, first, count])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Return picture (uint8 RGB [H, W, 3]) and caption. SoarBenchError if that is empty."""
        image, caption = self._source[self.first + index]
        if not caption.strip():
            raise SoarBenchError(
                f"sample {self.first + index} of the data has no caption: the probe compares "
                "predictions for captions, so leave it out"
            )
        return image, caption


@dataclass(frozen=True)
class Encoded:
    """Clean latents and the embeddings of their captions, on the CPU."""

    latents: Tensor  # float32 [n, C, h, w]
    captions: Tensor  # int64 [n], rows of the two below
    prompt_embeds: Tensor  # [U + 1, L, D]; the last row is the empty caption
    pooled_embeds: Tensor  # [U + 1, P]

    def embeddings(self, rows: range, conditional: bool) -> tuple[Tensor, Tensor]:
        """Return [B, L, D] and [B, P] of these samples' captions, or of the empty one."""
        captions = self.captions[rows.start : rows.stop]
        if not conditional:
            captions = torch.full_like(captions, len(self.prompt_embeds) - 1)
        return self.prompt_embeds[captions], self.pooled_embeds[captions]


def encode(
    part: Part,
    pipeline: Any,
    resolution: int,
    max_sequence_length: int,
    dtype: torch.dtype,
    progress: Callable[[int, int], None],
) -> Encoded:
    """Encode samples as training does: the mean of the autoencoder's distribution, pictures cut to
    a square at the centre. ``dtype`` is the type that embeddings are kept in.
    """
    numbers: dict[str, int] = {}
    latents, captions = [], []
    for start in range(0, len(part), _BATCH):
        batch = [part[i] for i in range(start, min(start + _BATCH, len(part)))]
        images = np.stack([fit_to(image, resolution) for image, _ in batch])
        latents.append(encode_images(pipeline, images).cpu())
        captions += [numbers.setdefault(text, len(numbers)) for _, text in batch]
        progress(start + len(batch), len(part))
    texts = [*numbers, ""]
    embeds = [
        encode_prompts(pipeline, texts[start : start + _BATCH], max_sequence_length)
        for start in range(0, len(texts), _BATCH)
    ]
    return Encoded(
        latents=torch.cat(latents),
        captions=torch.tensor(captions),
        prompt_embeds=torch.cat([prompt.to("cpu", dtype) for prompt, _ in embeds]),
        pooled_embeds=torch.cat([pooled.to("cpu", dtype) for _, pooled in embeds]),
    )
