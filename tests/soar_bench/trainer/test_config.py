"""Settings: defaults in one place, who overrides whom, and typos that are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evaluators.registry import resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.trainer.config import Config, load_config

ROOT = Path(__file__).parents[3]


def write(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file


def test_defaults_are_the_published_recipe():
    config = Config(base="b", data="d", output="o")
    assert (config.steps, config.batch_size, config.resolution, config.seed) == (5000, 4, 512, 42)
    assert (config.soar.weight, config.soar.points, config.soar.rollout_steps) == (1.0, 6, 40)
    assert config.soar.guidance == 4.5
    assert config.soar.sigma_floor == 0.0
    assert (config.noise.logit_mean, config.noise.logit_std) == (0.0, 1.0)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (2e-5, 1e-2)
    assert (config.optimizer.clip_norm, config.optimizer.schedule) == (1.0, "constant")
    assert config.precision == "bf16"
    assert config.max_sequence_length == 77, "the default of the release's parser"


def test_the_sd35_recipe_spells_out_the_defaults():
    """And cuts images as the release does, in as many of its random crops as are kept."""
    config = load_config(ROOT / "configs" / "sd35m_soar.yaml", {})
    images = {"record_sizes": True, "crop": "random", "crops": 8}
    plain = Config(base=config.base, data=config.data, output=config.output, images=images)
    assert config == plain


def test_sft_and_soar_recipes_differ_by_the_objective_alone():
    for name in ("shapes", "sd35m"):
        both = [
            load_config(ROOT / "configs" / f"{name}_{method}.yaml", {"output": Path("o")})
            for method in ("sft", "soar")
        ]
        assert both[0].method == "sft"
        assert both[1].method == "soar"
        assert both[0] == both[1].model_copy(update={"method": "sft"})


@pytest.mark.parametrize(
    ("name", "prompts", "group", "updates"),
    [("flow_grpo", 48, 24, 2), ("flow_grpo_fast", 64, 18, 2), ("nft", 48, 24, 1)],
)
def test_the_sd35_recipes_of_rewards_are_the_released_configs(name, prompts, group, updates):
    """``geneval_sd3`` and ``pickscore_sd3_fast_nocfg`` of flow_grpo, DiffusionNFT's pickscore."""
    config = load_config(ROOT / "configs" / f"sd35m_{name}.yaml", {})
    rollouts = config.rollouts
    assert (rollouts.group, rollouts.updates, rollouts.steps) == (group, updates, 10)
    images = config.batch_size * config.accumulate * 8 * updates  # of 8 processes
    assert images == prompts * group
    assert (rollouts.deviation, rollouts.advantage_clip) == ("batch", 5.0)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (3e-4, 1e-4)
    assert (config.lora.rank, config.lora.alpha, config.optimizer.clip_norm) == (32, 64, 1.0)
    assert (config.resolution, config.max_sequence_length, config.ema_decay) == (512, 128, 0.9)
    assert all(resolve(reward.partition("/")[0]) for reward in config.rewards)
    if name == "flow_grpo":
        grpo = config.flow_grpo
        assert (grpo.guidance, grpo.step, grpo.noise_scale, grpo.window) == (4.5, "sde", 0.7, 0)
        assert (grpo.trained_steps, grpo.clip, grpo.kl_weight, grpo.kl) == (9, 1e-4, 0.04, "code")
        assert list(config.rewards) == ["geneval-flow-grpo/geneval_flow_grpo_soft"]
        return
    assert list(config.rewards) == ["pickscore"]
    assert config.reward_scaling == {"pickscore": "pickscore/26"}
    assert rollouts.guidance == 1
    if name == "flow_grpo_fast":
        grpo = config.flow_grpo
        assert (grpo.step, grpo.noise_scale, grpo.window, grpo.window_steps) == ("cps", 0.8, 3, 5)
        assert (grpo.clip, grpo.kl_weight) == (1e-5, 0)
    else:
        nft = config.nft
        assert (nft.beta, nft.kl_weight, nft.trained_levels) == (1.0, 1e-4, 9)
        assert (nft.decay_flat, nft.decay_rate, nft.decay_max) == (0, 0.001, 0.5)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_recipe_in_configs_is_valid(file):
    if file.stem == "shapes_pretrain":
        from benchmarks.pretrain import read_recipe

        recipe = read_recipe(file)
        load_config(None, {"base": "x", "output": Path("o"), "method": "sft", **recipe.transformer})
    else:
        load_config(file, {"output": Path("o")})


def test_the_later_wins(tmp_path):
    file = write(tmp_path, "base: shapes\ndata: d\noutput: o\nsteps: 7\nsoar: {points: 3}\n")
    config = load_config(
        file, {"seed": 5, "steps": None}, ["soar.guidance=2.5", "optimizer.lr=1e-3"]
    )
    assert config.resolution == 64, "the embedded recipe stands under the file"
    assert config.steps == 7
    assert config.seed == 5
    assert (config.soar.points, config.soar.guidance) == (3, 2.5)
    assert config.optimizer.lr == 1e-3
    assert load_config(file, {"steps": 9}).steps == 9


def test_rewards_given_whole_are_others_and_one_by_name_is_added(tmp_path):
    """A config's reward must not stay beside the one that a command puts in its place."""
    file = write(tmp_path, "base: shapes\nmethod: nft\nnft: {group: 8}\nrewards: {ocr: 1.0}\n")
    assert load_config(file, {}, ["rewards={pickscore: 2}"]).rewards == {"pickscore": 2.0}
    assert load_config(file, {"rewards": {"pickscore": 2}}).rewards == {"pickscore": 2.0}
    added = ["rewards.geneval/geneval_strict=0.5", "rewards.own/judge.py=1"]
    assert load_config(file, {}, added).rewards == {
        "ocr": 1.0, "geneval/geneval_strict": 0.5, "own/judge.py": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 5", "no setting 'stepz'; did you mean steps"),
        ("optimizer: {learning_rate: 1}", "no setting 'optimizer.learning_rate'"),
        ("lr: 1e-3", r"no setting 'lr'; did you mean optimizer\.lr"),
        ("steps: many", "'steps' is 'many'"),
        ("steps: 0", "'steps' is 0: input should be greater than or equal to 1"),
        ("soar: {weight: -1}", r"'soar\.weight' is -1"),
        ("method: grpo", "'method' is 'grpo': input should be 'sft', 'soar'"),
        ("optimizer: {lr: .nan}", r"'optimizer\.lr' is nan"),
        ("- a list", "must hold settings"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(tmp_path, text, message):
    full = text if text[0] in "-a" else f"base: b\ndata: d\noutput: o\n{text}\n"
    with pytest.raises(SoarBenchError, match=message) as caught:
        load_config(write(tmp_path, full), {})
    assert "\n" not in str(caught.value)


def test_a_missing_file_setting_or_value_is_named(tmp_path):
    with pytest.raises(SoarBenchError, match=r"no config file .*absent\.yaml"):
        load_config(tmp_path / "absent.yaml", {})
    with pytest.raises(SoarBenchError, match="the setting 'base' is missing"):
        load_config(None, {"data": "d", "output": Path("o")})
    with pytest.raises(SoarBenchError, match="--set wants NAME=VALUE"):
        load_config(None, {"base": "b", "data": "d", "output": Path("o")}, ["steps"])


def test_recipes_hold_nothing_but_settings():
    for file in (ROOT / "configs").glob("*.yaml"):
        assert isinstance(yaml.safe_load(file.read_text()), dict)


def test_seed_in_the_output_stands_for_the_seed():
    settings = {"base": "b", "data": "d", "output": Path("runs/mine-{seed}"), "seed": 7}
    assert load_config(None, settings).output == Path("runs/mine-7")
    del settings["output"]
    assert load_config(None, {**settings, "name": "n"}).output == Path("outputs/train/n-seed7")
    file = ROOT / "configs" / "sd35m_soar.yaml"
    assert load_config(file, {"seed": 3}).output == Path("outputs/train/sd35m_soar-seed3")
