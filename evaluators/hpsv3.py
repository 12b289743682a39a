"""HPSv3: people's preference, by Qwen2-VL-7B with a head on one token.

Source: arXiv 2508.03789; the package ``hpsv3`` 1.0.0, whose instruction to the model is read from
its file as text. The package's ``reward`` takes images before prompts, its repository's the other
way round; here both have names.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators import catalogue
from evaluators.loading import check_keys, read_safetensors
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from evaluators.vlm import canary
from evaluators.vlm.pixels import rule_of
from evaluators.vlm.question import Question
from evaluators.weights import Weights
from soar_bench.core.digests import file_digest

if TYPE_CHECKING:
    import torch

FILE = "HPSv3.safetensors"
TOKEN = "<|Reward|>"
#: Pixels of every picture, as nearly as multiples of 28 allow.
PIXELS = 256 * 28 * 28
#: Outputs of the head's linear layers, by their places in it.
HEAD = {0: 1024, 3: 16, 5: 2}
#: SHA-256 of the package's file with the instruction.
INSTRUCTION_DIGEST = "b0f936e89f8df652c67d470412e1d9afd27aa711dec85724c19989ac91e7a3e3"


def instruction(package: Path | None = None) -> str:
    """Return the text around a prompt, with ``{text_prompt}`` in its place.

    It is read from the package's file, which is not imported. EvaluatorError if it is not here or
    another version.
    """
    spec = None if package else find_spec("hpsv3")
    if package is None and spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
    file = None if package is None else package / "dataset" / "data_collator_qwen.py"
    if file is None or not file.is_file():
        raise EvaluatorError(
            "HPSv3's instruction is in the package hpsv3: pip install --no-deps hpsv3==1.0.0"
        )
    if file_digest(file) != INSTRUCTION_DIGEST:
        raise EvaluatorError(
            f"{file} is not that of hpsv3 1.0.0: pip install --no-deps hpsv3==1.0.0"
        )
    texts: dict[str, str] = {}
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            texts |= {t.id: str(node.value.value) for t in node.targets if isinstance(t, ast.Name)}
    return texts["INSTRUCTION"] + texts["prompt_with_special_token"]


class HpsV3(Evaluator):
    """The mean of the preference that HPSv3 predicts; its deviation is among the details."""

    name = "hpsv3"
    metrics = (
        Metric(
            name="hpsv3",
            unit="preference; published values run from about 0 to 15",
            range=(-float("inf"), float("inf")),
            higher_is_better=True,
            version="1",
            source="arXiv 2508.03789; MizzenAI/HPSv3, package hpsv3 1.0.0",
            description="Mean mu of the Gaussian preference that Qwen2-VL-7B with HPSv3's head "
            "predicts for image and prompt.",
            licence=catalogue.HPS_V3.licence,
        ),
    )
    dtypes = ("float32", "bfloat16")

    def __init__(
        self,
        weights: Weights = catalogue.HPS_V3,
        base: Weights = catalogue.QWEN2_VL_7B_FORM,
        *,
        canary: bool = True,
        instruction: str = "",
    ) -> None:
        """``canary=False`` and a short ``instruction`` are for tests with untrained models."""
        self.weights = (weights, base)
        self._canary, self._instruction = canary, instruction

    def check(self) -> None:
        if not self._instruction:
            instruction()
        super().check()

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        from evaluators.vlm.judge import Judge, load_model, read_config, read_tokenizer

        self.check()
        self._instruction = self._instruction or instruction()
        weights, base = self.weights
        config, tokenizer = read_config(base), read_tokenizer(base)
        tokenizer.add_special_tokens([TOKEN])
        file = weights.file(FILE)
        state = read_safetensors(file)
        head = {name: state.pop(name) for name in list(state) if name.startswith("rm_head.")}
        embeddings = state.get("model.embed_tokens.weight")
        if embeddings is None or len(embeddings) <= tokenizer.token_to_id(TOKEN):
            raise EvaluatorError(f"{file} holds no weights of HPSv3: fetch it again")
        config.text_config.vocab_size = len(embeddings)
        self._head = _read_head(head, int(embeddings.shape[1]), file)
        model = load_model(config, None, state, dtype)
        rule = rule_of(config.model_type, PIXELS, PIXELS)
        self._judge = Judge(model, tokenizer, config.model_type, device, rule)
        if self._canary:
            self.examine()

    def examine(self) -> None:
        """Raise EvaluatorError unless each of the canary's pictures suits its own prompt better."""
        values = [mu for mu, _ in self.predictions(canary.pairs())]
        canary.require_own_prompts(self.name, values)

    def predictions(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Return mu and sigma of each sample."""
        import torch

        questions = [
            Question(sample.image, self._instruction.format(text_prompt=sample.prompt))
            for sample in samples
        ]
        token = self._judge.token(TOKEN)
        with torch.inference_mode():
            return self._head(self._judge.hidden(questions, token)).tolist()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        if not samples:
            return []
        return [
            {"hpsv3": Score(mu, details={"sigma": sigma})}
            for mu, sigma in self.predictions(samples)
        ]


def head(width: int) -> torch.nn.Module:
    """Return the head, under the published names, from [B, width] to mu and sigma [B, 2]."""
    from torch import nn

    layers: list[nn.Module] = [
        nn.Linear(width, HEAD[0]), nn.ReLU(), nn.Dropout(0.05),
        nn.Linear(HEAD[0], HEAD[3]), nn.ReLU(), nn.Linear(HEAD[3], HEAD[5]),
    ]  # fmt: skip
    return nn.ModuleDict({"rm_head": nn.Sequential(*layers)})


def _read_head(state: dict[str, Any], width: int, file: Path) -> torch.nn.Module:
    network = head(width)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_keys(shapes, state, (), file, "HPSv3's head")
    network.load_state_dict(state)
    return network.get_submodule("rm_head").float().eval()
