"""The plan of a training on its own images: copies of the weights, and a rollout's samples."""

from __future__ import annotations

import json
import shutil

import pytest

from soar_bench.trainer.config import Config
from soar_bench.trainer.guidance import apart_from_evaluation
from soar_bench.trainer.run import check, train
from soar_bench.trainer.watch import callbacks_of
from training.types import TrainingError

REWARDED = {
    "data": "shapes-dev", "batch_size": 4, "accumulate": 2, "rewards": {"shapes-geneval": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "section", "copies", "latents"),
    [
        # Two steps' samples: the final state, and those around 9 trained steps of 10.
        ("flow-grpo", {"flow_grpo": {"group": 4}}, 1, 16 * (9 + 2)),
        ("flow-grpo", {"flow_grpo": {"group": 4, "window": 3, "step": "cps"}}, 1, 16 * (3 + 2)),
        # The final state, and noise for 9 levels.
        ("nft", {"nft": {"group": 4}}, 2, 8 * (9 + 1)),
    ],
)
def test_copies_and_samples_are_counted(method, section, copies, latents, tiny_config, tmp_path):
    sft = check(tiny_config(method="sft", output=tmp_path / "sft"))
    plan = check(tiny_config(method=method, output=tmp_path / "own", **REWARDED, **section))
    assert plan.held - sft.held == copies * 4 * plan.memory.trained
    channels = plan.memory.latent
    assert plan.rollout == channels * latents
    updates = plan.config.rollouts.updates
    prompts = 8 * updates // 4
    assert any(f"{prompts} prompts x 4 images in 10" in line for line in plan.lines())
    assert not (tmp_path / "own").exists()


def test_the_dry_run_of_a_begun_run_knows_it_by_its_rewards(tiny_config, tiny_train):
    config = tiny_config(
        method="nft", nft={"group": 4, "steps": 2}, steps=1, trackers=[], **REWARDED
    )
    tiny_train(config)
    assert check(config).state.startswith("finished")


@pytest.mark.parametrize(
    "guided",
    [
        {"method": "flow-grpo", "flow_grpo": {"group": 4, "guidance": 4.5}, **REWARDED},
        {"method": "nft", "nft": {"group": 4, "guidance": 2.0}, **REWARDED},
        {"method": "soar", "soar": {"guidance": 4.5}},
    ],
    ids=["flow-grpo", "nft", "soar"],
)
def test_guided_rollouts_of_a_model_with_guidance_built_in(
    guided, tiny_config, tiny_pipeline, tmp_path
):
    turbo = shutil.copytree(tiny_pipeline, tmp_path / "model-Turbo")
    config = tiny_config(base=str(turbo), steps=1, trackers=[], **guided)
    (remark,) = [line for line in check(config).lines() if "distilled" in line]
    assert "guidance to 1" in remark

    file = turbo / "transformer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "guidance_embeds": True}))
    for run in (check, train):
        with pytest.raises(TrainingError, match="would guide it twice, so set") as refused:
            run(config)
        assert "\n" not in str(refused.value)
    assert not config.output.exists()


@pytest.mark.parametrize(
    ("protocol", "guidance", "remarked"),
    [("", 1.0, True), ("shapes+guidance=1", 1.0, False), ("", 3.0, False)],
)
def test_an_evaluation_at_another_guidance_is_remarked_on(protocol, guidance, remarked, tmp_path):
    config = Config(
        method="nft", base="shapes", data="shapes-dev", rewards={"shapes-geneval": 1.0},
        nft={"group": 4, "guidance": guidance}, save_every=100, output=tmp_path,
        evaluation={"every": 100, "suite": "shapes-dev", "protocol": protocol},
    )  # fmt: skip
    remark = apart_from_evaluation(config, callbacks_of(config))
    if not remarked:
        assert remark == ""
        return
    assert "nft.guidance is 1, but the evaluation's protocol has guidance 3" in remark
    assert "evaluation.protocol shapes+guidance=1 judges" in remark


def test_what_guides_nothing_is_not_remarked_on(tiny_config, tiny_pipeline, tmp_path):
    turbo = shutil.copytree(tiny_pipeline, tmp_path / "model-Turbo")
    for settings in ({"method": "sft"}, {"method": "nft", "nft": {"group": 4}, **REWARDED}):
        config = tiny_config(base=str(turbo), **settings)
        assert not check(config).remark
