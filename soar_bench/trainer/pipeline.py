"""The pipeline that a training starts from, as training wants it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from soar_bench.checkpoints.loading import load_merged
from soar_bench.checkpoints.types import Checkpoint
from soar_bench.core.digests import digest_of, weights_digest
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.pipelines.sizes import size_limits
from soar_bench.trainer.memory import measure, sizes_of
from training.memory import Memory
from training.space import Sizes
from training.types import Config


@dataclass(frozen=True)
class BasePipeline(Pipeline):
    """A pipeline's folder, of which parts are loaded and digested: a ``TrainingPipeline``."""

    #: whose transformer it has; None: the folder's own
    checkpoint: Checkpoint | None = None

    def load(self, parts: Collection[str]) -> Any:
        """Load a diffusers pipeline of these components alone, in float32 on the CPU."""
        if self.checkpoint:
            return load_merged(self.checkpoint, parts)
        return load_pipeline(self.folder, parts)

    def digest_parts(self, parts: Collection[str]) -> str:
        """Return the SHA-256 of the weights, settings and vocabularies of these components.

        It is part of the names under which encodings are cached.
        """
        digests: dict[str, Any] = {}
        for part in parts:
            folder = self.folder / part
            if not folder.is_dir():
                continue
            weights = self.weight_files(part).files if part in self.models() else ()
            digests[part] = [
                weights_digest(weights) if weights else "",
                {
                    file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                    for file in sorted(folder.iterdir())
                    if file.suffix in (".json", ".txt", ".model")
                    and ".safetensors.index." not in file.name
                },
            ]
        return digest_of(digests)

    def sizes(self, config: Config) -> Sizes:
        """Return how much of the transformer a training with these settings holds."""
        return sizes_of(self, config)

    def measure(self, config: Config) -> Memory:
        """Return the memory that a training with these settings takes."""
        return measure(self, config)

    def size_limits(self) -> tuple[int, int | None]:
        """Return the pixels that an image's side is a multiple of, and its largest side."""
        return size_limits(self)
