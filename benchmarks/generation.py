"""Images of a pipeline by ``eval``'s generation and by plain diffusers, to be timed in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

#: Makes images, and files of them in an empty folder.
Way = Callable[[Path], None]
PLAIN, OURS = "plain diffusers", "eval"
#: A name's way without files, sampling alone.
WITHOUT_FILES = "{}, no files"


@dataclass(frozen=True)
class Setting:
    """Images to make with a pipeline that is loaded already."""

    pipeline: Any
    images: int
    #: images at once
    batch: int
    steps: int
    #: of an image, in pixels
    side: int
    guidance: float
    #: T5 tokens
    tokens: int
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def texts(self) -> list[str]:
        return [f"a photo of {n} things" for n in range(self.images)]

    def plain(self, folder: Path | None) -> None:
        """Call the pipeline as its documentation does; without a folder, save nothing."""
        for start in range(0, self.images, self.batch):
            images = self.pipeline(
                self.texts[start : start + self.batch], num_inference_steps=self.steps,
                guidance_scale=self.guidance, height=self.side, width=self.side,
                max_sequence_length=self.tokens,
            ).images  # fmt: skip
            for number, image in enumerate(images if folder else []):
                assert folder is not None
                image.save(folder / f"{start + number}.png")

    def ways(self) -> dict[str, Way]:
        """Return every way, by its name."""
        from soar_bench.cache.images import ImageStore
        from soar_bench.checkpoints.in_memory import Loaded
        from soar_bench.checkpoints.types import Checkpoint
        from soar_bench.sampling.generate import Generation
        from soar_bench.suites.types import Prompt, Protocol, Suite

        self.pipeline.set_progress_bar_config(disable=True)
        loaded = Loaded(self.pipeline)
        checkpoint = Checkpoint(
            "random", "random", "pipeline", loaded.folder, "0" * 64, loaded=loaded
        )
        prompts = tuple(Prompt(str(n), text, {}) for n, text in enumerate(self.texts))
        suite = Suite("timed", "as fast as can be", prompts, ())
        protocol = Protocol(
            "timed",
            steps=self.steps,
            guidance=self.guidance,
            resolution=self.side,
            max_sequence_length=self.tokens,
            dtype=self.dtype,
            vae_dtype=self.dtype,
        )

        def ours(folder: Path) -> None:
            Generation(checkpoint, suite, protocol, folder, 1).make(self.batch, self.device)

        def ours_without_files(folder: Path) -> None:
            with patch.object(ImageStore, "add", lambda *given: None):
                ours(folder)

        return {
            WITHOUT_FILES.format(PLAIN): lambda folder: self.plain(None),
            WITHOUT_FILES.format(OURS): ours_without_files,
            PLAIN: self.plain,
            OURS: ours,
        }
