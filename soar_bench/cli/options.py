"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import typer


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def split(given: Sequence[str]) -> list[str]:
    """Names given one by one, with commas between them, or both."""
    return [name.strip() for part in given for name in part.split(",") if name.strip()]


def files_or_names(given: Sequence[str]) -> list[str]:
    """The same, but the path of a file that is there is left whole, commas and all."""
    return [name for part in given for name in ([part] if Path(part).is_file() else split([part]))]


Number = TypeVar("Number", int, float)


def numbers(option: str, text: str, kind: type[Number], least: Number) -> list[Number]:
    """Numbers with commas between them; none for an empty text."""
    try:
        found = [kind(part) for part in split([text])]
    except ValueError:
        found = []
    if (text and not found) or any(not least <= number < float("inf") for number in found):
        what = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{option} takes {what} from {least}, not {text!r}")
    return found
