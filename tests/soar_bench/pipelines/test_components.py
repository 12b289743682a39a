"""Components that a pipeline's folder lacks: what works without them does, the rest is refused."""

from __future__ import annotations

import json
import shutil

import pytest

from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines import INDEX, check_pipeline
from soar_bench.pipelines.loading import load_pipeline
from tests.soar_bench import tiny_pipelines

T5 = ("text_encoder_3", "tokenizer_3")


@pytest.fixture()
def changed(tiny_pipeline, tmp_path):
    """changed({name: value of the index, or ... for no entry}) -> folder without these parts."""

    def make(changes, base=tiny_pipeline):
        folder = tmp_path / f"pipeline{len(list(tmp_path.iterdir()))}"
        shutil.copytree(base, folder)
        index = json.loads((folder / INDEX).read_text())
        for name, value in changes.items():
            index[name] = value
            if value is ...:
                del index[name]
            if value in (..., None, [None, None]):
                shutil.rmtree(folder / name)
        (folder / INDEX).write_text(json.dumps(index))
        return folder

    return make


@pytest.mark.parametrize("absent", [[None, None], ...])
def test_sd3_without_t5_has_zeros_in_its_place(changed, absent):
    folder = changed(dict.fromkeys(T5, absent))
    check_pipeline(folder)
    text = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    for parts in (None, text):
        embeds = load_pipeline(folder, parts).encode_prompt(
            "a red star", None, None, do_classifier_free_guidance=False, max_sequence_length=9
        )[0]
        clip_tokens = embeds.shape[1] - 9
        assert embeds[:, :clip_tokens].abs().sum() > 0
        assert not embeds[:, clip_tokens:].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer_3": ...}, "lacks tokenizer_3"),
        ({"tokenizer": [None, None]}, "lacks tokenizer, without which"),
        ({"tokenizer_2": ..., "text_encoder_2": ...}, "lacks text_encoder_2, tokenizer_2"),
        ({"vae": [None, None]}, "lacks vae"),
        ({"scheduler": ...}, "lacks scheduler"),
        (dict.fromkeys(T5), "names nothing as text_encoder_3: write \\[null, null\\]"),
        ({"scheduler": ["diffusers", "NoSuchScheduler"]}, "wants diffusers.NoSuchScheduler"),
    ],
)
def test_what_a_class_needs_is_named_before_anything_is_loaded(changed, changes, words):
    with pytest.raises(SoarBenchError, match=words):
        check_pipeline(changed(changes))


@pytest.mark.parametrize(
    ("kind", "names"), [("sdxl", ("text_encoder", "text_encoder_2")), ("flux", ("text_encoder_2",))]
)
def test_encoders_of_other_kinds(changed, tiny_pipeline, tmp_path, kind, names):
    base = tiny_pipelines.BUILD[kind](tiny_pipeline, tmp_path / "base")
    check_pipeline(base)
    with pytest.raises(SoarBenchError, match=r"lacks .*tokenizer_2"):
        check_pipeline(changed({"tokenizer_2": ...}, base))
    with pytest.raises(SoarBenchError, match=rf"lacks .*{names[-1]}"):
        check_pipeline(changed(dict.fromkeys(names, ...), base))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tokenizer/tokenizer.json", "{}"),
        ("tokenizer_3/tokenizer.json", '{"a":' * 3000 + "1" + "}" * 3000),
        ("scheduler/scheduler_config.json", '{"num_train_timesteps": "many"}'),
        ("scheduler/scheduler_config.json", "[1]"),
    ],
)
def test_damaged_parts_without_weights_are_seen_by_the_check(changed, file, text):
    folder = changed({})
    (folder / file).write_text(text)
    with pytest.raises(SoarBenchError, match=file.partition("/")[0]):
        check_pipeline(folder)


def test_training_refuses_what_evaluation_does(changed, tiny_config):
    from soar_bench.trainer.run import check

    with pytest.raises(SoarBenchError, match="lacks tokenizer_3"):
        check(tiny_config(base=str(changed({"tokenizer_3": ...}))))
    check(tiny_config(base=str(changed(dict.fromkeys(T5, ...)))))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("transformer", "num_layers", None),
        ("transformer", "attention_head_dim", -1),
        ("text_encoder_3", "d_model", "wide"),
        ("vae", "latent_channels", {}),
        ("vae", "block_out_channels", []),
    ],
)
def test_settings_that_make_no_model_are_named(changed, part, key, value):
    folder = changed({})
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(SoarBenchError, match=rf"{part}.* cannot be loaded: ") as refused:
        check_pipeline(folder)
    assert "Error" not in str(refused.value)
