"""A part of a suite: marked, from the same noise, and never beside the whole."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from forks import serve

from soar_bench.core.errors import SoarBenchError
from soar_bench.sampling.noise import noise_key
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import default_protocol


def test_a_part_is_spread_evenly_and_marked():
    whole, part = get_suite("shapes-signs"), get_suite("shapes-signs+limit=5")
    count = len(whole.prompts)
    assert part.name == "shapes-signs+limit=5" and part.digest() != whole.digest()
    assert part.prompts == tuple(whole.prompts[i * count // 5] for i in range(5))
    assert (part.evaluators, part.images_per_prompt) == (whole.evaluators, whole.images_per_prompt)
    assert default_protocol(part) == default_protocol(whole)
    first = part.prompts[1]
    assert noise_key(part.seed, first.id, 0) == noise_key(whole.seed, first.id, 0)
    tasks = Counter(prompt.task for prompt in get_suite("shapes+limit=60").prompts)
    assert set(tasks) == {prompt.task for prompt in get_suite("shapes").prompts}


@pytest.mark.parametrize("limit", [31, 10_000])
def test_a_part_that_is_the_whole_is_the_whole(limit):
    count = len(get_suite("shapes-signs").prompts)
    suite = get_suite(f"shapes-signs+limit={max(limit, count)}")
    assert suite == get_suite("shapes-signs")


@pytest.mark.parametrize("name", ["shapes+limit=0", "shapes+limit=x", "shapes+limit=", "+limit=3"])
def test_a_part_without_a_number_or_a_suite_is_refused(name):
    with pytest.raises(SoarBenchError, match="no suite is named"):
        get_suite(name)


def test_a_part_is_run_by_its_own_name_and_refused_beside_the_whole(tiny_pipeline, tmp_path):
    prompts = tmp_path / "own.txt"
    prompts.write_text("a red circle\na blue star\ntwo green hearts\na ring\n")
    with serve(tmp_path) as server:
        files = ("--results", tmp_path / "results", "--cache", tmp_path / "cache")
        judge = ("eval", tiny_pipeline, "--suite", prompts, "--protocol", "shapes", "--steps", 1,
                 "--images", 1, "--evaluators", "picture-statistics", "--device", "cpu",
                 *files)  # fmt: skip
        assert server.run(*judge, "--limit", 2) == 0, server.printed
        assert server.run(*judge, "--json") == 0, server.printed
        text = server.printed
        assert json.loads(text[text.index("[\n") :])[0]["made"]["generated"] == 2  # and not four
        (part,) = (tmp_path / "results").glob("own+limit=2/*/*")
        (whole,) = (tmp_path / "results").glob("own/*/*")
        assert len(json.loads((part / "run.json").read_text())["metrics"]) > 0
        assert server.run("compare", part, whole) == 2
        assert server.run("runs", "verify", part, *files) == 0, server.printed
        assert server.run("rerun", part, "--results", tmp_path / "results",
                          "--output", tmp_path / "again") == 0, server.printed  # fmt: skip
