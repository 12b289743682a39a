"""About a thousand bad inputs, each of which must end in one clear sentence and not with code 0.

    python -m benchmarks.bad_inputs [--only KIND ...] [--show]

A command runs in this process, by the entry point of the command line. It is wrong if a fault ends
in a traceback, in the last net for unforeseen errors, in no sentence or several, or is taken for
good.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bad_inputs import Bad
from benchmarks.bad_inputs.arguments import arguments
from benchmarks.bad_inputs.checkpoints import checkpoints
from benchmarks.bad_inputs.endings import fault, run
from benchmarks.bad_inputs.images import image_folders
from benchmarks.bad_inputs.prompts import prompt_files
from benchmarks.bad_inputs.records import records
from benchmarks.bad_inputs.settings import settings

KINDS: dict[str, Callable[[Path], Iterator[Bad]]] = {
    "prompts": prompt_files,
    "images": image_folders,
    "checkpoints": checkpoints,
    "settings": settings,
    "records": records,
    "arguments": arguments,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=KINDS, default=[*KINDS], metavar="KIND", help=", ".join(KINDS)
    )
    parser.add_argument("--show", action="store_true", help="print every sentence")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["SOAR_BENCH_HOME"] = f"{folder}/home"
        Path("one.txt").write_text("a red star\n")
        for name in options.only:
            place = Path(folder) / name
            place.mkdir()
            for kind, words in KINDS[name](place):
                code, text = run(words)
                counts[kind] += 1
                shown = " ".join(words)[:150].encode("unicode_escape").decode()
                if reason := fault(code, text):
                    wrong += 1
                    print(f"{reason}: {shown}\n    {code}: {text.strip()[-400:]}", flush=True)
                elif options.show:
                    print(f"{shown}\n    {text.strip()[-300:]}", flush=True)
        os.chdir("/")
    print(f"{counts.total()} bad inputs ({dict(counts)}), {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
