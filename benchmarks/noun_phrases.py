"""Make ``evaluators/blip_vqa/phrases.json`` from T2I-CompBench's prompts, where spaCy 3 is here.

    python benchmarks/noun_phrases.py FOLDER MODEL

FOLDER holds the fetched ``color_val.txt``, ``shape_val.txt`` and ``texture_val.txt``; MODEL is the
folder or name of an ``en_core_web_sm``. The file has the places of the phrases, and no text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CATEGORIES = ("color", "shape", "texture")


def main(folder: Path, model: str) -> None:
    import spacy

    from evaluators.blip_vqa.phrases import FILE, key_of

    nlp = spacy.load(model)
    spans = {}
    for category in CATEGORIES:
        for line in (folder / f"{category}_val.txt").read_text("utf-8").splitlines():
            text = line.strip()
            if text:
                chunks = nlp(text).noun_chunks
                spans[key_of(text)] = [[c.start_char, c.end_char] for c in chunks]
    made_by = f"spaCy {spacy.__version__}, {nlp.meta['name']} {nlp.meta['version']}"
    rows = ",\n".join(f'"{key}": {json.dumps(spans[key])}' for key in sorted(spans))
    FILE.write_text(f'{{"made_by": {json.dumps(made_by)}, "spans": {{\n{rows}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
