"""Samples as evaluators get them, with the paths of files that the metadata name."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from evaluators.types import Evaluator, Sample
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import short_json
from soar_bench.suites.types import PlannedSample, Prompt


def sample_of(evaluator: Evaluator, image: np.ndarray, prompt: Prompt) -> Sample:
    """Return what an evaluator gets of an image: a copy of the metadata, so that one that writes
    into it changes no other's score; its ``inputs`` as absolute paths.
    """
    metadata = copy.deepcopy(dict(prompt.metadata))
    for name in evaluator.inputs:
        if (path := prompt.file(name)) is not None:
            metadata[name] = str(path)
    return Sample(image, prompt.text, metadata)


def check_inputs(evaluator: Evaluator, samples: Sequence[PlannedSample]) -> None:
    """Raise SoarBenchError unless every prompt names a file for each of the ``inputs``."""
    for name in evaluator.inputs:
        for sample in samples:
            prompt = sample.prompt
            if prompt.file(name) is None:
                value = prompt.metadata.get(name)
                fault = "names none" if value is None else f"has {short_json(value)}"
                raise SoarBenchError(
                    f"{evaluator.name} reads the file that {name!r} in the metadata names, and "
                    f"the prompt {prompt.text[:60]!r} {fault}, which is no file in "
                    f"{prompt.folder or 'a folder of a suite'}: put it there"
                )
