"""The base's text encoders, trained to tell which word belongs to which.

Trained contrastively against pictures, encoders knew which words a caption has and hardly their
order: which of two objects stands left, or is red, was lost before the transformer saw it. These
are trained on captions alone. A linear map from the vector of each noun's token must tell that
object's number, colour and place, and one from each encoder's vector of the whole caption the
numbers of all shapes, the colours and the letters (:mod:`benchmarks.pretrain.facts`).

Combinations that are held out are never seen, so the rule has to be learnt and not the pairs: in
half of the captions words are struck out, and an object's colour has to be told although its noun
is not to be read, and the other way round. Captions of pictures with several facts ("a red star
left of a blue ring") come beside the world's own forms.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

from benchmarks.pretrain import facts
from benchmarks.pretrain.fit import FitConfig, Report, fit, silent
from benchmarks.pretrain.tokenizers import (
    clip_text_config,
    clip_tokenizer,
    ids_of,
    t5_tokenizer,
)
from evaluators.shapes.geometry import SHAPES
from soar_bench.shapes import captions
from soar_bench.shapes.captions import COLORS, PLURALS, RELATIONS, Metadata, is_held_out

#: The form that says two things of each object, which the world's own do not.
COLOURED_POSITION = "coloured_position"
#: Shares of the forms: mostly those in which one thing is said of another.
_SHARES = {
    "single_object": 0.03,
    "two_object": 0.07,
    "counting": 0.08,
    "colors": 0.05,
    "position": 0.24,
    "color_attr": 0.24,
    COLOURED_POSITION: 0.21,
    captions.SIGN: 0.08,
}
_NOUNS = {**{s: s for s in SHAPES}, **{plural: s for s, plural in PLURALS.items()}}
#: of a noun's token: which shape, its number / 4, its colour, x and y
_PER_NOUN = len(SHAPES) + 1 + len(COLORS) + 2
_STRUCK = 0.25  # of the words, in half of the captions
_TOKEN_WEIGHT = 2.0


def coloured_position(rng: random.Random, lead_in: str) -> Metadata:
    """Draw a caption such as "a photo of a red star left of a blue ring", or with one colour."""
    first, second = rng.sample(SHAPES, 2)
    relation = rng.choice(list(RELATIONS))
    colors = rng.sample(COLORS, 2)
    colored = rng.choice(((True, True), (True, False), (False, True)))
    metadata = captions.position(first, relation, second, lead_in)
    words = [
        f"{c} {s}" if k else s for s, c, k in zip((first, second), colors, colored, strict=True)
    ]
    clauses = zip(metadata["include"], reversed(colors), reversed(colored), strict=True)
    include = [clause | ({"color": color} if named else {}) for clause, color, named in clauses]
    prompt = f"{lead_in} a {words[0]} {relation} a {words[1]}"
    return metadata | {"include": include, "prompt": prompt}


def names_held_out(metadata: Metadata) -> bool:
    """Return whether a caption of several facts names any combination that is held out."""
    pair = {"tag": "color_attr", "include": metadata["include"]}
    both = all("color" in clause for clause in metadata["include"])
    return is_held_out(metadata) or (both and is_held_out(pair))


def draw(rng: random.Random) -> Metadata:
    """Draw a caption that names nothing held out."""
    while True:
        tag = rng.choices(list(_SHARES), weights=list(_SHARES.values()))[0]
        lead_in = rng.choice(captions.LEAD_INS)
        if tag == COLOURED_POSITION:
            metadata = coloured_position(rng, lead_in)
        else:
            metadata = rng.choice(captions.every_caption(tag, lead_in))
        if not (names_held_out(metadata) if tag == COLOURED_POSITION else is_held_out(metadata)):
            return metadata


@dataclass(frozen=True)
class Nouns:
    """What the tokens of nouns must tell, and where they stand among the caption's words."""

    words: list[str]
    place: list[int]  # of each noun in ``words``
    values: torch.Tensor  # float32 [n, _PER_NOUN]
    stated: torch.Tensor  # of a reader of the whole caption
    behind: torch.Tensor  # of a reader of the words before and of the noun alone


def nouns_of(metadata: Metadata, struck: set[int]) -> Nouns:
    """Return the facts of a caption's nouns; words whose place is in ``struck`` say nothing."""
    words = metadata["prompt"].split()
    place = [i for i, word in enumerate(words) if word in _NOUNS]
    values, stated = torch.zeros(len(place), _PER_NOUN), torch.zeros(len(place), _PER_NOUN)
    clauses = {clause["class"]: clause for clause in metadata["include"]}
    color_at, number_at = len(SHAPES) + 1, len(SHAPES)
    relation = next((c["position"] for c in metadata["include"] if "position" in c), None)
    related = {i for i, w in enumerate(words) if w in ("left", "right", "above", "below")}
    for row, at in enumerate(place):
        shape = _NOUNS[words[at]]
        clause = clauses[shape]
        values[row, SHAPES.index(shape)] = 1
        stated[row, : len(SHAPES)] = float(at not in struck)
        values[row, number_at] = clause["count"] / 4
        counted = clause["count"] == 1 or at - 1 not in struck
        stated[row, number_at] = float(counted and not (at in struck and clause["count"] > 1))
        if "color" in clause:
            values[row, color_at + COLORS.index(clause["color"])] = 1
            stated[row, color_at : color_at + len(COLORS)] = float(at - 1 not in struck)
        if relation is not None and not related & struck:
            axis, side = facts.DIRECTIONS[relation[0]]
            values[row, axis - 2] = facts.ASIDE * (side if "position" in clause else -side)
            stated[row, axis - 2] = 1
    behind = stated.clone()
    if len(place) > 1:
        behind[0, -2:] = 0  # what it stands beside comes after it
    return Nouns(words, place, values, stated, behind)


def whole_of(metadata: Metadata) -> facts.Facts:
    """Return what a caption's one vector must tell: numbers of shapes, colours named, letters.

    Not which belongs to which: of that it could only remember the pairs it saw, and a transformer
    that trusts it gets every other pair wrong.
    """
    values, stated = facts.of_caption(metadata)
    shapes = values[: -facts.SPELLED].view(len(SHAPES), -1)
    colors = torch.zeros(len(COLORS))
    for clause in metadata["include"]:
        if "color" in clause:
            colors[COLORS.index(clause["color"])] = 1
    letters = slice(-facts.SPELLED, None)
    always = torch.ones(len(SHAPES) + len(COLORS))
    return (
        torch.cat([shapes[:, 0], colors, values[letters]]),
        torch.cat([always, stated[letters]]),
    )


class TextEncoders(torch.nn.Module):
    """SD3's three text encoders, small, and the linear maps to facts that only serve training."""

    def __init__(self, width: int = 64, t5_width: int = 128) -> None:
        super().__init__()
        self.width = width
        self.tokenizers = (clip_tokenizer(), clip_tokenizer(pad="!"), t5_tokenizer())
        self.clip = torch.nn.ModuleList(
            CLIPTextModelWithProjection(clip_text_config(tokenizer, width, width, 3))
            for tokenizer in self.tokenizers[:2]
        )
        self.t5 = T5EncoderModel(
            T5Config(
                vocab_size=len(self.tokenizers[2]),
                d_model=t5_width,
                d_kv=32,
                d_ff=2 * t5_width,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                pad_token_id=0,
                eos_token_id=1,
            )
        )
        _look_beside(self.t5)
        whole = len(SHAPES) + len(COLORS) + facts.SPELLED
        self.whole = torch.nn.ModuleList(torch.nn.Linear(width, whole) for _ in self.clip)
        self.noun = torch.nn.ModuleList(
            torch.nn.Linear(width, _PER_NOUN) for width in (width, width, t5_width)
        )

    def read(self, texts: list[str], struck: list[set[int]]) -> tuple[list[torch.Tensor], ...]:
        """CLIP's vectors of captions, two of [N, W], and all three encoders' vectors of tokens,
        [N, L, W], as the pipeline hands them to the transformer.
        """
        whole, tokens = [], []
        for encoder, tokenizer in zip(self.clip, self.tokenizers, strict=False):
            ids = _struck_ids(tokenizer, texts, struck, first=1, blank="~</w>")
            told = encoder(ids, output_hidden_states=True)
            whole.append(told.text_embeds)
            tokens.append(told.hidden_states[-2])
        ids = _struck_ids(self.tokenizers[2], texts, struck, first=0, blank="<unk>")
        tokens.append(self.t5(ids).last_hidden_state)
        return whole, tokens


def _look_beside(t5: Any) -> None:
    """Set T5's relative bias so that each head looks at one neighbour: the word before, the word
    after, two before, two after.

    With the bias at random it stayed a bag of words for thousands of steps and learnt pairs.
    """
    attention = t5.encoder.block[0].layer[0].SelfAttention
    offsets = torch.tensor([[-1, 1, -2, 2]])
    buckets = attention._relative_position_bucket(
        offsets,
        bidirectional=True,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    with torch.no_grad():
        weight = attention.relative_attention_bias.weight.zero_()
        weight[buckets[0], torch.arange(weight.shape[1])] = 3.0


def _struck_ids(
    tokenizer: Any, texts: list[str], struck: list[set[int]], first: int, blank: str
) -> torch.Tensor:
    ids = ids_of(tokenizer, texts)
    for row, places in enumerate(struck):
        for place in places:
            ids[row, first + place] = tokenizer.convert_tokens_to_ids(blank)
    return ids


def _strike(metadata: Metadata, rng: random.Random) -> set[int]:
    words = metadata["prompt"].split()
    if metadata["tag"] == captions.SIGN or rng.random() < 0.5:
        return set()
    content = [i for i, w in enumerate(words) if i > 2 and w not in ("a", "of", "and")]
    return {i for i in content if rng.random() < _STRUCK}


def losses(
    module: TextEncoders, drawn: list[Metadata], struck: list[set[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return errors of facts: of whole captions [2] and of nouns [3]."""
    whole, tokens = module.read([m["prompt"] for m in drawn], struck)
    told = facts.stack([whole_of(m) for m in drawn])
    plain = torch.tensor([not s for s in struck])
    shown = (told[0][plain], told[1][plain])
    captions_ = [
        facts.loss(to_facts(vector[plain]), shown)
        for to_facts, vector in zip(module.whole, whole, strict=True)
    ]
    nouns = [nouns_of(m, s) for m, s in zip(drawn, struck, strict=True)]
    rows = torch.tensor([i for i, n in enumerate(nouns) for _ in n.place])
    places = torch.tensor([p for n in nouns for p in n.place])
    values, stated, behind = (
        torch.cat([getattr(n, name) for n in nouns]) for name in ("values", "stated", "behind")
    )
    errors = []
    for i, (to_facts, vectors) in enumerate(zip(module.noun, tokens, strict=True)):
        of_clip = i < 2
        predicted = to_facts(vectors[rows, places + (1 if of_clip else 0)])
        errors.append(facts.loss(predicted, (values, behind if of_clip else stated)))
    return torch.stack(captions_), torch.stack(errors)


def train(folder: Path, config: FitConfig, report: Report = silent) -> TextEncoders:
    """Trains the encoders on captions that are not held out."""
    torch.manual_seed(config.seed)
    encoders = TextEncoders()

    def loss_of_step(module: TextEncoders, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = random.Random(f"text/{config.seed}/{step}")
        drawn = [draw(rng) for _ in range(config.batch_size)]
        struck = [_strike(m, rng) for m in drawn]
        whole, noun = losses(module, drawn, struck)
        figures = {f"caption_{i}": x for i, x in enumerate(whole.tolist())}
        figures |= {f"noun_{i}": x for i, x in enumerate(noun.tolist())}
        return whole.sum() + _TOKEN_WEIGHT * noun.sum(), figures

    fit(encoders, loss_of_step, config, folder, report)
    return encoders
