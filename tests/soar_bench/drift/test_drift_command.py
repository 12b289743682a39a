"""``soar-bench drift``: its table, record and plot, and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from soar_bench.core.errors import SoarBenchError
from training.types import TrainingError


@pytest.fixture()
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """run(*arguments) -> what the command printed; errors are raised."""
    import soar_bench.cli.drift as command

    app = Typer()
    app.command()(command.drift)

    def go(*arguments: object) -> str:
        words = [str(a) for a in arguments]
        result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out")])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return go


def test_the_command_writes_a_table_a_record_and_a_plot(run, tiny_pipeline, tmp_path):
    printed = run(
        tiny_pipeline, "shapes", "--data", "shapes-clean:4", "--steps", 5, "--guidance", 2,
        "--rolled", "1,2", "--device", "cpu",
    )  # fmt: skip
    assert "own error / ideal error" in printed
    assert "ratio less that of pipeline" in printed
    lines = list(csv.DictReader((tmp_path / "out" / "drift.csv").read_text().splitlines()))
    assert list(lines[0])[:5] == ["timestep", "sigma", "checkpoint", "digest", "steps_rolled"]
    # Levels 2, 3 and 4 of 5 after one step, 3 and 4 after two, of two checkpoints.
    assert len(lines) == 2 * (3 + 2)
    for line in lines:
        assert float(line["ratio"]) == pytest.approx(
            float(line["error_own"]) / float(line["error_ideal"]), rel=1e-6
        )
        assert float(line["timestep"]) == pytest.approx(1000 * float(line["sigma"]), rel=1e-6)
        assert line["n"] == "4"
    record = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert record["settings"]["protocol"]["guidance"] == 2
    assert len(record["rows"]) == len(lines)
    # All levels and each, of the ratio and of the own error.
    assert len(record["differences"]) == 2 * (3 + 1 + 2 + 1)
    assert (tmp_path / "out" / "drift.png").read_bytes().startswith(b"\x89PNG")
    printed = run(
        tiny_pipeline, "shapes", "--data", "shapes-clean:4", "--steps", 5, "--guidance", 2,
        "--rolled", "1,2", "--device", "cpu", "--json",
    )  # fmt: skip
    assert json.loads(printed) == record


def test_bad_input_is_refused_with_a_sentence(run, tiny_pipeline, tmp_path):
    with pytest.raises(SoarBenchError, match="nothing"):
        run("nothing-there")
    with pytest.raises(SoarBenchError, match="steps"):
        run(tiny_pipeline, "--steps", 1)
    with pytest.raises(SoarBenchError, match="has 4 samples, not the 6"):
        run(tiny_pipeline, "--data", "shapes-clean:4", "--samples", 6)
    (tmp_path / "plain").mkdir()
    with pytest.raises(TrainingError):
        run(tiny_pipeline, "--data", tmp_path / "plain")


def test_pictures_without_captions_are_refused(run, tiny_pipeline, tmp_path):
    from PIL import Image

    folder = tmp_path / "data"
    folder.mkdir()
    records = []
    for number, text in enumerate(["a photo of a star", " "]):
        Image.new("RGB", (64, 64), "white").save(folder / f"{number}.png")
        records.append(json.dumps({"file_name": f"{number}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(records) + "\n")
    with pytest.raises((SoarBenchError, TrainingError), match="caption"):
        run(tiny_pipeline, "--data", folder, "--protocol", "shapes", "--device", "cpu")
