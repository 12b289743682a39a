"""Bad inputs, made by kind from tables of faults. Each kind is a module with one generator."""

from __future__ import annotations

from typing import Any

#: Name of a kind, and the words of a command.
Bad = tuple[str, list[str]]
#: Values of every type.
WRONG: tuple[Any, ...] = (None, True, -1, 0.5, "text", "", [], [1, "x"], {}, {"a": 1})
#: Arguments that make a run as short as it can be.
SHORT = ["--steps", "1", "--images", "1", "--evaluators", "shapes-clipscore"]
