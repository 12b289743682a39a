"""``soar-bench suites``: pages and lists."""

from __future__ import annotations

import json
import sys

import pytest
from suite_by_hand import BENCH, COWS, LEFT, lines

from soar_bench.suites import get_suite


@pytest.fixture()
def command(monkeypatch, capsys):
    """command(*arguments) -> exit code, output, errors."""
    from soar_bench import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["soar-bench", "suites", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run


def test_a_suites_page_says_what_a_run_of_it_would_be(write, command):
    write("my/a b.jsonl", lines(BENCH, COWS, LEFT))
    code, output, _ = command("my/a b.jsonl")
    assert code == 0
    for part in (
        "3 prompts from my/a b.jsonl", "12 in all", "geneval", "soar-paper: 40 steps",
        get_suite("my/a b.jsonl").digest(), "single_object 1, counting 1, position 1",
        "a b-00002  a dog left of a cup", "--suite 'my/a b.jsonl'",
    ):  # fmt: skip
        assert part in output


def test_what_a_prompt_holds_cannot_move_the_cursor(write, command):
    _, output, _ = command(write("p.txt", "a \x1b[2J cat\n"))
    assert "\x1b" not in output and "a \\x1b[2J cat" in output


def test_a_suite_is_given_to_programs_with_all_its_prompts(write, command):
    name = write("p.jsonl", lines(BENCH, COWS))
    code, output, _ = command(name, "shapes", "--json")
    first, second = json.loads(output)["suites"]
    assert code == 0 and second["name"] == "shapes" and second["prompts"] == 218
    assert first["source"] == name and first["digest"] == get_suite(name).digest()
    assert first["tasks"] == {"single_object": 1, "counting": 1}
    assert first["prompt_list"][0] == {
        "id": "p-00000", "prompt": "a bench",
        "metadata": {k: v for k, v in BENCH.items() if k != "prompt"},
    }  # fmt: skip


def test_the_list_is_given_to_programs_with_the_protocols(command, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    listing = json.loads(command("--json")[1])
    suites = {s["name"]: s for s in listing["suites"]}
    assert suites["shapes"]["prompts"] == 218 and suites["shapes"]["state"] == "here"
    assert suites["geneval"]["prompts"] is None and suites["geneval"]["state"] == "not fetched"
    protocols = {p["name"]: p["settings"] for p in listing["protocols"]}
    assert protocols["geneval-official"]["resolution"] is None
    assert protocols["soar-paper"]["vae_dtype"] == "float32"


def test_a_suite_that_is_not_fetched_is_shown_with_how_to_fetch_it(command, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    code, output, _ = command("ocr")
    assert code == 0 and "not fetched: run `soar-bench fetch --suite ocr`" in output


def test_a_wrong_name_ends_with_one_sentence_and_exit_code_2(command):
    code, output, error = command("shaps")
    assert code == 2 and output == ""
    assert error.startswith("soar-bench: no suite is named 'shaps'; did you mean shapes?")
    assert error.count("\n") == 1


def test_suites_are_listed_without_torch():
    import subprocess

    code = (
        "import sys; sys.argv = ['soar-bench', 'suites']\n"
        "from soar_bench import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
