"""How the embedded base and scorer were made: tokenizers by rule, everything else trained.

Stages, each resumable and kept in a folder of its own: the autoencoder; the text encoders, which
learn from captions what belongs to what; the transformer (through ``training.loop``, like any
checkpoint), which learns to draw; its lessons in what has to be bound; and apart from them the
scorer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from benchmarks.pretrain.recipe import PretrainConfig
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically, replace_folder_atomically
from soar_bench.core.progress import Stages
from soar_bench.trainer.config import load_config, read_settings
from training.types import Config

STAGES = ("vae", "text", "transformer", "lessons", "scorer")


def read_recipe(file: Path) -> PretrainConfig:
    """The recipe in a YAML file; SoarBenchError names what is wrong with it."""
    try:
        recipe = PretrainConfig.model_validate(read_settings(file))
    except ValidationError as error:
        reason = " ".join(str(error).split())
        raise SoarBenchError(f"{file} is not a pretraining recipe: {reason}") from None
    for settings in ({}, *(lesson.train for lesson in recipe.lessons)):  # hours before the need
        _training_config(recipe, Path("start"), Path("output"), settings)
    return recipe


def _training_config(
    recipe: PretrainConfig, start: Path, output: Path, settings: dict[str, Any]
) -> Config:
    places = {"base": str(start), "output": output, "cache": None}
    return load_config(None, {**recipe.transformer, **settings, **places, "method": "sft"})


def pretrain(recipe: PretrainConfig, output: Path, stages: tuple[str, ...], show: Stages) -> None:
    """Runs the stages named, in order; each needs the ones before it."""
    for stage in STAGES:
        if stage in stages:
            _RUN[stage](recipe, output, show)


def _vae(recipe: PretrainConfig, output: Path, show: Stages) -> None:
    from benchmarks.pretrain import vae

    model = vae.train(output / "vae", recipe.vae, lambda *a: show("vae", *a))
    model.save_pretrained(output / "vae" / "model", safe_serialization=True)


def _text(recipe: PretrainConfig, output: Path, show: Stages) -> None:
    from safetensors.torch import save_model

    from benchmarks.pretrain import text

    encoders = text.train(output / "text", recipe.text, lambda *a: show("text encoders", *a))
    with replace_atomically(output / "text" / "encoders.safetensors") as aside:
        save_model(encoders, str(aside))


def _transformer(recipe: PretrainConfig, output: Path, show: Stages) -> None:
    """Assembles the pipeline around a random transformer and trains it on the broad pictures."""
    from soar_bench.trainer.run import train

    start = output / "start"
    with replace_folder_atomically(start) as aside:
        _assemble(recipe, output).save_pretrained(aside, safe_serialization=True)
    config = _training_config(recipe, start, output / "transformer", {})
    # Its digest is checked by the loop: another autoencoder or architecture is another run.
    checkpoint = train(config, progress=show)
    export(start, checkpoint / "transformer", output / "drawing", torch.float32)


def _lessons(recipe: PretrainConfig, output: Path, show: Stages) -> None:
    """Trains the transformer on one lesson after the other; exports the base in half precision."""
    from benchmarks.pretrain.lessons import pictures_of
    from soar_bench.trainer.run import train

    start = _made(output / "drawing", "transformer")
    for lesson in recipe.lessons:
        place = output / "lessons" / lesson.name
        config = _training_config(recipe, start, place / "training", lesson.train)
        checkpoint = train(config, source=pictures_of(lesson), progress=show)
        export(start, checkpoint / "transformer", place / "model", torch.float32)
        start = place / "model"
    export(start, start / "transformer", output / "base")


def _made(folder: Path, stage: str) -> Path:
    if not folder.is_dir():
        raise SoarBenchError(f"this needs the stage {stage} first: no {folder}")
    return folder


def _assemble(recipe: PretrainConfig, output: Path) -> Any:
    """The pipeline before the transformer is trained: the same whenever made of the same parts."""
    from diffusers import AutoencoderKL
    from safetensors.torch import load_model

    from benchmarks.pretrain.base import assemble
    from benchmarks.pretrain.text import TextEncoders

    parts = [output / "vae" / "model" / "config.json", output / "text" / "encoders.safetensors"]
    missing = [str(part) for part in parts if not part.exists()]
    if missing:
        raise SoarBenchError(
            f"the transformer needs the stages vae and text first: no {', '.join(missing)}"
        )
    texts = TextEncoders()
    load_model(texts, str(parts[1]))
    vae = AutoencoderKL.from_pretrained(parts[0].parent, local_files_only=True)
    return assemble(recipe.architecture, vae, texts)


def export(
    start: Path, transformer: Path, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Writes the pipeline with a trained transformer; the base is shipped in half precision."""
    from diffusers import SD3Transformer2DModel

    from soar_bench.pipelines.loading import load_pipeline

    pipeline = load_pipeline(start)
    pipeline.transformer = SD3Transformer2DModel.from_pretrained(transformer, local_files_only=True)
    with replace_folder_atomically(folder) as aside:
        pipeline.to(dtype).save_pretrained(aside, safe_serialization=True)


def _scorer(recipe: PretrainConfig, output: Path, show: Stages) -> None:
    from benchmarks.pretrain import scorer

    parts = scorer.train(output / "scorer", recipe.scorer, lambda *a: show("scorer", *a))
    with replace_folder_atomically(output / "scorer" / "model") as aside:
        parts[0].half().save_pretrained(aside, safe_serialization=True)
        for part in parts[1:]:
            part.save_pretrained(aside)


_RUN = {
    "vae": _vae,
    "text": _text,
    "transformer": _transformer,
    "lessons": _lessons,
    "scorer": _scorer,
}
