"""PaddleOCR, through stand-ins that take and return what the packages do."""

from __future__ import annotations

import hashlib
import sys
import types
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from evaluators.ocr import paddle
from evaluators.ocr.paddle import MODELS_VARIABLE, PaddleOcr, lines_2, lines_3
from evaluators.types import EvaluatorError

RED = np.zeros((5, 7, 3), np.uint8)
RED[..., 0] = 200
FILES = {
    "2": ("inference.pdmodel", "inference.pdiparams"),
    "3": ("inference.json", "inference.pdiparams", "inference.yml"),
}
MODELS = {
    "2": ("en_PP-OCRv3_det_infer", "en_PP-OCRv4_rec_infer"),
    "3": ("PP-OCRv4_mobile_det", "en_PP-OCRv4_mobile_rec"),
}
VERSION = {"2": "2.9.1", "3": "3.7.0"}


# PaddleOCR, through stand-ins that take and return what the packages do


class Paddle2:
    """Version 2.9: downloads what it misses when it is made; ``ocr`` returns a list of pages."""

    made: ClassVar[list[dict]] = []
    handed: ClassVar[list[np.ndarray]] = []
    result: ClassVar[object] = None

    def __init__(self, **settings):
        accepted = "use_angle_cls lang use_gpu show_log ocr_version".split()
        folders = {name: settings.pop(f"{name}_model_dir", None) for name in ("det", "rec", "cls")}
        for folder in folders.values():
            assert folder is not None, "a model would be downloaded"
            for file in FILES["2"]:
                assert (Path(folder) / file).is_file(), "a model would be downloaded"
        assert set(settings) <= set(accepted), settings
        Paddle2.made.append({**settings, **folders})

    def ocr(self, img, det=True, rec=True, cls=True, bin=False, inv=False):
        assert cls is False
        assert isinstance(img, np.ndarray) and img.flags.c_contiguous
        Paddle2.handed.append(img)
        return Paddle2.result


class Paddle3:
    """Version 3: ``predict`` returns a list of mappings."""

    made: ClassVar[list[dict]] = []
    handed: ClassVar[list[np.ndarray]] = []
    result: ClassVar[object] = None

    def __init__(self, **settings):
        for gone in ("use_gpu", "show_log", "use_angle_cls"):
            assert gone not in settings, f"Unknown argument: {gone}"
        for part in ("text_detection", "text_recognition"):
            folder, name = settings[f"{part}_model_dir"], settings[f"{part}_model_name"]
            assert Path(folder).name == name
            for file in FILES["3"]:
                assert (Path(folder) / file).is_file(), "a model would be downloaded"
        for part in ("doc_orientation_classify", "doc_unwarping", "textline_orientation"):
            assert settings[f"use_{part}"] is False, "a model would be downloaded"
        Paddle3.made.append(settings)

    def predict(self, input, **_settings):
        assert isinstance(input, np.ndarray) and input.flags.c_contiguous
        Paddle3.handed.append(input)
        return Paddle3.result


BOX = [[0.0, 0.0], [9.0, 0.0], [9.0, 4.0], [0.0, 4.0]]
FULL = {
    "2": [[[BOX, ("HELLO", 0.98)], [BOX, ("World 1", 0.75)]]],
    "3": [{"rec_texts": ["HELLO", "World 1"], "rec_scores": [0.98, 0.75], "rec_polys": [BOX] * 2}],
}
EMPTY = {
    "2": [[None], [[]], []],
    "3": [[{"rec_texts": [], "rec_scores": [], "rec_polys": []}], []],
}


def install(monkeypatch, major, version=None, paddle_package="paddlepaddle"):
    stand_in = {"2": Paddle2, "3": Paddle3}[major]
    stand_in.made, stand_in.handed, stand_in.result = [], [], FULL[major]
    versions = {"paddleocr": version or VERSION[major], paddle_package: "3.3.1"}
    monkeypatch.setattr(paddle, "installed", versions.get)
    module = types.ModuleType("paddleocr")
    module.PaddleOCR = stand_in
    monkeypatch.setitem(sys.modules, "paddleocr", module)
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    monkeypatch.delenv("PADDLE_PDX_CACHE_HOME", raising=False)
    return stand_in


def write_models(folders, major):
    for folder in folders:
        folder.mkdir(parents=True)
        for file in FILES[major]:
            (folder / file).write_text(f"{folder.name} {file}", "utf-8")


@pytest.fixture(params=["2", "3"])
def major(request):
    return request.param


@pytest.fixture()
def stand_in(monkeypatch, tmp_path, major):
    write_models([tmp_path / name for name in MODELS[major]], major)
    return install(monkeypatch, major)


def test_paddle_reads_lines_in_order(stand_in, tmp_path):
    assert PaddleOcr(models=tmp_path).load()(RED) == ["HELLO", "World 1"]


@pytest.mark.parametrize(("channels", "first"), [("bgr", [0, 0, 200]), ("rgb", [200, 0, 0])])
def test_paddle_is_handed_the_channels_in_the_order_that_is_named(
    stand_in, tmp_path, channels, first
):
    PaddleOcr(models=tmp_path, channels=channels).load()(RED)
    (image,) = stand_in.handed
    assert image.shape == RED.shape and image.dtype == np.uint8
    assert image[0, 0].tolist() == first
    assert not np.shares_memory(image, RED)


def test_orders_of_channels_have_names_of_their_own():
    assert PaddleOcr().name == "paddleocr"
    assert PaddleOcr(channels="rgb").name != "paddleocr"


def test_paddle_without_text_reads_nothing(stand_in, tmp_path, major):
    read = PaddleOcr(models=tmp_path).load()
    for empty in EMPTY[major]:
        stand_in.result = empty
        assert read(RED) == []


def test_paddle_results_of_another_shape_are_an_error_and_not_an_empty_text():
    with pytest.raises((TypeError, ValueError)):
        lines_2([[["HELLO", 0.98]]])
    with pytest.raises(KeyError):
        lines_3([{"texts": ["HELLO"]}])


def test_paddle_2_drops_lines_without_confidence_as_flow_grpo_does():
    assert lines_2([[[BOX, ("YES", 0.1)], [BOX, ("NO", 0.0)]]]) == ["YES"]


def test_paddle_is_set_up_as_the_protocol_says(stand_in, tmp_path, major):
    PaddleOcr(models=tmp_path).load()
    (settings,) = stand_in.made
    detector, recogniser = (str(tmp_path / name) for name in MODELS[major])
    if major == "2":
        assert settings["use_angle_cls"] is False
        assert settings["lang"] == "en"
        assert settings["use_gpu"] is False
        assert (settings["det"], settings["rec"]) == (detector, recogniser)
    else:
        # what version 2.9.1 does by default
        assert settings["text_det_limit_side_len"] == 960
        assert settings["text_det_limit_type"] == "max"
        assert settings["text_det_thresh"] == 0.3
        assert settings["text_det_box_thresh"] == 0.6
        assert settings["text_det_unclip_ratio"] == 1.5
        assert settings["text_rec_score_thresh"] == 0.5


def test_paddle_finds_models_where_it_keeps_them_itself(monkeypatch, tmp_path, major):
    install(monkeypatch, major)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    detector, recogniser = MODELS[major]
    if major == "2":
        whl = tmp_path / ".paddleocr" / "whl"
        folders = [whl / "det" / "en" / detector, whl / "rec" / "en" / recogniser]
    else:
        official = tmp_path / ".paddlex" / "official_models"
        folders = [official / detector, official / recogniser]
    with pytest.raises(EvaluatorError, match="models are not here"):
        PaddleOcr().check()
    write_models(folders, major)
    PaddleOcr().check()
    PaddleOcr().load()


def test_paddle_3_models_may_lie_in_its_own_cache_home(monkeypatch, tmp_path):
    install(monkeypatch, "3")
    monkeypatch.setenv("PADDLE_PDX_CACHE_HOME", str(tmp_path))
    write_models([tmp_path / "official_models" / name for name in MODELS["3"]], "3")
    PaddleOcr().check()


def test_paddle_models_may_lie_in_a_named_folder(monkeypatch, stand_in, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    PaddleOcr().load()
    assert len(stand_in.made) == 1


def test_paddle_without_models_says_what_is_missing_and_what_to_run(stand_in, tmp_path, major):
    gone = tmp_path / MODELS[major][1] / "inference.pdiparams"
    gone.unlink()
    with pytest.raises(EvaluatorError) as caught:
        PaddleOcr(models=tmp_path).check()
    message = str(caught.value)
    assert f"{gone.parent} lacks inference.pdiparams" in message
    assert "python -c 'from paddleocr import PaddleOCR" in message
    assert MODELS_VARIABLE in message
    with pytest.raises(EvaluatorError):
        PaddleOcr(models=tmp_path).load()
    assert not stand_in.made, "made without models, it would download them"


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        (["paddleocr"], "needs paddleocr:"),
        (["paddlepaddle"], "needs paddlepaddle:"),
        (["paddleocr", "paddlepaddle"], "needs paddleocr and paddlepaddle:"),
    ],
)
def test_paddle_that_is_absent_is_named_with_its_extra(monkeypatch, absent, named):
    versions = {"paddleocr": "2.9.1", "paddlepaddle": "2.6.2"}
    monkeypatch.setattr(
        paddle, "installed", lambda name: None if name in absent else versions.get(name)
    )
    with pytest.raises(EvaluatorError, match=named) as caught:
        PaddleOcr().check()
    assert "[paddleocr]'" in str(caught.value)


def test_paddle_built_for_a_gpu_counts_as_paddle(monkeypatch, tmp_path):
    install(monkeypatch, "2", paddle_package="paddlepaddle-gpu")
    write_models([tmp_path / name for name in MODELS["2"]], "2")
    assert PaddleOcr(models=tmp_path).identity()["paddlepaddle"] == "3.3.1"


@pytest.mark.parametrize("version", ["2.6.1", "4.0.0", "1.0"])
def test_a_paddleocr_never_tried_is_refused(monkeypatch, version):
    install(monkeypatch, "2", version)
    with pytest.raises(EvaluatorError, match=f"PaddleOCR {version} is not one"):
        PaddleOcr().check()


def test_paddle_2_is_imported_with_the_name_of_numpy_1_that_imgaug_needs_and_no_longer(
    monkeypatch, tmp_path
):
    install(monkeypatch, "2")
    write_models([tmp_path / name for name in MODELS["2"]], "2")
    seen = []

    class Watched(types.ModuleType):
        def __getattr__(self, name):
            if name == "PaddleOCR":
                seen.append(set(np.sctypes["float"]) >= {np.float32, np.float64})
                return Paddle2
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "paddleocr", Watched("paddleocr"))
    before = hasattr(np, "sctypes")
    PaddleOcr(models=tmp_path).load()
    assert seen == [True]
    assert hasattr(np, "sctypes") == before


@pytest.mark.parametrize("fault", [ImportError("numpy.core"), SystemExit(0)])
def test_a_paddleocr_that_does_not_start_is_one_sentence(stand_in, monkeypatch, tmp_path, fault):
    def refuse(**_settings):
        raise fault

    monkeypatch.setattr(sys.modules["paddleocr"], "PaddleOCR", refuse)
    with pytest.raises(EvaluatorError, match=r"PaddleOCR \S+ does not start here"):
        PaddleOcr(models=tmp_path).load()


def test_paddles_advice_on_building_it_is_not_shown_and_other_warnings_are(
    stand_in, monkeypatch, tmp_path
):
    def start(**settings):
        warnings.warn("No ccache found. Please be aware", stacklevel=1)
        warnings.warn("the models are damaged", stacklevel=1)
        return stand_in(**settings)

    monkeypatch.setattr(sys.modules["paddleocr"], "PaddleOCR", start)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        PaddleOcr(models=tmp_path).load()
    assert [str(warning.message) for warning in shown] == ["the models are damaged"]


def test_the_identity_of_paddle_holds_versions_and_the_models_themselves(stand_in, tmp_path, major):
    engine = PaddleOcr(models=tmp_path)
    before = engine.identity()
    detector, recogniser = MODELS[major]
    assert before["paddleocr"] == VERSION[major]
    assert before["paddlepaddle"] == "3.3.1"
    listing = ""
    for file in FILES[major]:
        content = (tmp_path / detector / file).read_bytes()
        listing += f"{hashlib.sha256(content).hexdigest()}  {file}\n"
    assert before[detector] == hashlib.sha256(listing.encode()).hexdigest()

    (tmp_path / recogniser / "inference.pdiparams").write_text("trained further", "utf-8")
    after = engine.identity()
    assert after[detector] == before[detector]
    assert after[recogniser] != before[recogniser]


def test_paddles_own_download_brings_its_models(monkeypatch, tmp_path, capsys):
    """``soar-bench fetch ocr-paddle`` lets the package download, once, and says what failed."""
    install(monkeypatch, "2")
    folders = [tmp_path / name for name in MODELS["2"]]
    calls = []

    def downloads(command, **_):
        calls.append(command[-1])
        if len(calls) > 1:
            write_models(folders, "2")
        return types.SimpleNamespace(stderr="Traceback\nno route to host\n")

    monkeypatch.setattr(paddle.subprocess, "run", downloads)
    engine = PaddleOcr(models=tmp_path)
    with pytest.raises(EvaluatorError, match=r"did not bring its models \(no route to host\)"):
        engine.bring()
    assert engine.bring().endswith("fetched") and engine.bring() == ""
    assert len(calls) == 2 and all("PaddleOCR(lang" in code for code in calls)
