"""mmdet's checkpoint files: keys of both versions, safety, strictness."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors.architecture import (
    Architecture,
    official_shapes,
    position_index,
)
from evaluators.geneval.detectors.checkpoint import read_mmdet_checkpoint
from evaluators.geneval.detectors.keys import mmdet2_key, mmdet3_key, to_mmdet3
from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
from evaluators.golden.geneval import TINY, official_state
from evaluators.types import EvaluatorError

FILE = MASK2FORMER.files[0].path


def counted(_name, shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / np.prod(shape)


def digest(shapes):
    lines = sorted(f"{key} {list(shape)}" for key, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_official_keys_and_shapes_are_mmdet_3s():
    """649 tensors; the digest is of the state dict of mmdet 3.3.0's own model."""
    shapes = official_shapes(Architecture())
    assert len(shapes) == 649
    assert digest(shapes) == "3d06a8a45e8b0eaf5973f0be6dc8e47996138e80a0a12bfe37c186e438446862"


def test_the_old_keys_are_mmdet_2s():
    """The digest is of the state dict of mmdet 2.27.0's own model."""
    shapes = {mmdet2_key(key): shape for key, shape in official_shapes(Architecture()).items()}
    assert digest(shapes) == "123ba754dd32d4d41685fafcf4135b1dda0f6a96e102994dc38958346884443d"


def test_keys_of_both_versions_name_the_same_tensors():
    decoder = "panoptic_head.transformer_decoder.layers.3"
    encoder = "panoptic_head.pixel_decoder.encoder.layers.2"
    pairs = {
        f"{decoder}.attentions.0.attn.in_proj_weight": f"{decoder}.cross_attn.attn.in_proj_weight",
        f"{decoder}.attentions.1.attn.in_proj_bias": f"{decoder}.self_attn.attn.in_proj_bias",
        f"{decoder}.ffns.0.layers.1.bias": f"{decoder}.ffn.layers.1.bias",
        f"{encoder}.attentions.0.value_proj.bias": f"{encoder}.self_attn.value_proj.bias",
        f"{encoder}.ffns.0.layers.0.0.bias": f"{encoder}.ffn.layers.0.0.bias",
    }
    for old, new in pairs.items():
        assert mmdet3_key(old) == new
        assert mmdet2_key(new) == old
        assert mmdet3_key(new) == new
    swin = "backbone.stages.0.blocks.0.ffn.layers.1.bias"
    assert mmdet2_key(swin) == swin


def test_the_position_index_of_a_2x2_window_is_right():
    """Entry (dy + 1) x 3 + dx + 1 of the table, for patches in reading order."""
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert position_index(2).tolist() == expected


@pytest.fixture
def save(tmp_path):
    def save(content):
        torch.save(content, tmp_path / FILE)
        return MASK2FORMER.at(tmp_path)

    return save


def loaded(weights):
    detector = Mask2FormerSwinS(weights=weights, architecture=TINY)
    detector.check()
    detector.load()
    return detector


def parameters(weights):
    return loaded(weights)._model.state_dict()


def test_files_of_both_versions_and_bare_weights_load_into_the_same_model(save):
    new = official_state(TINY, counted)
    old = official_state(TINY, counted, mmdet2_key)
    assert new.keys() != old.keys()
    contents = [new, {"state_dict": old, "meta": {}}, {"state_dict": OrderedDict(new)}]
    first, *others = [parameters(save(content)) for content in contents]
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[key], other[key]) for key in first)


def test_nothing_of_the_model_is_left_to_chance(save):
    weights = save(official_state(TINY, counted))
    torch.manual_seed(1)
    first = parameters(weights)
    torch.manual_seed(2)
    second = parameters(weights)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_merged_patches_are_read_in_mmdets_order():
    """A merging layer that picks one value of one patch picks the same one after conversion.

    mmdet gathers patches by torch's unfold; transformers by slicing. Both run here on features that
    are all different.
    """
    from transformers.models.swin.modeling_swin import SwinPatchMerging

    from evaluators.geneval.detectors.keys import _merging

    channels = 3
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2 * channels, 4 * channels, generator=generator)
    gain, bias = torch.randn(2, 4 * channels, generator=generator)
    features = torch.randn(1, channels, 4, 6, generator=generator)

    unfolded = torch.nn.functional.unfold(features, kernel_size=2, stride=2).transpose(1, 2)
    normed = torch.nn.functional.layer_norm(unfolded, (4 * channels,), gain, bias)
    expected = normed @ weight.T

    module = SwinPatchMerging(dim=channels)
    module.reduction.weight.data = _merging(weight)
    module.norm.weight.data, module.norm.bias.data = _merging(gain), _merging(bias)
    encoded = module(features.flatten(2).transpose(1, 2), (4, 6))
    torch.testing.assert_close(encoded, expected)


def test_a_missing_a_surplus_and_a_misshapen_tensor_are_refused(save):
    state = official_state(TINY, counted)
    lacking = {k: v for k, v in state.items() if "post_norm.bias" not in k}
    with pytest.raises(EvaluatorError, match=r"lacks panoptic_head.*post_norm\.bias"):
        loaded(save(lacking))
    with pytest.raises(EvaluatorError, match=r"has the unknown backbone\.norm9"):
        loaded(save({**state, "backbone.norm9.weight": torch.ones(1)}))
    with pytest.raises(EvaluatorError, match=r"has another shape for .*query_feat"):
        loaded(save({**state, "panoptic_head.query_feat.weight": torch.ones(7, 32)}))


def test_another_architectures_file_is_refused(save):
    with pytest.raises(EvaluatorError, match="holds no weights of GenEval's Mask2Former"):
        Mask2FormerSwinS(weights=save(official_state(TINY, counted))).load()


def test_a_file_that_says_a_thing_in_both_styles_is_refused(save, tmp_path):
    state = {**official_state(TINY, counted, mmdet2_key), **official_state(TINY, counted)}
    with pytest.raises(EvaluatorError, match="mixes the keys"):
        to_mmdet3(state, TINY, tmp_path)


def test_the_position_index_may_be_absent(save):
    state = official_state(TINY, counted)
    without = {k: v for k, v in state.items() if not k.endswith("relative_position_index")}
    assert without.keys() != state.keys()
    loaded(save(without))


class HistoryBuffer:
    """Pickles as a class of mmengine's, with a method among its values."""

    def __init__(self):
        self.values = np.arange(3.0)
        self.method = self.mean

    def mean(self):
        return self.values.mean()


def test_numpy_values_and_objects_of_openmmlab_beside_the_weights_do_no_harm(save, monkeypatch):
    import sys
    import types

    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setattr(HistoryBuffer, "__module__", module.__name__)
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    state = official_state(TINY, counted)
    meta = {"seed": np.int64(3), "lr": np.float32(0.1), "epochs": np.arange(4), "log": "text"}
    weights = save({"meta": meta, "message_hub": HistoryBuffer(), "state_dict": state})
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    read = read_mmdet_checkpoint(weights.file(FILE))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_anything_else_is_refused_and_never_run(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = save({"state_dict": official_state(TINY, counted), "meta": Malicious()})
    with pytest.raises(EvaluatorError, match="may run code"):
        read_mmdet_checkpoint(weights.file(FILE))
    assert not (tmp_path / "ran").exists()


def test_damaged_and_foreign_files_are_named(save, tmp_path):
    file = save({"state_dict": {"a": torch.ones(2), "b": 3}}).file(FILE)
    with pytest.raises(EvaluatorError, match="'b' is no tensor"):
        read_mmdet_checkpoint(file)
    save([1, 2])
    with pytest.raises(EvaluatorError, match="holds no weights of a detector"):
        read_mmdet_checkpoint(file)
    save(official_state(TINY, counted))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(EvaluatorError, match="cannot be read as weights"):
        read_mmdet_checkpoint(file)


def test_missing_weights_are_said_by_check(tmp_path):
    with pytest.raises(EvaluatorError, match="lacks mask2former"):
        Mask2FormerSwinS(weights=MASK2FORMER.at(tmp_path)).check()
