"""CLIPScore in any model of the open_clip package, by a name: ``openclip:MODEL/PRETRAINED``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from evaluators.clip import at_once
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from soar_bench.core.digests import file_digest
from soar_bench.core.errors import did_you_mean
from soar_bench.core.packages import install
from soar_bench.core.torchvision import mend_torchvision

_HUB = "hf-hub:"
_FOLDER = "local-dir:"
_CONFIG = "open_clip_config.json"
#: Files of a hub repository that open_clip reads weights from, best first.
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
#: Files of a folder that open_clip reads weights from, in the order in which it looks for them.
_IN_FOLDER = (_WEIGHTS[0], "open_clip_pytorch_model.safetensors", _WEIGHTS[1])
#: A precision's name in open_clip; weights and activations are all of it.
_PRECISIONS = {"float32": "fp32", "bfloat16": "pure_bf16", "float16": "pure_fp16"}
#: How pictures are prepared, as open_clip's tables and the hub's configurations name it.
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


class OpenClipScore(Evaluator):
    """Cosine of image and prompt embeddings in a model that open_clip builds and prepares for.

    ``name`` is one of

    - ``MODEL/TAG``: a model and a tag of ``open_clip.list_pretrained()``, in the hub's cache;
    - ``MODEL/FILE``: a model of ``open_clip.list_models()`` and a file of its weights;
    - ``MODEL/hf-hub:OWNER/REPO`` or ``hf-hub:OWNER/REPO``: a repository in the hub's cache with
      weights and ``open_clip_config.json``, which also names the model where ``MODEL/`` does not;
    - ``local-dir:FOLDER``: such a repository's files in a folder.

    Nothing is downloaded. Source: mlfoundations/open_clip.
    """

    dtypes = tuple(_PRECISIONS)

    def __init__(self, name: str) -> None:
        if name.startswith(_FOLDER):
            name = f"{_FOLDER}{Path(name.removeprefix(_FOLDER)).expanduser()}"
        whole = name.startswith((_HUB, _FOLDER))
        self._model, _, self._pretrained = ("", "", name) if whole else name.partition("/")
        if not whole and not (self._model and self._pretrained):
            raise EvaluatorError(
                f"'openclip:{name}' names no model: write openclip:MODEL/PRETRAINED, for "
                "example openclip:ViT-B-32/laion2b_s34b_b79k"
            )
        stem = Path(self._pretrained).stem
        is_path = self._is_file or name.startswith(_FOLDER)
        label = stem if is_path else self._pretrained.removeprefix(_HUB)
        parts = ("openclip", self._model, label)
        self.name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(filter(None, parts)))
        self.metrics = (
            Metric(
                name=self.name.replace("-", "_"),
                unit="cosine",
                range=(-1.0, 1.0),
                higher_is_better=True,
                version="1",
                source="arXiv 2103.00020; mlfoundations/open_clip",
                description=f"Cosine of image and prompt embeddings in open_clip's {name}, with "
                "that model's own preprocessing.",
                licence="see the model's page",
            ),
        )

    @property
    def _is_file(self) -> bool:
        """Whether the weights are named by a path: no tag has a slash or a dot."""
        elsewhere = self._pretrained.startswith((_HUB, _FOLDER))
        return not elsewhere and any(c in self._pretrained for c in "/.")

    def check(self) -> None:
        for package in ("open_clip", "torchvision"):
            if find_spec(package) is None:
                raise EvaluatorError(
                    f"{self.name} needs the packages open-clip-torch and torchvision: "
                    f"{install('openclip')}"
                )
        models = {file.stem for file in _folder().glob("model_configs/*.json")}
        if self._model and self._model not in models:
            hint = did_you_mean(self._model, models) or "; open_clip.list_models() has them"
            raise EvaluatorError(f"open_clip has no model {self._model!r}{hint}")
        self._files()

    def identity(self) -> dict[str, str]:
        return {
            **{file.name: file_digest(file) for file in self._files()},
            "open_clip": version("open-clip-torch"),
            "torchvision": version("torchvision"),
        }

    def _files(self) -> list[Path]:
        """Return the weights' file, and its configuration if a repository has one.

        EvaluatorError says what to fetch.
        """
        if self._is_file:
            file = Path(self._pretrained).expanduser()
            if not file.is_file():
                raise EvaluatorError(f"there is no file {file} to read weights from")
            return [file]
        if self._pretrained.startswith(_FOLDER):
            return _in_folder(Path(self._pretrained.removeprefix(_FOLDER)))
        if self._pretrained.startswith(_HUB):
            repo = self._pretrained.removeprefix(_HUB)
            return [_cached(repo, *_WEIGHTS), _cached(repo, _CONFIG)]
        open_clip = _import()
        tag = open_clip.get_pretrained_cfg(self._model, self._pretrained)
        if not tag:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self._model))
            raise EvaluatorError(
                f"open_clip has no weights {self._pretrained!r} of the model {self._model} "
                f"(known: {tags or 'none'})"
            )
        repo, _, name = tag["hf_hub"].rpartition("/")
        if not repo:
            raise EvaluatorError(
                f"the weights {self._pretrained} of {self._model} are not on the hub: download "
                f"{tag['url']} and name the file, openclip:{self._model}/PATH"
            )
        names = (re.sub(r"\.(bin|pth)$", ".safetensors", name), name)
        return [_cached(repo, *(_WEIGHTS if name in ("", *_WEIGHTS) else dict.fromkeys(names)))]

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        self.check()
        weights, *config = self._files()
        open_clip = _import()
        try:
            with _offline():
                self._network, self._transform = open_clip.create_model_from_pretrained(
                    self._model or self._pretrained,
                    str(weights) if self._model else None,
                    precision=_PRECISIONS[dtype],
                    device=device,
                    **self._settings(open_clip, config),
                )
                self._tokenize = open_clip.get_tokenizer(self._model or self._pretrained)
        except Exception as error:  # a damaged file raises whatever its reader stumbles over
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise EvaluatorError(
                f"open_clip cannot load {weights} ({reason}); nothing is downloaded: what it lacks "
                "must be in the hub's cache"
            ) from error
        self._network.eval()
        self._device, self._dtype = device, getattr(torch, dtype)

    def _settings(self, open_clip: Any, config: Sequence[Path]) -> dict[str, Any]:
        """Return how to use the weights, where open_clip would not know it from a file's path."""
        tag = open_clip.get_pretrained_cfg(self._model, self._pretrained)
        sources = [tag]
        if config:
            sources = [json.loads(config[0].read_text("utf-8")).get("preprocess_cfg", {})]
        elif not tag:  # a file: what all published weights of this model agree on
            tags = open_clip.list_pretrained_tags_by_model(self._model)
            sources = [open_clip.get_pretrained_cfg(self._model, name) for name in tags]
        agreed = {
            f"image_{key}": sources[0][key]
            for key in _PREPROCESSING
            if sources and all(key in s and s[key] == sources[0].get(key) for s in sources)
        }
        return {**agreed, "force_quick_gelu": tag.get("quick_gelu", False)}

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        step = at_once(self._device)
        batches = (samples[i : i + step] for i in range(0, len(samples), step))
        values = chain.from_iterable(map(self._cosines, batches))
        return [{self.metrics[0].name: Score(value)} for value in values]

    def _cosines(self, samples: Sequence[Sample]) -> list[float]:
        import torch

        pixels = torch.stack([self._transform(Image.fromarray(s.image)) for s in samples])
        tokens = self._tokenize([s.prompt for s in samples]).to(self._device)
        with torch.inference_mode():
            images = self._network.encode_image(pixels.to(self._device, self._dtype)).float()
            texts = self._network.encode_text(tokens).float()
            cosines = torch.nn.functional.cosine_similarity(images, texts)
            return cosines.clamp(-1, 1).tolist()  # rounding may pass 1


def _folder() -> Path:
    """Return where open_clip is installed, without importing it: it imports torch."""
    spec = find_spec("open_clip")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _import() -> Any:
    mend_torchvision()
    try:
        import open_clip
    except Exception as error:  # its dependencies fail in many ways
        raise EvaluatorError(
            f"the open_clip package does not import ({error!r}): {install('openclip')}"
        ) from error
    return open_clip


def _in_folder(folder: Path) -> list[Path]:
    """Return the weights and the configuration in a folder. EvaluatorError if it lacks them."""
    weights = [file for name in _IN_FOLDER if (file := folder / name).is_file()]
    if not weights or not (folder / _CONFIG).is_file():
        raise EvaluatorError(
            f"{folder} lacks {' or '.join(_WEIGHTS)}, or {_CONFIG}: name a folder that has both, "
            "as `hf download --local-dir` makes one"
        )
    return [weights[0], folder / _CONFIG]


def _cached(repo: str, *names: str) -> Path:
    """Return the first of the repository's files that the hub's cache has."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        file = try_to_load_from_cache(repo, name)
        if isinstance(file, str):
            return Path(file)
    raise EvaluatorError(
        f"{' or '.join(names)} of {repo} is not in the hub's cache: "
        f"run `hf download {repo} {names[0]}`"
    )


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid downloads of the hub's client, which open_clip and transformers use."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
