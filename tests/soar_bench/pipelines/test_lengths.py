"""Texts that text encoders cut, against the pipelines' own truncation."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines import Pipeline, lengths
from soar_bench.pipelines.lengths import Cut, count_cut, cut_texts
from soar_bench.suites import get_suite
from tests.soar_bench import tiny_pipelines

SHORT = "a red circle"
#: 12 words of the embedded world's vocabulary, so 14 tokens for CLIP and 13 for T5
FITS = " ".join(["red"] * 12)
LONG = FITS + " red red"
TEXTS = [SHORT, FITS, LONG, ""]


def test_clip_counts_both_ends_and_t5_one(tiny_pipeline):
    pipeline = Pipeline(tiny_pipeline)
    assert count_cut(pipeline, TEXTS, 15) == [
        Cut("text_encoder", 14, 1),
        Cut("text_encoder_2", 14, 1),
    ]
    assert count_cut(pipeline, TEXTS, 14)[2:] == [Cut("text_encoder_3", 14, 1)]
    assert count_cut(pipeline, TEXTS, 12)[2:] == [Cut("text_encoder_3", 12, 2)]
    assert count_cut(pipeline, [], 12) == []


def test_what_is_counted_is_what_the_pipelines_encoders_do_not_see(tiny_pipeline):
    """A text is cut by CLIP exactly if a word at its end changes nothing that CLIP returns."""
    from soar_bench.pipelines.loading import load_pipeline

    loaded = load_pipeline(tiny_pipeline)

    def pooled(text):
        return loaded.encode_prompt(text, None, None, do_classifier_free_guidance=False)[2]

    for length in (11, 12, 13, 14):
        text = " ".join(["red"] * length)
        unseen = pooled(text).equal(pooled(" ".join(["red"] * 12)))
        cut = bool(count_cut(Pipeline(tiny_pipeline), [text], 256))
        assert (cut, unseen) == (length > 12, length >= 12)


@pytest.mark.parametrize(
    ("kind", "encoders"),
    [
        ("sd15", {"text_encoder": 16}),
        ("sdxl", {"text_encoder": 16, "text_encoder_2": 16}),
        ("flux", {"text_encoder": 16, "text_encoder_2": 9}),
    ],
)
def test_other_kinds_of_pipelines(kind, encoders, tiny_pipeline, tmp_path):
    pipeline = Pipeline(tiny_pipelines.BUILD[kind](tiny_pipeline, tmp_path / kind))
    cuts = count_cut(pipeline, [SHORT, LONG + " red"], 9)
    assert cuts == [Cut(name, tokens, 1) for name, tokens in encoders.items()]


def test_a_count_is_remembered_until_a_tokenizer_changes(tiny_pipeline, monkeypatch):
    pipeline = Pipeline(tiny_pipeline)
    cuts = cut_texts(pipeline, [LONG, "one"], 256)
    assert cuts
    monkeypatch.setattr(lengths, "model_class", None)
    assert cut_texts(pipeline, [LONG, "one"], 256) == cuts
    file = tiny_pipeline / "tokenizer" / "tokenizer_config.json"
    file.write_text(file.read_text())
    with pytest.raises(SoarBenchError):
        cut_texts(pipeline, [LONG, "one"], 256)


def test_a_record_says_how_many_prompts_were_cut_and_else_nothing(
    evaluate, small_suite, quick, tiny_pipeline
):
    from dataclasses import replace

    whole = evaluate(tiny_pipeline, images_per_prompt=1)
    assert "cut_prompts" not in (whole.folder / "run.json").read_text()
    prompt = small_suite.prompts[0]
    long = replace(prompt, id="long", text=LONG)
    suite = replace(small_suite, name="long", prompts=(prompt, long))
    cut = evaluate(tiny_pipeline, suite=suite, images_per_prompt=1)
    made = json.loads((cut.folder / "run.json").read_text())["made"]
    assert made["cut_prompts"] == {
        name: {"tokens": 14, "prompts": 1}
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3")
    }
    before = (cut.folder / "run.json").read_bytes()
    evaluate(tiny_pipeline, suite=suite, images_per_prompt=1)
    assert (cut.folder / "run.json").read_bytes() == before


def test_the_plan_says_it(tiny_pipeline, tmp_path, quick, capsys):
    from rich.console import Console

    from soar_bench.checkpoints import resolve
    from soar_bench.evaluation import Options, prepare
    from soar_bench.output.plan import plan_record, show_plans

    (tmp_path / "mine.txt").write_text(f"{LONG}\n{SHORT}\n")
    options = Options(tmp_path / "r", tmp_path / "c", evaluators=("shapes-clipscore",))
    suite = get_suite(str(tmp_path / "mine.txt"))
    plan = prepare(resolve(str(tiny_pipeline)), suite, quick, options)
    show_plans([plan, plan], Console(width=200))
    printed = capsys.readouterr().out
    assert len(re.findall("prompts longer than the text encoders read are cut", printed)) == 1
    assert "of 2: text_encoder (14 tokens) cuts 1" in printed
    other = prepare(resolve(str(tiny_pipeline)), get_suite("shapes-signs"), quick, options)
    show_plans([plan, other], Console(width=70))  # a table each, so that no word is broken
    tables = capsys.readouterr().out
    assert re.findall(r"plan: (\S+) under", tables) == ["mine", "shapes-signs"]
    assert re.search(r" 2 of 2  shapes-clipscore 2\b", tables)
    show_plans([other], Console(width=70))
    assert f"plan: shapes-signs under {quick.name}\n" in capsys.readouterr().out
    (record,) = plan_record([plan])
    assert record["cut_prompts"]["text_encoder_3"] == {"tokens": 14, "prompts": 1}


def test_captions_in_data_check(tiny_pipeline, tmp_path):
    from typer.testing import CliRunner

    from soar_bench.cli.data import app

    for number, caption in enumerate([SHORT, LONG, "red " * 75, "red " * 76, "red " * 256]):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(caption)

    def check(*options):
        done = CliRunner().invoke(app, ["check", str(tmp_path), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "CLIP (77 tokens) cuts at least 2, T5 (256 tokens) cuts at least 1 (" in check()
    assert "text_encoder (14 tokens) cuts 4" in check("--base", str(tiny_pipeline))
    report = json.loads(check("--base", str(tiny_pipeline), "--json", "--max-sequence-length=20"))
    assert {c["encoder"]: c["texts"] for c in report["cut"]}["text_encoder_3"] == 3


def test_captions_in_a_trainings_dry_run(tiny_config):
    from soar_bench.trainer.run import check

    plan = check(tiny_config(max_sequence_length=4))
    (line,) = [line for line in plan.lines() if "captions longer" in line]
    assert "of 24: text_encoder_3 (4 tokens) cuts 24" in line
    assert not any("captions longer" in line for line in check(tiny_config()).lines())
