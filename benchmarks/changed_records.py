"""Four thousand calls on records and states in which one value has another type.

    python -m benchmarks.changed_records [--calls 4000] [--seed 0]

Each call changes one value of a committed run's ``run.json``, or of a file that a training, a cache
or a fetch keeps, and runs a command on it by the entry point of the command line. It is wrong if it
ends in a traceback or in the last net for unforeseen errors.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs.endings import run

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**30, 0.5, 1e999, "", "text", "\ud800", "\x1b[31m", [], [1, "x"],
    [None], {}, {"a": 1}, {"": None},
)  # fmt: skip
#: share of the calls that go to files that are no records
STATES = 0.25


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield every path into a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from paths(inner, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a JSON value with another value at a path."""
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = changed(content[path[0]], path[1:], value)
    return copy


def record_commands(results: Path, name: str) -> list[list[str]]:
    at = ["--results", str(results)]
    commands = [
        ["runs", "list"],
        ["runs", "list", "--json"],
        ["runs", "show", name],
        ["runs", "verify"],
        ["runs", "show", name, "--json"],
        ["compare", name],
        ["compare", str(results)],
        ["compare", str(results), "--format", "json"],
        ["compare", str(results), "--format", "latex"],
        ["leaderboard", "--output", "board.md"],
        ["leaderboard", "--output", "board.html"],
        ["leaderboard", "--output", "board.csv"],
        ["export", "csv", name, "--output", "x.csv", "--force"],
        ["export", "card", name, "--output", "card.md"],
        ["rerun", name, "--output", "again", "--device", "x"],
    ]
    return [command + at for command in commands]


def state_files(place: Path) -> dict[Path, list[list[str]]]:
    """Make a short training and an eval; return the files that they keep, with commands on them."""
    train = ["train", "sft", "--base", "shapes", "--data", "shapes-clean:8", "--steps", "4"]
    train += "--batch-size 2 --output out --set save_every=2 --set log_every=1".split()
    evaluate = ["eval", "out", "--suite", "one.txt", "--protocol", "shapes", "--steps", "1"]
    evaluate += ["--evaluators", "shapes-clipscore"]
    (place / "one.txt").write_text("a red star\n")
    for words in (train, evaluate):
        code, text = run(words)
        assert code == 0, text
    shutil.rmtree("results")
    dry = [[*train, "--dry-run"], [*evaluate, "--dry-run"]]
    files = {
        file: dry for file in (place / "out").rglob("*.json*") if "transformer" not in file.parts
    }
    files |= {file: [evaluate] for file in (place / "outputs").rglob("scores/**/*.jsonl")}
    files |= dict.fromkeys(sorted((place / "home" / "checkpoints").glob("*.json"))[:6], dry[1:])
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    choose = random.Random(options.seed)
    committed = Path(__file__).parents[1] / "results" / "shapes-signs" / "shapes"
    counts: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.chdir(place)
        os.environ["SOAR_BENCH_HOME"] = str(place / "home")
        states = state_files(place)
        for name in ("soar-seed0", "shapes"):
            (source,) = committed.glob(f"{name}-????????")
            shutil.copytree(source, place / "results" / "shapes-signs" / "shapes" / source.name)
        (record,) = (place / "results").rglob("soar-seed0-*/run.json")
        targets = {
            record: record_commands(place / "results", record.parent.name.rpartition("-")[2])
        }
        originals = {file: file.read_bytes() for file in (*targets, *states)}
        for _ in range(options.calls):
            among = states if choose.random() < STATES else targets
            file = choose.choice(sorted(among))
            lines = originals[file].decode().splitlines() if file.suffix == ".jsonl" else []
            lines = [line for line in lines if line.strip()] or [originals[file].decode()]
            number = choose.randrange(len(lines))
            content = json.loads(lines[number])
            path, value = choose.choice([*paths(content)]), choose.choice(VALUES)
            lines[number] = json.dumps(changed(content, path, value))
            file.write_text("\n".join(lines) + "\n")
            words = choose.choice(among[file])
            code, text = run(words)
            counts["0" if code == 0 else "records" if among is targets else "states"] += 1
            if "Traceback" in text or "--debug" in text:
                wrong += 1
                print(
                    f"{file.name} {path} = {value!r}: {' '.join(words)}\n    {code}: {text[-500:]}"
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(originals[file])
        os.chdir("/")
    print(
        f"{counts.total()} calls: {counts['0']} did no harm, {counts['records']} records and "
        f"{counts['states']} states were refused, {wrong} wrong"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
