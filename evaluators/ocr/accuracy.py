"""OCR accuracy as the Flow-GRPO family computes it, as pure functions over text.

Source: Liu et al., "Flow-GRPO" (arXiv 2505.05470), OCR reward; yifan123/flow_grpo
``flow_grpo/ocr.py``.
"""

from __future__ import annotations


def target_of(prompt: str) -> str | None:
    """Return the text between the prompt's first two straight double quotes; None without them.

    Further quoted texts do not count, and curly quotes are no quotes.
    """
    parts = prompt.split('"')
    return parts[1] if len(parts) >= 3 else None


def normalise(text: str) -> str:
    """Return the text without spaces, in lower case; other white space and punctuation stay."""
    return text.replace(" ", "").lower()


def edit_distance(a: str, b: str) -> int:
    """Return the Levenshtein distance: insertions, deletions and substitutions of a character."""
    row = list(range(len(b) + 1))
    for i, char_a in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, char_b in enumerate(b, start=1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (char_a != char_b))
            diagonal, row[j] = row[j], best
    return row[-1]


def accuracy(target: str, recognised: str) -> float:
    """Return 1 - min(distance, length) / length; 1 if the recognised text contains the target.

    ValueError if ``target`` has nothing but spaces.
    """
    target, recognised = normalise(target), normalise(recognised)
    if not target:
        raise ValueError("an empty target has no accuracy")
    if target in recognised:
        return 1.0
    return 1 - min(edit_distance(target, recognised), len(target)) / len(target)
