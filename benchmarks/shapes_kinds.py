"""Kinds of pictures in a selection of the broad world, and the selection without some of them.

soar-bench data select shapes-broad:2000 --metric shapes_geneval --at-least 1 --output chosen
python benchmarks/shapes_kinds.py chosen      # share of each kind, and the base's loss on it
python benchmarks/shapes_kinds.py chosen --without off-grid,extra --output rest
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import typer

from soar_bench.checkpoints import resolve
from soar_bench.core.files import replace_folder_atomically, write_text
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.shapes.captions import MAX_TOKENS
from soar_bench.shapes.render import render
from soar_bench.shapes.world import BROAD, GRID, Example, example
from soar_bench.trainer.data import SEED
from training.data import METADATA_FILE
from training.encoders import encode_images, encode_prompts
from training.objectives.flow import interpolate

KINDS = ("touching", "extra", "off-grid")
#: of which the base's loss is taken
NOISE_LEVELS = (0.25, 0.5, 0.75, 0.92)
#: at most so many pictures of each kind
PICTURES = 100


def kinds(drawn: Example) -> set[str]:
    """Return those of KINDS that a picture is of; the base's last lessons had none of them."""
    things, include = drawn.scene.things, drawn.truth["include"]
    pairs = [(a, b) for i, a in enumerate(things) for b in things[:i]]
    seen = {
        # The grid's places are whole cells of the latent, 4 pixels each: other places look new.
        "off-grid": any(place not in GRID for t in things for place in (t.x, t.y)),
        "extra": len(things) > sum(clause["count"] for clause in include) > 0,
        "touching": any(
            max(abs(a.x - b.x), abs(a.y - b.y)) < a.radius + b.radius for a, b in pairs
        ),
    }
    return {name for name, holds in seen.items() if holds}


def losses(examples: Sequence[Example]) -> np.ndarray:
    """Return the base's flow-matching loss on each picture at each noise level: float [N, S]."""
    pipeline = load_pipeline(resolve("shapes").pipeline)
    generator = torch.Generator().manual_seed(0)
    columns = []
    with torch.no_grad():
        z0 = encode_images(pipeline, np.stack([render(e.scene) for e in examples]))
        embeds, pooled = encode_prompts(pipeline, [e.caption for e in examples], MAX_TOKENS)
        for level in NOISE_LEVELS:
            z1 = torch.randn(z0.shape, generator=generator)
            sigma = torch.full((len(z0),), level)
            v = pipeline.transformer(
                interpolate(z0, z1, sigma), embeds, pooled, 1000 * sigma, return_dict=False
            )[0]
            columns.append((v - (z1 - z0)).square().mean((1, 2, 3)))
    return torch.stack(columns, 1).numpy()


def main(data: Path, without: str = "", output: Path = Path()) -> None:
    """Print share and loss of each kind, or write the pictures of ``data`` without some kinds."""
    lines = (data / METADATA_FILE).read_text("utf-8").splitlines()
    names = [json.loads(line)["file_name"] for line in lines]
    examples = [example(BROAD, SEED, int(Path(name).stem)) for name in names]
    of_each = [kinds(drawn) for drawn in examples]
    if without:
        gone = set(without.split(","))
        if not gone <= {*KINDS} or output.exists():
            raise SystemExit(f"--without takes {', '.join(KINDS)}, --output a new folder")
        kept = [i for i, own in enumerate(of_each) if not own & gone]
        with replace_folder_atomically(output) as aside:
            for i in kept:
                (aside / names[i]).write_bytes((data / names[i]).read_bytes())
            write_text(aside / METADATA_FILE, "".join(lines[i] + "\n" for i in kept))
        print(f"{len(kept)} of {len(names)} pictures in {output}")
        return
    for kind in ("", *KINDS):
        having = [i for i, own in enumerate(of_each) if (kind in own if kind else not own)]
        loss = losses([examples[i] for i in having[:PICTURES]])
        by_level = ", ".join(
            f"{mean:.2f} at {level}" for level, mean in zip(NOISE_LEVELS, loss.mean(0), strict=True)
        )
        share = len(having) / len(names)
        print(f"{kind or 'plain'}: {share:.1%}, loss {loss.mean():.2f} ({by_level})", flush=True)


if __name__ == "__main__":
    typer.run(main)
