"""Protocols: that a name says every setting, and can be typed again."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import pytest

from soar_bench.core.errors import SoarBenchError
from soar_bench.suites import get_suite, names
from soar_bench.suites.protocols import (
    ABOUT,
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    default_protocol,
    from_settings,
    get_protocol,
    override,
    sweep,
)
from soar_bench.suites.types import Protocol


def test_the_papers_protocol_is_what_its_table_was_made_with():
    assert get_protocol("soar-paper") == Protocol(
        "soar-paper", steps=40, guidance=4.5, resolution=512, max_sequence_length=256,
        dtype="bfloat16", vae_dtype="float32",
    )  # fmt: skip


def test_flow_grpos_protocol_is_that_of_its_training_script():
    assert get_protocol("flow-grpo") == Protocol(
        "flow-grpo", steps=40, guidance=4.5, resolution=512, max_sequence_length=128,
        dtype="float16", vae_dtype="float32",
    )  # fmt: skip


def test_genevals_protocol_is_that_of_its_generation_script():
    assert get_protocol("geneval-official") == Protocol(
        "geneval-official", steps=50, guidance=9.0, resolution=None, max_sequence_length=256,
        dtype="float16", vae_dtype="float16",
    )  # fmt: skip


def test_every_named_suite_has_a_protocol_and_every_protocol_says_whose_it_is():
    assert set(DEFAULT_PROTOCOL) == set(names())
    assert set(DEFAULT_PROTOCOL.values()) <= set(PROTOCOLS) == set(ABOUT)
    assert default_protocol(get_suite("shapes")).name == "shapes"


def test_a_users_suite_is_evaluated_under_the_papers_protocol_whatever_its_name(tmp_path):
    file = tmp_path / "shapes.txt"
    file.write_text("a cat\n")
    assert default_protocol(get_suite(str(file))).name == "soar-paper"


def test_overriding_a_protocol_names_what_differs():
    protocol = get_protocol("shapes")
    assert override(protocol, steps=10, guidance=None).name == "shapes+steps=10"
    assert override(protocol, steps=20, guidance=3) == protocol
    assert override(protocol, steps=5, guidance=4.5).name == "shapes+guidance=4.5+steps=5"


def test_the_same_settings_have_the_same_name_however_they_were_arrived_at():
    paper = get_protocol("soar-paper")
    both = override(paper, steps=20, guidance=7)
    assert override(override(paper, guidance=7), steps=20) == both
    assert override(override(paper, steps=50, guidance=7), steps=20) == both
    assert override(both, steps=40, guidance=4.5) == paper
    assert get_protocol("soar-paper+steps=20+guidance=7") == both
    assert get_protocol("soar-paper+steps=40") == paper


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 20},
        {"guidance": 7.25, "steps": 1},
        {"guidance": 1000000.0},
        {"guidance": 0.0},
        {"resolution": 1024, "dtype": "float32", "vae_dtype": "bfloat16"},
        {"max_sequence_length": 512},
    ],
)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_recorded_name_can_be_typed_again(name, changes):
    protocol = override(get_protocol(name), **changes)
    assert get_protocol(protocol.name) == protocol
    for key, value in changes.items():
        assert protocol.settings()[key] == value


def test_a_whole_number_of_guidance_is_the_same_protocol_as_that_number_with_a_point():
    whole, other = (override(get_protocol("soar-paper"), guidance=g) for g in (7, 7.0))
    assert whole == other and isinstance(whole.guidance, float)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("soar-papr", "did you mean soar-paper"),
        ("soar-paper+step=20", "no setting of a protocol is named 'step'; did you mean steps"),
        ("soar-paper+name=x", "no setting of a protocol"),
        ("soar-paper+steps=many", "steps is a whole number from 1; not 'many'"),
        ("soar-paper+steps=0", "steps is a whole number from 1; not 0"),
        ("soar-paper+steps=2.5", "steps is a whole number"),
        ("soar-paper+steps=", "steps is a whole number"),
        ("soar-paper+guidance=nan", "guidance is a number from 0"),
        ("soar-paper+guidance=inf", "guidance is a number from 0"),
        ("soar-paper+guidance=-1", "guidance is a number from 0"),
        ("soar-paper+resolution=0", "resolution is a whole number from 8"),
        ("soar-paper+dtype=fp16", "dtype is float32, bfloat16, float16; not 'fp16'"),
        ("soar-paper+noise=other", "noise is philox-1; not 'other'"),
        ("soar-paper+steps=20+steps=30", "sets steps twice"),
        ("soar-paper+20", "no protocol is named 'soar-paper.20'"),
        ("", "no protocol is named ''"),
    ],
)
def test_a_protocol_that_does_not_exist_is_refused_with_a_sentence(name, message):
    with pytest.raises(SoarBenchError, match=message):
        get_protocol(name)


def test_an_override_that_is_no_setting_or_value_is_refused():
    with pytest.raises(SoarBenchError, match="no setting of a protocol is named 'cfg'"):
        override(get_protocol("soar-paper"), cfg=3)
    with pytest.raises(SoarBenchError, match="steps is a whole number"):
        override(get_protocol("soar-paper"), steps=True)


def test_a_precision_given_as_an_option_of_the_command_line_is_recorded_as_text():
    precision = StrEnum("Precision", "float16")
    protocol = override(get_protocol("soar-paper"), dtype=precision.float16)
    assert protocol.name == "soar-paper+dtype=float16" and type(protocol.dtype) is str


def test_a_sweep_is_every_combination_once_in_the_order_given():
    protocols = sweep(get_protocol("soar-paper"), [20, 50, 20], [1, 4.5, 1.0])
    assert [(p.steps, p.guidance) for p in protocols] == [(20, 1), (20, 4.5), (50, 1), (50, 4.5)]
    assert [p.name for p in protocols][:2] == [
        "soar-paper+guidance=1+steps=20",
        "soar-paper+steps=20",
    ]


def test_a_sweep_over_nothing_is_the_protocol_itself():
    paper = get_protocol("soar-paper")
    assert sweep(paper, [], []) == [paper]
    assert sweep(paper, [40], []) == [paper]
    (other,) = sweep(paper, [], [], dtype="float16", resolution=None)
    assert other.name == "soar-paper+dtype=float16"
    swept = sweep(get_protocol("soar-paper+guidance=7"), [20, 40], [])
    assert [p.name for p in swept] == ["soar-paper+guidance=7+steps=20", "soar-paper+guidance=7"]


@pytest.mark.parametrize("name", [*PROTOCOLS, "soar-paper+steps=20", "flow-grpo+guidance=7.25"])
def test_a_protocol_comes_back_from_its_record(name):
    protocol = get_protocol(name)
    assert from_settings(protocol.name, protocol.settings()) == protocol


def test_a_record_keeps_its_settings_even_where_the_name_now_means_others():
    recorded = {**get_protocol("shapes").settings(), "steps": 3}
    assert from_settings("shapes", recorded).steps == 3


def test_settings_that_are_missing_unknown_or_wrong_are_named():
    settings = get_protocol("shapes").settings()
    lacking = {k: v for k, v in settings.items() if k not in ("steps", "noise")}
    with pytest.raises(SoarBenchError, match="'shapes' lacks steps, noise"):
        from_settings("shapes", lacking)
    with pytest.raises(SoarBenchError, match="does not know: scheduler"):
        from_settings("shapes", {**settings, "scheduler": "heun"})
    with pytest.raises(SoarBenchError, match="steps is a whole number from 1; not '20'"):
        from_settings("shapes", {**settings, "steps": "20"})


def test_a_protocol_of_a_programs_own_is_overridden_under_its_own_name():
    mine = dataclasses.replace(get_protocol("shapes"), name="quick", steps=4)
    assert override(mine, steps=8).name == "quick+steps=8"
    assert override(mine, steps=4) == mine
