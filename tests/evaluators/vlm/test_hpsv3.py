"""HPSv3 against a direct transcription: the processor's tensors, the class, the head by hand."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from test_vlm_judge import image, processor_of

from evaluators import EvaluatorError, catalogue, hpsv3
from evaluators.golden import vlm as tiny
from evaluators.hpsv3 import HpsV3
from evaluators.types import Sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hpsv3")
    tiny.write_hpsv3(folder)
    return folder


def evaluator_over(folder, **settings):
    weights, form = catalogue.HPS_V3.at(folder), catalogue.QWEN2_VL_7B_FORM.at(folder)
    settings = {"canary": False, "instruction": tiny.INSTRUCTION, **settings}
    return HpsV3(weights, form, **settings)


def test_mu_and_sigma_are_those_of_a_direct_transcription(folder):
    import torch
    from safetensors.torch import load_file

    images, tokenizer, _, transformers = processor_of("qwen2_vl", folder)
    sizes = {"shortest_edge": hpsv3.PIXELS, "longest_edge": hpsv3.PIXELS}
    batch = images(image(96, 150), return_tensors="pt", size=sizes)
    tokens = int(batch["image_grid_thw"].prod()) // 4
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>How good is a cat? <|Reward|> END"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(text, return_tensors="pt").input_ids
    state = load_file(folder / hpsv3.FILE)
    config = tiny.tiny_config("qwen2_vl", tokenizer.get_vocab())
    model = transformers.Qwen2VLForConditionalGeneration(config).eval()
    names = {n.removeprefix("model.").replace("language_model.", "model."): n
             for n in model.state_dict()}  # fmt: skip
    model.load_state_dict({new: state[old] for old, new in names.items()})
    seen = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>"))[..., None]
    inner = model.model
    with torch.inference_mode():
        # as the released class: the image's rows among the words', and no positions
        words = inner.get_input_embeddings()(ids)
        rows = inner.visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output
        mixed = words.masked_scatter(seen.expand_as(words), rows)
        hidden = inner.language_model(inputs_embeds=mixed).last_hidden_state[0]
    x = hidden[ids[0] == tokenizer.convert_tokens_to_ids("<|Reward|>")].numpy()
    for place in (0, 3, 5):
        w, b = (state[f"rm_head.{place}.{part}"].numpy() for part in ("weight", "bias"))
        x = np.maximum(x, 0) if place else x
        x = x @ w.T + b
    evaluator = evaluator_over(folder)
    evaluator.load()
    ((mu, sigma),) = evaluator.predictions([Sample(image(96, 150), "a cat")])
    assert [mu, sigma] == pytest.approx(x[0].tolist(), abs=2e-5)
    (scores,) = evaluator.score([Sample(image(96, 150), "a cat")])
    assert scores["hpsv3"].value == mu and scores["hpsv3"].details == {"sigma": sigma}


def test_a_prompt_with_the_judges_own_token_is_named(folder):
    evaluator = evaluator_over(folder)
    evaluator.load()
    with pytest.raises(EvaluatorError, match=r"must contain <\|Reward\|> once, not 2 times"):
        evaluator.score([Sample(image(96, 150), "a <|Reward|> cat")])


def test_an_untrained_model_fails_the_canary_or_orders_by_chance(folder, monkeypatch):
    evaluator = evaluator_over(folder)
    values = iter([[1.0, 0], [2.0, 0], [1.0, 0], [2.0, 0]])
    monkeypatch.setattr(evaluator, "predictions", lambda samples: [next(values) for _ in samples])
    with pytest.raises(EvaluatorError, match="hpsv3 fails its canary"):
        evaluator.examine()
    values = iter([[2.0, 0], [1.0, 0], [1.0, 0], [2.0, 0]])
    evaluator.examine()


def test_the_instruction_is_read_from_the_package_and_nothing_else(tmp_path, monkeypatch):
    with pytest.raises(EvaluatorError, match="pip install --no-deps hpsv3"):
        hpsv3.instruction(tmp_path)
    file = tmp_path / "dataset" / "data_collator_qwen.py"
    file.parent.mkdir()
    file.write_text('raise SystemExit\nINSTRUCTION = "is {text_prompt}"\n'
                    'prompt_with_special_token = " <|Reward|>"\n')  # fmt: skip
    with pytest.raises(EvaluatorError, match="is not that of hpsv3"):
        hpsv3.instruction(tmp_path)
    monkeypatch.setattr(hpsv3, "INSTRUCTION_DIGEST", hpsv3.file_digest(file))
    assert hpsv3.instruction(tmp_path) == "is {text_prompt} <|Reward|>"


@pytest.mark.skipif(find_spec("hpsv3") is None, reason="the package hpsv3 is not here")
def test_the_packages_instruction_has_one_place_and_one_token():
    text = hpsv3.instruction()
    assert text.count("{text_prompt}") == 1 and text.count("<|Reward|>") == 1


def test_another_file_is_refused(folder, tmp_path):
    import shutil

    import torch
    from safetensors.torch import save_file

    shutil.copytree(folder, tmp_path / "other")
    save_file({"a": torch.zeros(1)}, tmp_path / "other" / hpsv3.FILE)
    with pytest.raises(EvaluatorError, match="holds no weights of HPSv3"):
        evaluator_over(tmp_path / "other").load()
