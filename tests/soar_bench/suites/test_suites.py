"""The suites: what is in them, and that settings are never chosen on what is judged."""

from __future__ import annotations

from collections import Counter

import pytest

from soar_bench.sampling.noise import noise_key
from soar_bench.suites import SUITES, get_suite
from soar_bench.suites.types import plan


@pytest.mark.parametrize("name", SUITES)
def test_ids_and_prompts_are_unique_and_the_digest_is_stable(name):
    suite = get_suite(name)
    assert len({p.id for p in suite.prompts}) == len(suite.prompts)
    assert len({p.text for p in suite.prompts}) == len(suite.prompts)
    assert suite.digest() == get_suite(name).digest()
    assert suite.digest()[:12] == DIGESTS[name], "committed records were made with other prompts"


DIGESTS = {"shapes": "25a1a20fa418", "shapes-dev": "8d3fa30bef15", "shapes-signs": "be625fdc5602"}


def test_the_test_suite_is_genevals_six_tasks_with_held_out_parts():
    suite = get_suite("shapes")
    assert Counter(p.task for p in suite.prompts) == {
        "single_object": 18, "two_object": 40, "counting": 40, "colors": 40, "position": 40,
        "color_attr": 40,
    }  # fmt: skip
    held = Counter(p.task for p in suite.prompts if p.metadata["held_out"])
    assert held == {
        "two_object": 12, "counting": 9, "colors": 12, "position": 20, "color_attr": 20
    }  # fmt: skip


def test_development_shares_neither_prompt_nor_noise_with_the_test():
    test, development = get_suite("shapes"), get_suite("shapes-dev")
    assert not {p.text for p in test.prompts} & {p.text for p in development.prompts}
    assert not any(p.metadata["held_out"] for p in development.prompts)
    noise = [
        {noise_key(s.seed, x.prompt.id, x.index) for x in plan(s, 4)} for s in (test, development)
    ]  # fmt: skip
    assert not noise[0] & noise[1]


def test_a_plan_has_every_sample_once_and_all_first_images_first():
    suite = get_suite("shapes")
    samples = plan(suite, 3)
    assert len(samples) == 3 * len(suite.prompts)
    assert len({(s.prompt.id, s.index) for s in samples}) == len(samples)
    assert [s.index for s in samples] == sorted(s.index for s in samples)
