"""Prompts to train on without pictures: texts and their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from soar_bench.core.digests import digest_of


@dataclass
class Prompts:
    """Prompts with the metadata that rewards read; a Source whose pictures nobody may ask for."""

    texts: Sequence[str]
    metadata: Sequence[Mapping[str, Any]]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.texts, self.metadata, strict=True)
        self.digest = digest_of([[text, dict(record)] for text, record in pairs])

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        raise TypeError("prompts have no pictures")

    def caption(self, index: int) -> str:
        return self.texts[index]
