"""Captions of the embedded world in GenEval's six task forms and metadata format, and signs.

A caption comes as GenEval's own record: ``{"tag", "include", "exclude", "prompt"}``, where each
clause of ``include`` has ``class`` and ``count`` and may have ``color`` and
``position: [relation, index of the clause it is relative to]`` (djghosh13/geneval,
``prompts/evaluation_metadata.jsonl``). Signs have the tag ``sign`` and their word between double
quotes, the form in which OCR prompt sets name their target.

Some combinations are *held out*, so that the suite can tell composition from memory: no training
caption of their form names them, and no training caption at all names a held-out coloured shape.
(The pair circle and star is held out as "a circle and a star"; other relations of the two are not.)
Pictures are not filtered: a colour that no caption names may be any. Which combinations are held
out is fixed here, once, for every seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import cache
from itertools import combinations, permutations, product
from typing import Any

from evaluators.geneval.rules import TASKS as TASKS
from evaluators.shapes.geometry import PALETTE, SHAPES

Metadata = dict[str, Any]

SIGN = "sign"

#: Tokens a prompt is padded to, for each of CLIP and T5; the longest caption needs 13.
MAX_TOKENS = 14

LEAD_INS: tuple[str, ...] = ("a photo of", "a picture of", "a drawing of", "a painting of")
NUMBERS: dict[int, str] = {2: "two", 3: "three", 4: "four"}
PLURALS: dict[str, str] = {s: s + ("es" if s.endswith("s") else "s") for s in SHAPES}
COLORS: tuple[str, ...] = tuple(PALETTE)

#: relation -> the relation that says the same with the two objects exchanged
RELATIONS = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

WORDS: tuple[str, ...] = tuple(
    "ANT ART CAN CAP CAR CAT COT CUP CUT EAR EAT HAT HEN HOP HOT HUT LAP LOT NAP NET NUT OAR OAT "
    "PAN PEN PET POT RAT RUN SAX SET SON SUN TAP TAX TEA TEN TOP".split()
)
HELD_OUT_WORDS: frozenset[str] = frozenset("CAR CUP EAT HOT LOT NET PAN SET SUN TAX".split())


def single_object(shape: str, lead_in: str = LEAD_INS[0]) -> Metadata:
    return _caption("single_object", [_clause(shape)], f"{lead_in} a {shape}")


def two_object(first: str, second: str, lead_in: str = LEAD_INS[0]) -> Metadata:
    clauses = [_clause(first), _clause(second)]
    return _caption("two_object", clauses, f"{lead_in} a {first} and a {second}")


def counting(shape: str, count: int, lead_in: str = LEAD_INS[0]) -> Metadata:
    exact, more = ([{"class": shape, "count": n}] for n in (count, count + 1))
    prompt = f"{lead_in} {NUMBERS[count]} {PLURALS[shape]}"
    return {"tag": "counting", "include": exact, "exclude": more, "prompt": prompt}


def colors(shape: str, color: str, lead_in: str = LEAD_INS[0]) -> Metadata:
    return _caption("colors", [_clause(shape, color=color)], f"{lead_in} a {color} {shape}")


def position(subject: str, relation: str, reference: str, lead_in: str = LEAD_INS[0]) -> Metadata:
    """``subject`` stands ``relation`` the ``reference``, which as in GenEval comes first."""
    clauses = [_clause(reference), _clause(subject, position=[relation, 0])]
    return _caption("position", clauses, f"{lead_in} a {subject} {relation} a {reference}")


def color_attr(
    first: str, first_color: str, second: str, second_color: str, lead_in: str = LEAD_INS[0]
) -> Metadata:
    clauses = [_clause(first, color=first_color), _clause(second, color=second_color)]
    prompt = f"{lead_in} a {first_color} {first} and a {second_color} {second}"
    return _caption("color_attr", clauses, prompt)


def sign(word: str, lead_in: str = LEAD_INS[0]) -> Metadata:
    return _caption(SIGN, [], f'{lead_in} a sign saying "{word}"')


def _caption(tag: str, include: list[Metadata], prompt: str) -> Metadata:
    return {"tag": tag, "include": include, "prompt": prompt}


def _clause(shape: str, **facts: Any) -> Metadata:
    """One object of a caption."""
    return {"class": shape, "count": 1, **facts}


@cache
def every_caption(tag: str, lead_in: str = LEAD_INS[0]) -> tuple[Metadata, ...]:
    """Return all captions of one form with one lead-in, in a fixed order."""
    pairs, two_colors = list(permutations(SHAPES, 2)), list(permutations(COLORS, 2))
    forms: dict[str, tuple[Callable[..., Metadata], Iterable[tuple[Any, ...]]]] = {
        "single_object": (single_object, product(SHAPES)),
        "two_object": (two_object, pairs),
        "counting": (counting, product(SHAPES, NUMBERS)),
        "colors": (colors, product(SHAPES, COLORS)),
        "position": (position, ((a, r, b) for a, b in pairs for r in RELATIONS)),
        "color_attr": (color_attr, ((a, ca, b, cb) for a, b in pairs for ca, cb in two_colors)),
        SIGN: (sign, product(WORDS)),
    }
    form, facts = forms[tag]
    return tuple(form(*fact, lead_in) for fact in facts)


# --- held-out combinations --------------------------------------------------------------------

#: Each shape and each colour is held out in exactly one pair (a Latin diagonal).
HELD_OUT_COLORED: frozenset[tuple[str, str]] = frozenset(
    (shape, COLORS[(i + 3) % len(COLORS)]) for i, shape in enumerate(SHAPES)
)
#: A perfect matching: each shape is in exactly one held-out pair.
HELD_OUT_PAIRS: frozenset[frozenset[str]] = frozenset(
    frozenset((SHAPES[i], SHAPES[i + 3])) for i in range(3)
)
HELD_OUT_COUNTS = frozenset((("star", 2), ("square", 3), ("triangle", 4)))


def _canonical_relation(subject: str, relation: str, reference: str) -> tuple[str, str, str]:
    """Return the one name of an arrangement: 'a above b' is also 'b below a'."""
    if relation in ("right of", "below"):
        return reference, RELATIONS[relation], subject
    return subject, relation, reference


Colored = tuple[str, str]


def _draw_held_out() -> tuple[frozenset[tuple[str, str, str]], frozenset[frozenset[Colored]]]:
    rng = random.Random("soar-bench shapes: held-out combinations, version 1")
    relations = [(a, r, b) for a, b in permutations(SHAPES, 2) for r in ("left of", "above")]
    colored = [
        frozenset(((a, ca), (b, cb)))
        for a, b in combinations(SHAPES, 2)
        for ca, cb in permutations(COLORS, 2)
    ]
    return (
        frozenset(rng.sample(relations, len(relations) // 5)),
        frozenset(rng.sample(colored, len(colored) // 5)),
    )


HELD_OUT_RELATIONS, HELD_OUT_COLORED_PAIRS = _draw_held_out()


def is_held_out(metadata: Metadata) -> bool:
    """Return whether no training caption may name this combination (or a part of it)."""
    tag, include = metadata["tag"], metadata["include"]
    if tag == SIGN:
        return metadata["prompt"].split('"')[1] in HELD_OUT_WORDS
    if any((c["class"], c.get("color")) in HELD_OUT_COLORED for c in include):
        return True
    if tag == "two_object":
        return frozenset(c["class"] for c in include) in HELD_OUT_PAIRS
    if tag == "counting":
        return (include[0]["class"], include[0]["count"]) in HELD_OUT_COUNTS
    if tag == "position":
        reference, subject = include
        parts = (subject["class"], subject["position"][0], reference["class"])
        return _canonical_relation(*parts) in HELD_OUT_RELATIONS
    if tag == "color_attr":
        return frozenset((c["class"], c["color"]) for c in include) in HELD_OUT_COLORED_PAIRS
    return False


# --- altered captions -------------------------------------------------------------------------


def altered(metadata: Metadata, rng: random.Random) -> Metadata:
    """Return a caption of the same form that is false for a clean scene of ``metadata``.

    One fact is changed: a shape, a colour, an object's colour, a number, a relation, or a letter.
    """
    tag, include = metadata["tag"], metadata["include"]
    lead_in = next(phrase for phrase in LEAD_INS if metadata["prompt"].startswith(phrase))
    named = [clause["class"] for clause in include]

    def other_shape() -> str:
        return rng.choice([s for s in SHAPES if s not in named])

    if tag == SIGN:
        word = metadata["prompt"].split('"')[1]
        changes = {w: sum(a != b for a, b in zip(w, word, strict=True)) for w in WORDS}
        return sign(rng.choice([w for w, n in changes.items() if 0 < n < 3]), lead_in)
    if tag == "single_object":
        return single_object(other_shape(), lead_in)
    if tag == "two_object":
        replaced = rng.randrange(2)
        named[replaced] = other_shape()
        return two_object(named[0], named[1], lead_in)
    if tag == "counting":
        count = include[0]["count"]
        if rng.random() < 0.25:
            return counting(other_shape(), count, lead_in)
        return counting(named[0], rng.choice([n for n in NUMBERS if n != count]), lead_in)
    if tag == "colors":
        if rng.random() < 0.25:
            return colors(other_shape(), include[0]["color"], lead_in)
        other = rng.choice([c for c in COLORS if c != include[0]["color"]])
        return colors(named[0], other, lead_in)
    if tag == "position":
        reference, subject = named
        relation = include[1]["position"][0]
        if rng.random() < 0.25:
            return position(other_shape(), relation, reference, lead_in)
        other = rng.choice([r for r in RELATIONS if r != relation])
        return position(subject, other, reference, lead_in)
    first, second = named
    color_1, color_2 = (clause["color"] for clause in include)
    kind = rng.randrange(4)
    if kind == 0:
        return color_attr(first, color_2, second, color_1, lead_in)
    if kind == 1:
        return color_attr(other_shape(), color_1, second, color_2, lead_in)
    third = rng.choice([c for c in COLORS if c not in (color_1, color_2)])
    color_1, color_2 = (third, color_2) if kind == 2 else (color_1, third)
    return color_attr(first, color_1, second, color_2, lead_in)
