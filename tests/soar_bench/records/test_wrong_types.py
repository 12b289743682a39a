"""A record with a wrong type anywhere is refused by name, or does no harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from soar_bench.boards import compare
from soar_bench.core.errors import SoarBenchError
from soar_bench.output import runs as run_view
from soar_bench.output.leaderboard import leaderboard, load
from soar_bench.records import RUN_FILE, read_run
from soar_bench.records.export import results as hub_results
from soar_bench.records.folders import survey
from soar_bench.records.verify import verify
from soar_bench.report.made import of_board, of_run
from soar_bench.report.sections import sections_of, training_names
from soar_bench.report.words import introduction

RESULTS = Path(__file__).parents[3] / "results" / "shapes-signs" / "shapes"
VALUES = (None, True, 5, 0.5, "text", [], [1, "x"], {}, {"a": 1})


def paths(value, path=()):
    """Every path into a JSON value; of the many settings and versions of a training the first."""
    if path:
        yield path
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    of_training = path[:2] == ("checkpoint", "story") and len(path) > 2
    for key in list(keys)[: 2 if of_training else None]:
        yield from paths(value[key], (*path, key))


def changed(contents, path, value):
    copied = json.loads(json.dumps(contents))
    part = copied
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return copied


def at(contents, path):
    for key in path:
        contents = contents[key]
    return contents


@pytest.fixture()
def place(tmp_path):
    """Two committed runs: one of a training, whose record is changed, and its base."""
    results = tmp_path / "results"
    for name in ("sft-seed0", "shapes"):
        (folder,) = RESULTS.glob(f"{name}-????????")
        shutil.copytree(folder, results / "shapes-signs" / "shapes" / folder.name)
    return results


def show(results, tmp_path):
    """Do with all records what commands do with them."""
    runs = load(results)
    leaderboard(runs, results, tmp_path / "leaderboard.md")
    compare([read_run(run.folder) for run in runs], anyway=True)
    training_names(runs)
    for board in sections_of(runs):
        of_board(board), introduction(board)
    for run in runs:
        of_run(run, tmp_path)
        hub_results([run])


def test_a_wrong_type_anywhere_is_refused_in_one_sentence_or_does_no_harm(place, tmp_path):
    (folder,) = place.rglob("sft-seed0-*")
    file = folder / RUN_FILE
    contents = json.loads(file.read_text())
    mutations = refused = 0
    for path in paths(contents):
        for value in VALUES:
            if type(value) is type(at(contents, path)) and value:
                continue
            mutations += 1
            file.write_text(json.dumps(changed(contents, path, value)))
            where = f"{'.'.join(map(str, path))} = {value!r}"
            try:
                entries = survey(place)
                list(run_view.plain(entries)), run_view.table(entries), run_view.rows_json(entries)
                (entry,) = (e for e in entries if e.folder == folder)
                if entry.run is None:
                    refused += 1
                    assert entry.fault.startswith(str(file)), where
                    assert "\n" not in entry.fault, where
                    assert verify(entry, tmp_path)[0].state == "wrong", where
                    continue
                verify(entry, tmp_path)
                list(run_view.page(entry, entry.run, None))
                show(place, tmp_path)
            except SoarBenchError as error:
                assert "\n" not in str(error), where
            except Exception as error:
                raise AssertionError(f"{where}: {error!r}") from error
    assert mutations > 800
    assert refused > mutations / 2


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("checkpoint.story.step", "late", 'checkpoint.story.step is "late", not a whole number'),
        ("suite.prompts", 3.5, "suite.prompts is 3.5, not a whole number"),
        ("suite.seed", None, "suite.seed is null, not a whole number"),
        ("protocol.settings.guidance", "high", 'guidance is "high", not a number'),
        ("made.scored", {"judge": "all"}, 'made.scored.judge is "all", not a whole number'),
        ("evaluators", {}, "evaluators is {}, not an object with at least one entry"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_type(place, path, value, words):
    (folder,) = place.rglob("sft-seed0-*")
    file = folder / RUN_FILE
    file.write_text(json.dumps(changed(json.loads(file.read_text()), path.split("."), value)))
    with pytest.raises(SoarBenchError) as raised:
        read_run(folder)
    assert str(raised.value).startswith(f"{file} is damaged: ")
    assert words in str(raised.value)
    assert str(raised.value).endswith("; run that eval again")
