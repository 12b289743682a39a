"""The chat template, written out: what a judge reads around a question."""

from __future__ import annotations

IMAGE = "<|image_pad|>"
#: Models before Qwen3-VL are told this where nothing else is said.
SYSTEM = "You are a helpful assistant."


def wrapped(kind: str, text: str, tokens: int) -> str:
    """Return the text of one turn of the user, an image of so many tokens before it, and the start
    of the answer. ``kind`` is the model's ``model_type``.
    """
    system = "" if kind == "qwen3_vl" else f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    image = f"<|vision_start|>{IMAGE * tokens}<|vision_end|>"
    return f"{system}<|im_start|>user\n{image}{text}<|im_end|>\n<|im_start|>assistant\n"
