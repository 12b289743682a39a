"""A vision language model in memory: probabilities of its first token, and texts that it writes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.loading import refuse_keys
from evaluators.types import EvaluatorError
from evaluators.vlm.chat import IMAGE, wrapped
from evaluators.vlm.pixels import MERGE, Grid, PixelRule, rule_of
from evaluators.vlm.question import Question
from evaluators.weights import Weights
from soar_bench.core.text import parse_json
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: Name in transformers of each kind of model.
KINDS = {
    "qwen2_vl": "Qwen2VL",
    "qwen2_5_vl": "Qwen2_5_VL",
    "qwen3_vl": "Qwen3VL",
}
_END = "<|im_end|>"


@dataclass(frozen=True)
class _Input:
    """A question as the model reads it."""

    #: int64 [L]
    ids: np.ndarray
    #: place of its picture among those of all questions
    picture: int
    grid: Grid


class Judge:
    """A Qwen-VL model with its tokenizer."""

    def __init__(
        self, model: Any, tokenizer: Any, kind: str, device: str, rule: PixelRule | None = None
    ) -> None:
        """``kind`` is the model's ``model_type``, whose ``rule`` holds unless another is given."""
        self.kind, self.rule = kind, rule or rule_of(kind)
        self.tokenizer, self.device = tokenizer, device
        self.model: Any = model.to(device).eval()
        self._image = self.token(IMAGE)
        #: whether this transformers takes pictures that went through the vision tower before
        self.takes_features = "mm_encoder_outputs" in inspect.signature(model.forward).parameters

    @classmethod
    def read(cls, weights: Weights, device: str = "cpu", dtype: str = "float32") -> Judge:
        """Return the judge of ``config.json``, ``tokenizer.json`` and the safetensors of a set.

        EvaluatorError if a file is missing, damaged or of another model.
        """
        config, tokenizer = read_config(weights), read_tokenizer(weights)
        model = load_model(config, weights.folder, None, dtype)
        return cls(model, tokenizer, str(config.model_type), device)

    @property
    def at_once(self) -> int:
        """Questions that go through the model together."""
        return 1 if self.device == "cpu" else 16

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def token(self, text: str) -> int:
        """Return the id of a special token. EvaluatorError if the tokenizer has no such token."""
        number = self.tokenizer.token_to_id(text)
        if number is None:
            raise EvaluatorError(f"the judge's tokenizer has no {text}: fetch its weights again")
        return int(number)

    def first_token(self, questions: Sequence[Question]) -> np.ndarray:
        """Return the probability of each token of the vocabulary as the answer's first:
        float32 [B, V], from the whole softmax in float32.
        """
        import torch

        rows = np.empty((len(questions), self.model.config.text_config.vocab_size), np.float32)
        for places, batch in self._batches(questions):
            with torch.inference_mode():
                logits = self.model(**batch, logits_to_keep=1, use_cache=False).logits[:, -1]
            rows[places] = logits.float().softmax(-1).cpu().numpy()
        return rows

    def hidden(self, questions: Sequence[Question], token: int) -> torch.Tensor:
        """Return the last layer's output where the text has ``token``, once: float32 [B, D].

        Positions count up through image and text alike, as in the released reward models, which
        hand the language model none; the model's own would be two-dimensional within the image.
        """
        import torch

        rows: list[Any] = [None] * len(questions)
        for places, batch in self._batches(questions):
            ids = batch["input_ids"]
            positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
            with torch.inference_mode():
                output = self.model.model(**batch, position_ids=positions, use_cache=False)
            states = output.last_hidden_state
            for place, row, state in zip(places, ids, states, strict=True):
                marks = (row == token).nonzero().flatten()
                if len(marks) != 1:
                    name = self.tokenizer.id_to_token(token)
                    raise EvaluatorError(
                        f"a question must contain {name} once, not {len(marks)} times"
                    )
                rows[place] = state[marks[0]].float().cpu()
        return torch.stack(rows)

    def write(self, questions: Sequence[Question], most: int) -> list[str]:
        """Return the answers, up to ``most`` tokens each: always the likeliest next token."""
        import torch
        from transformers import GenerationConfig

        end = [self.token(_END)]
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=most, eos_token_id=end, pad_token_id=end[0]
        )
        answers = [""] * len(questions)
        for places, batch in self._batches(questions):
            with torch.inference_mode():
                ids = self.model.generate(**batch, generation_config=settings)
            for place, row in zip(places, ids[:, batch["input_ids"].shape[1] :], strict=True):
                answers[place] = self.tokenizer.decode(row.tolist(), skip_special_tokens=True)
        return answers

    def _batches(self, questions: Sequence[Question]) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Yield places and the model's inputs, of one length each: no padding enters a score."""
        import torch

        inputs, pictures = self._inputs(questions)
        features = self._features(pictures) if self.takes_features else []
        alike: dict[tuple[int, Grid], list[int]] = {}
        for place, item in enumerate(inputs):
            alike.setdefault((len(item.ids), item.grid), []).append(place)
        for group in alike.values():
            for start in range(0, len(group), self.at_once):
                places = group[start : start + self.at_once]
                batch = [inputs[i] for i in places]
                ids = torch.from_numpy(np.stack([item.ids for item in batch])).to(self.device)
                own = [item.picture for item in batch]
                if self.takes_features:
                    seen = {"image": _together([features[i] for i in own])}
                    images = {"mm_encoder_outputs": seen} | self._grids([pictures[i] for i in own])
                else:
                    images = self._pixels([pictures[i] for i in own])
                yield (
                    places,
                    {
                        "input_ids": ids,
                        "attention_mask": torch.ones_like(ids),
                        "mm_token_type_ids": (ids == self._image).int(),
                        **images,
                    },
                )

    def _features(self, pictures: Sequence[tuple[np.ndarray, Grid]]) -> list[Any]:
        """Return what the vision tower says of each picture: once, however many the questions."""
        import torch

        features: list[Any] = []
        for start in range(0, len(pictures), self.at_once):
            batch = self._pixels(pictures[start : start + self.at_once])
            with torch.inference_mode():
                output = self.model.get_image_features(**batch, return_dict=True)
            for i, rows in enumerate(output.pooler_output):
                parts: dict[str, Any] = {"pooler_output": (rows,)}
                if deeper := getattr(output, "deepstack_features", None):
                    parts["deepstack_features"] = [(layer[i],) for layer in deeper]
                features.append(type(output)(**parts))
        return features

    def _pixels(self, pictures: Sequence[tuple[np.ndarray, Grid]]) -> dict[str, Any]:
        """Return pictures as the vision tower takes them."""
        import torch

        patches = torch.from_numpy(np.concatenate([patches for patches, _ in pictures]))
        pixels = patches.to(self.device, self.model.dtype)
        return {"pixel_values": pixels, **self._grids(pictures)}

    def _grids(self, pictures: Sequence[tuple[np.ndarray, Grid]]) -> dict[str, Any]:
        import torch

        return {"image_grid_thw": torch.tensor([grid for _, grid in pictures]).to(self.device)}

    def _inputs(
        self, questions: Sequence[Question]
    ) -> tuple[list[_Input], list[tuple[np.ndarray, Grid]]]:
        """Return the questions as the model reads them, and patches and grid of each picture;
        questions about one array share it.
        """
        places: dict[int, int] = {}
        pictures: list[tuple[np.ndarray, Grid]] = []
        inputs = []
        for question in questions:
            key = id(question.image)
            if key not in places:
                places[key] = len(pictures)
                pictures.append(self.rule.patches(question.image))
            _, grid = pictures[places[key]]
            tokens = grid[1] * grid[2] // MERGE**2
            ids = self.ids(wrapped(self.kind, question.text, tokens))
            if ids.count(self._image) != tokens:
                raise EvaluatorError(f"a question contains {IMAGE}, which stands for the image")
            inputs.append(_Input(np.array(ids, np.int64), places[key], grid))
        return inputs, pictures


def _together(features: Sequence[Any]) -> Any:
    """Return the features of several pictures as the model takes those of a batch."""
    parts: dict[str, Any] = {"pooler_output": tuple(f.pooler_output[0] for f in features)}
    if deeper := getattr(features[0], "deepstack_features", None):
        layers = range(len(deeper))
        parts["deepstack_features"] = [
            tuple(f.deepstack_features[i][0] for f in features) for i in layers
        ]
    return type(features[0])(**parts)


def read_config(weights: Weights) -> Any:
    """Return transformers' configuration. EvaluatorError if it is of no known kind."""
    mend_torchvision()
    import transformers

    file = weights.file("config.json")
    try:
        contents = parse_json(file.read_text("utf-8"))
        kind = contents["model_type"]
        return getattr(transformers, f"{KINDS[kind]}Config").from_dict(contents)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        kinds = ", ".join(KINDS)
        raise EvaluatorError(
            f"{file} describes no model of the kinds {kinds} ({error!r}): fetch it again"
        ) from None


def read_tokenizer(weights: Weights) -> Any:
    """Return the tokenizer of ``tokenizer.json``. EvaluatorError if it is damaged."""
    from tokenizers import Tokenizer

    file = weights.file("tokenizer.json")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the reader raises plain Exceptions
        raise EvaluatorError(f"{file} is no tokenizer ({error}): fetch it again") from None


def load_model(config: Any, folder: Path | None, state: dict[str, Any] | None, dtype: str) -> Any:
    """Return the model of a folder's safetensors, or of a state dict under published names.

    EvaluatorError if a key is missing, too many or of another shape: transformers would fill a
    missing weight with random values and say so in a log.
    """
    import torch
    import transformers

    kind = getattr(transformers, f"{KINDS[config.model_type]}ForConditionalGeneration")
    what = f"a {config.model_type} model"
    source = folder or "the judge's file"
    try:
        with quiet_transformers():
            model, report = kind.from_pretrained(
                None if folder is None else str(folder),
                config=config,
                state_dict=state,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        words = " ".join(str(error).split())[:200]
        raise EvaluatorError(
            f"{source} cannot be read as weights of {what} ({words}): fetch it again"
        ) from None
    misshapen = [n[0] if isinstance(n, tuple) else n for n in report["mismatched_keys"]]
    refuse_keys(source, what, report["missing_keys"], report["unexpected_keys"], misshapen)
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting to the log what is checked here, and its progress bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
