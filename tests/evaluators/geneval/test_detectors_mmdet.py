"""The mmdet backend: how it calls the library, and, where that is installed, what it finds."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import zlib
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors import mmdet_backend
from evaluators.geneval.detectors.architecture import Architecture
from evaluators.geneval.detectors.keys import mmdet2_key
from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
from evaluators.geneval.detectors.mmdet_backend import MmdetDetector, do_without_operators
from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.golden.geneval import official_state
from evaluators.types import EvaluatorError

FILE = MASK2FORMER.files[0].path
SIZES = Architecture(
    embed_dim=8,
    depths=(1, 1, 1, 1),
    heads=(1, 1, 1, 1),
    channels=32,
    pixel_layers=1,
    pixel_width=8,
    layers=1,
    width=8,
    queries=3,
)


def fill(key, shape):
    return np.full(shape, (zlib.crc32(key.encode()) % 97) / 97, dtype=np.float32)


class Holder(torch.nn.Module):
    """A module whose state dict is a given one: as mmdet's model before weights are put in."""

    def __init__(self, state):
        super().__init__()
        self._state = {name: torch.zeros_like(tensor) for name, tensor in state.items()}

    def state_dict(self):
        return self._state

    def load_state_dict(self, state, strict=True):
        self._state = dict(state)


class Found(SimpleNamespace):
    def cpu(self):
        return self


class Config:
    """A configuration that keeps its file and what is put into it."""

    def __init__(self, file):
        self.file = str(file)

    def merge_from_dict(self, settings):
        self.settings = settings


@pytest.fixture
def mmdet(monkeypatch, tmp_path):
    """A fake mmdet 3 that keeps what it is called with."""
    model = Holder(official_state(SIZES, fill))
    calls = SimpleNamespace(model=model, config=None, images=[])

    def init_detector(config, checkpoint, device):
        calls.config, calls.checkpoint, calls.device = config, checkpoint, device
        return model

    def inference_detector(given, image):
        assert given is model
        calls.images.append(image)
        masks = torch.zeros(2, *image.shape[:2], dtype=torch.bool)
        masks[:, 1:3, 2:5] = True
        return SimpleNamespace(
            pred_instances=Found(
                bboxes=torch.tensor([[2.0, 1.0, 5.0, 3.0]] * 2),
                scores=torch.tensor([0.25, 0.75]),
                labels=torch.tensor([0, 64]),
                masks=masks,
            )
        )

    names = ("mmengine", "mmengine.config", "mmcv", "mmdet", "mmdet.apis")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    modules["mmdet"].__file__ = str(tmp_path / "mmdet" / "__init__.py")
    modules["mmdet"].__path__ = []
    modules["mmcv"].__path__ = modules["mmengine"].__path__ = []
    modules["mmengine.config"].Config = SimpleNamespace(fromfile=Config)
    modules["mmdet.apis"].init_detector = init_detector
    modules["mmdet.apis"].inference_detector = inference_detector
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.setattr(mmdet_backend, "version", lambda _package: "3.3.0")
    monkeypatch.setattr(mmdet_backend, "Architecture", lambda: SIZES)
    yield calls
    sys.modules.pop("mmcv._ext", None)


@pytest.fixture
def weights(tmp_path):
    torch.save({"state_dict": official_state(SIZES, fill, mmdet2_key)}, tmp_path / FILE)
    return MASK2FORMER.at(tmp_path)


def test_mmdet_gets_its_own_config_and_every_weight(mmdet, weights):
    detector = MmdetDetector(weights=weights)
    detector.check()
    detector.load("cpu")
    assert mmdet.config.settings["model.backbone.embed_dims"] == SIZES.embed_dim
    assert mmdet.config.file.endswith(
        "/mmdet/.mim/configs/mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
    )
    assert mmdet.checkpoint is None  # mmdet would pass over the keys of mmdet 2 in silence
    assert mmdet.device == "cpu"
    put_in = mmdet.model.state_dict()
    expected = official_state(SIZES, fill)
    assert put_in.keys() == expected.keys()
    key = "panoptic_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_weight"
    assert torch.equal(put_in[key], expected[key])


@pytest.mark.parametrize(("channels", "handed"), [("bgr", [3, 2, 1]), ("rgb", [1, 2, 3])])
def test_an_image_is_handed_over_in_the_order_asked_for(mmdet, weights, channels, handed):
    detector = MmdetDetector(channels=channels, weights=weights)
    detector.load()
    image = np.zeros((6, 8, 3), np.uint8) + np.array([1, 2, 3], np.uint8)
    ((best, other),) = detector.detect([image])
    (seen,) = mmdet.images
    assert seen[0, 0].tolist() == handed
    assert seen.flags.c_contiguous
    assert (best.label, other.label) == ("computer mouse", "person")
    assert (best.score, best.box) == (0.75, (2, 1, 5, 3))
    assert best.mask.dtype == bool
    assert best.mask.sum() == 6


def test_the_absent_operators_are_replaced_and_say_so_if_called(mmdet):
    do_without_operators()
    operators = importlib.import_module("mmcv._ext")
    assert importlib.util.find_spec("mmcv._ext") is not None  # mmdet asks so whether it is there
    assert callable(operators.ms_deform_attn_forward)
    with pytest.raises(EvaluatorError, match="softnms needs mmcv with compiled operators"):
        operators.softnms(1)


def test_compiled_operators_are_left_alone(mmdet, monkeypatch):
    compiled = ModuleType("mmcv._ext")
    compiled.__spec__ = ModuleSpec("mmcv._ext", None)
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    do_without_operators()
    assert sys.modules["mmcv._ext"] is compiled


def test_missing_and_wrong_packages_are_named_with_the_extra(mmdet, weights, monkeypatch):
    monkeypatch.setattr(mmdet_backend, "version", lambda _package: "2.27.0")
    with pytest.raises(EvaluatorError, match=r"needs mmdet 3, not 2\.27\.0.*\[mmdet\]'"):
        MmdetDetector(weights=weights).check()
    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("mmcv", "mmdet") else present(name),
    )
    with pytest.raises(EvaluatorError, match=r"needs mmcv, mmdet: .*\[mmdet\]'"):
        MmdetDetector(weights=weights).check()


def test_missing_weights_are_said_by_check(mmdet, tmp_path):
    with pytest.raises(EvaluatorError, match="lacks mask2former"):
        MmdetDetector(weights=MASK2FORMER.at(tmp_path)).check()


def test_misuse_is_said_in_one_sentence(weights):
    with pytest.raises(EvaluatorError, match="bgr or rgb"):
        MmdetDetector(channels="RGB")
    with pytest.raises(EvaluatorError, match="must be loaded"):
        MmdetDetector(weights=weights).detect([np.zeros((4, 4, 3), np.uint8)])


def test_the_official_sizes_are_those_of_mmdets_configuration():
    mmdet = pytest.importorskip("mmdet")
    from mmengine.config import Config

    file = Path(mmdet.__file__).parent / ".mim" / "configs" / mmdet_backend.CONFIG
    config, as_published = Config.fromfile(file), Config.fromfile(file)
    config.merge_from_dict(mmdet_backend.sizes(Architecture()))
    assert json.dumps(config.to_dict(), sort_keys=True) == json.dumps(
        as_published.to_dict(), sort_keys=True
    )


@pytest.mark.slow
def test_mmdet_itself_finds_what_the_transformers_detector_finds(tmp_path):
    """On mmdet 2's file and a padded picture, with channels handed over either way."""
    pytest.importorskip("mmdet")
    spec = importlib.util.spec_from_file_location(
        "formulas", Path(__file__).parent / "data" / "formulas.py"
    )
    formulas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formulas)
    state = official_state(Architecture(), formulas.fill, mmdet2_key)
    torch.save({"state_dict": state}, tmp_path / FILE)
    weights = MASK2FORMER.at(tmp_path)
    image = formulas.picture("wide")
    for channels in ("bgr", "rgb"):
        detections = []
        for kind in (MmdetDetector, Mask2FormerSwinS):
            detector = kind(channels=channels, weights=weights)
            detector.check()
            detector.load()
            detections.append(detector.detect([image])[0])
        theirs, ours = detections
        assert len(theirs) == len(ours) == 100
        same = [
            a.label == b.label
            and abs(a.score - b.score) < 1e-3
            and np.abs(np.subtract(a.box, b.box)).max() <= 2
            and (a.mask != b.mask).mean() < 1e-3
            for a, b in zip(theirs, ours, strict=True)
        ]
        assert sum(same) >= 95
    assert OBJECT_NAMES.index(ours[0].label) < 80
