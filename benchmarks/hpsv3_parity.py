"""HPSv3 against its own package on the same tiny weights, in two environments.

The package pins transformers 4.45.2, so it cannot run beside the harness::

    python benchmarks/hpsv3_parity.py ours FOLDER PACKAGE       here; PACKAGE is its unpacked wheel
    python benchmarks/hpsv3_parity.py package FOLDER PACKAGE    where transformers is 4.45.2

The first writes weights, pictures and our values into FOLDER; the second reads them, runs the
package's own class, processor and padding, and prints the differences.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

SIZES = ((64, 96), (512, 512), (1024, 1024), (300, 200), (448, 1000), (33, 57), (28, 700))
PROMPTS = (
    "a cat",
    "a red bicycle in the snow, at night, under one lamp",
    'a sign that says "{SOAR}" über alles, 猫',
    "an astronaut on a horse " * 20,
)
BATCHES = (1, 2, 5)
#: The chat template of Qwen2-VL: its system line, and an image before a text.
TEMPLATE = (
    "{% for m in messages %}{% if loop.first %}<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pictures() -> list[np.ndarray]:
    """Return a picture per size, of noise on a slope: uint8 RGB [H, W, 3]."""
    made = []
    for number, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(number).integers(0, 128, (height, width, 3))
        slope = np.linspace(0, 127, width)[None, :, None]
        made.append((noise + slope).astype(np.uint8))
    return made


def pairs() -> list[tuple[np.ndarray, str]]:
    """Return every picture with every prompt."""
    return [(picture, prompt) for picture in pictures() for prompt in PROMPTS]


def ours(folder: Path, package: Path) -> None:
    """Write the weights, the form that the package reads, and our mu and sigma."""
    from evaluators import catalogue, hpsv3
    from evaluators.golden import vlm
    from evaluators.types import Sample

    vlm.write_hpsv3(folder)
    _write_form(folder)
    weights, form = catalogue.HPS_V3.at(folder), catalogue.QWEN2_VL_7B_FORM.at(folder)
    text = hpsv3.instruction(package / "hpsv3")
    samples = [Sample(picture, prompt) for picture, prompt in pairs()]
    values = {}
    for dtype in ("float32", "bfloat16"):
        evaluator = hpsv3.HpsV3(weights, form, canary=False, instruction=text)
        evaluator.load(dtype=dtype)
        values[dtype] = evaluator.predictions(samples)
    (folder / "ours.json").write_text(json.dumps(values), "utf-8")


def _write_form(folder: Path) -> None:
    """Write configuration and processor as transformers 4 reads them."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    text = config["text_config"]
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps",
             "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "hidden_act",
             "use_sliding_window")  # fmt: skip
    flat = {name: text[name] for name in names}
    flat |= {name: config[name] for name in config if name.endswith("token_id")}
    rope = text["rope_parameters"]
    flat["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    vision = {name: config["vision_config"][name] for name in (
        "depth", "embed_dim", "hidden_size", "hidden_act", "mlp_ratio", "num_heads", "patch_size",
        "spatial_merge_size", "temporal_patch_size")}  # fmt: skip
    flat |= {"model_type": "qwen2_vl", "rope_theta": rope["rope_theta"], "vision_config": vision}
    flat |= {"architectures": ["Qwen2VLForConditionalGeneration"], "tie_word_embeddings": False}
    form = folder / "form"
    form.mkdir(exist_ok=True)
    files = {
        "config.json": flat,
        "preprocessor_config.json": {
            "min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "merge_size": 2,
            "temporal_patch_size": 2, "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711]},
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer", "pad_token": "<|endoftext|>",
            "processor_class": "Qwen2VLProcessor"},
        "chat_template.json": {"chat_template": TEMPLATE},
    }  # fmt: skip
    for name, contents in files.items():
        (form / name).write_text(json.dumps(contents), "utf-8")
    (form / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())


def package(folder: Path, source: Path) -> None:
    """Run the package and print how far its values are from ours."""
    sys.path.insert(0, str(source))
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    import torch
    from hpsv3.inference import HPSv3RewardInferencer
    from PIL import Image
    from transformers import Qwen2VLForConditionalGeneration

    form = folder / "form"
    config = Qwen2VLForConditionalGeneration.config_class.from_pretrained(form)
    Qwen2VLForConditionalGeneration(config).save_pretrained(form)
    recorded = json.loads((folder / "ours.json").read_text("utf-8"))
    text = (source / "hpsv3" / "config" / "HPSv3_7B.yaml").read_text("utf-8")
    for dtype, expected in recorded.items():
        settings = text.replace('"Qwen/Qwen2-VL-7B-Instruct"', f'"{form}"')
        settings = settings.replace("bf16: True", "bf16: False").replace("bfloat16", dtype)
        settings += "\nuse_cpu: True\n"
        (folder / "HPSv3.yaml").write_text(settings, "utf-8")
        inferencer = HPSv3RewardInferencer(
            str(folder / "HPSv3.yaml"), str(folder / "HPSv3.safetensors"), device="cpu"
        )
        # its autocast to float32 before the head is for CUDA alone
        inferencer.model.rm_head.register_forward_pre_hook(lambda _, rows: (rows[0].float(),))
        asked = [(Image.fromarray(picture), prompt) for picture, prompt in pairs()]
        for batch in BATCHES:
            rows: list[list[float]] = []
            with torch.inference_mode():
                for start in range(0, len(asked), batch):
                    images, prompts = zip(*asked[start : start + batch], strict=True)
                    rows += inferencer.reward(list(images), list(prompts)).tolist()
            away = np.abs(np.array(rows) - np.array(expected))
            spread = np.std(np.array(expected), axis=0)
            print(f"{dtype}, batches of {batch}: {len(rows)} pairs, mu differs by at most "
                  f"{away[:, 0].max():.2g} (deviation {spread[0]:.3f}), sigma by at most "
                  f"{away[:, 1].max():.2g} (deviation {spread[1]:.3f})")  # fmt: skip


if __name__ == "__main__":
    {"ours": ours, "package": package}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
