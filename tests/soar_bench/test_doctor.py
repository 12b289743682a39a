"""``soar-bench doctor`` says what runs here, and notices what is broken."""

import json
import re
import subprocess

import pytest

from evaluators.golden import cases
from evaluators.types import Evaluator, EvaluatorError
from soar_bench import doctor as examination
from soar_bench.core.packages import install
from soar_bench.doctor import State, examine


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    return tmp_path


def findings(**options):
    return {(f.section, f.name): f for f in examine(golden=False, **options)}


@pytest.fixture
def only(monkeypatch):
    """only(names) leaves just these evaluators for the doctor to look at."""
    return lambda *names: monkeypatch.setattr(examination.registry, "names", lambda: list(names))


def test_it_names_the_machine_and_every_evaluator(home):
    by_name = findings()
    assert by_name["machine", "torch"].state is State.ok
    assert by_name["evaluators", "shapes-geneval"].state is State.ok
    assert str(home) in by_name["machine", "home"].text
    from evaluators import registry

    with_folder = {f"{prefix}FOLDER" for prefix in registry.REFERENCED}
    named = {name for section, name in by_name if section == "evaluators"}
    assert named == set(registry.names()) | with_folder
    assert by_name["evaluators", "cmmd:FOLDER"].text == "soar-bench fetch clip-vit-l-14-336"


def test_absent_weights_are_no_fault_and_it_says_what_to_fetch(home):
    by_name = findings()
    assert by_name["weights", "pickscore"].state is State.absent
    judged = by_name["evaluators", "pickscore"]
    assert judged.state is State.absent
    assert judged.text == "soar-bench fetch pickscore clip-tokenizer"
    assert by_name["weights", "blip-vqa-base"].state is State.absent  # an evaluator's own alone
    assert not [f for f in by_name.values() if f.state is State.broken]


def test_weights_in_part_and_damaged_weights_are_told_apart(home):
    folder = home / "weights" / "clip-vit-l-14"
    folder.mkdir(parents=True)
    (folder / "merges.txt").write_text("damaged")
    assert "in part" in findings()["weights", "clip-vit-l-14"].text
    head = home / "weights" / "aesthetic"
    head.mkdir()
    (head / "sac+logos+ava1-l14-linearMSE.pth").write_bytes(b"damaged")
    finding = findings()["weights", "aesthetic"]
    assert finding.state is State.broken
    assert "soar-bench fetch aesthetic" in finding.text


def test_an_unusable_device_is_broken(home, only):
    only("shapes-clipscore")
    by_name = findings(device="cuda:99")
    assert by_name["machine", "device"].state is State.broken
    assert ("golden", "shapes-clipscore") not in by_name, "a second fault for one cause"


@pytest.mark.parametrize(
    ("installed", "name", "words"),
    [
        ({"mmcv": "2.2.0"}, "mmcv", "below 2.2"),
        ({"opencv-python": "4", "opencv-contrib-python": "5"}, "opencv", "overwrite each other"),
    ],
)
def test_known_conflicts_are_named(home, only, monkeypatch, installed, name, words):
    only()
    monkeypatch.setattr(examination, "installed", installed.get)
    finding = findings()["packages", name]
    assert finding.state is State.broken
    assert words in finding.text


def test_an_extra_is_named_where_its_package_is_absent(home, only, monkeypatch):
    only()
    monkeypatch.setattr(examination, "installed", lambda package: None)
    by_name = findings()
    for package, extra in (
        ("open-clip-torch", "openclip"),
        ("wandb", "wandb"),
        ("torchao", "adamw8bit"),
        ("deepspeed", "deepspeed"),
        ("paddleocr", "paddleocr"),
    ):
        assert by_name["packages", package].state is State.absent
        assert by_name["packages", package].text.endswith(f": {install(extra)}")


@pytest.mark.parametrize(
    ("package", "module"),
    [("open-clip-torch", "open_clip"), ("wandb", "wandb"), ("torchao", "torchao"),
     ("deepspeed", "deepspeed")],
)  # fmt: skip
def test_a_package_that_does_not_import_is_broken(
    home, only, monkeypatch, tmp_path, package, module
):
    only()
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(examination, "installed", {package: "1.0"}.get)
    finding = findings()["packages", package]
    assert finding.state is State.broken
    assert "1.0 does not import (RuntimeError: built for another torch)" in finding.text
    (tmp_path / f"{module}.py").write_text("print('a greeting')")
    finding = findings()["packages", package]
    assert (finding.state, finding.text[:9]) == (State.ok, "1.0; for ")


def test_an_import_of_minutes_on_a_busy_machine_is_no_fault(home, only, monkeypatch):
    def run(command, timeout, **_):
        if timeout < 600:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, 0, "", "")

    only()
    monkeypatch.setattr(examination.subprocess, "run", run)
    monkeypatch.setattr(examination, "installed", {"wandb": "1.0"}.get)
    assert findings()["packages", "wandb"].state is State.ok


def test_opencv_wheels_of_one_version_are_no_conflict(home, only, monkeypatch):
    only()
    installed = {"opencv-python": "4", "opencv-contrib-python": "4"}
    monkeypatch.setattr(examination, "installed", installed.get)
    monkeypatch.setattr(examination, "_import_error", lambda module: "")
    assert ("packages", "opencv") not in findings()


@pytest.mark.parametrize(
    ("installed", "broken", "command"),
    [
        # uninstalling one would empty cv2: all are brought to the older version instead
        ({"opencv-python": "5.0.0", "opencv-contrib-python": "4.10.0.84"}, "",
         "opencv-python==4.10.0.84 opencv-contrib-python==4.10.0.84"),
        ({"opencv-python-headless": "4.10.0.84"}, "module 'cv2' has no attribute 'imread'",
         "opencv-python-headless==4.10.0.84"),
    ],
)  # fmt: skip
def test_opencvs_faults_come_with_a_command_that_mends_them(
    home, only, monkeypatch, installed, broken, command
):
    only()
    monkeypatch.setattr(examination, "installed", installed.get)
    monkeypatch.setattr(examination, "_import_error", lambda module: broken)
    finding = findings()["packages", "opencv"]
    assert finding.state is State.broken and broken in finding.text
    assert finding.text.endswith(f"pip install --force-reinstall --no-deps {command}")
    assert "keep one" not in finding.text


def test_the_named_evaluators_alone_are_looked_at(home):
    names = ("shapes-geneval", "cmmd", "openclip", "pickscore")
    of_names = list(examine(names=names, golden=False))
    weights = {f.name for f in of_names if f.section == "weights"}
    assert weights == {"clip-vit-l-14-336", "pickscore", "clip-tokenizer"}
    judged = [f.name for f in of_names if f.section == "evaluators"]
    assert judged == ["shapes-geneval", "cmmd:FOLDER", "pickscore"]
    with pytest.raises(EvaluatorError, match="did you mean pickscore"):
        list(examine(names=("pickscor",)))


def test_an_own_evaluator_has_no_golden_check_whatever_its_module_is_called(
    home, tmp_path, monkeypatch
):
    (tmp_path / "vqascore.py").write_text("from evaluators.clipscore import ClipScore as Mine\n")
    monkeypatch.chdir(tmp_path)
    of_own = list(examine(names=("vqascore:Mine",)))
    assert [f.state for f in of_own if f.section == "evaluators"] == [State.absent]
    assert not [f for f in of_own if f.section == "golden"]


def golden(name):
    return next(f for f in examine() if f.section == "golden" and f.name == name)


def test_the_golden_check_passes_here(home, only):
    names = ("clipscore", "cmmd:FOLDER", "fidelity-dinov2:FOLDER")
    checks = [f for f in examine(names=names) if f.section == "golden"]
    assert [(f.name, f.state) for f in checks] == [(name, State.ok) for name in names]


def test_a_machine_that_computes_otherwise_is_found(home, only, monkeypatch):
    only("clipscore")
    recorded = cases.expected()
    recorded["clipscore"]["clipscore"][0] += 0.01
    monkeypatch.setattr(cases, "expected", lambda: recorded)
    finding = golden("clipscore")
    assert finding.state is State.broken
    assert "clipscore of stripes.png is" in finding.text


def test_what_lacks_a_package_is_absent(home, only, monkeypatch):
    def absent(_folder):
        class Absent(Evaluator):
            name = "clipscore"
            metrics = ()

            def check(self):
                raise EvaluatorError("install it")

            def score(self, samples):
                return []

        return Absent()

    only("clipscore")
    monkeypatch.setattr(cases, "TINY", {"clipscore": absent})
    assert golden("clipscore").state is State.absent


@pytest.mark.parametrize("error", [EvaluatorError("another model"), RuntimeError("boom")])
def test_what_fails_at_work_is_broken(home, only, monkeypatch, error):
    def fail(*_):
        raise error

    only("clipscore")
    monkeypatch.setattr(cases, "measure", fail)
    finding = golden("clipscore")
    assert finding.state is State.broken
    assert str(error) in finding.text


def test_a_plug_in_whose_check_crashes_stops_nothing_else(home, only, monkeypatch):
    class Broken(Evaluator):
        name = "broken"
        metrics = ()

        def check(self):
            raise RuntimeError("boom")

        def score(self, samples):
            return []

    only("broken", "shapes-geneval")
    create = examination.registry.create
    monkeypatch.setattr(
        examination.registry, "create", lambda name: Broken() if name == "broken" else create(name)
    )
    by_name = findings()
    assert by_name["evaluators", "broken"].state is State.broken
    assert "boom" in by_name["evaluators", "broken"].text
    assert by_name["evaluators", "shapes-geneval"].state is State.ok


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    from soar_bench.cli import main

    monkeypatch.setattr("sys.argv", ["soar-bench", "doctor", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr()
    return int(end.value.code or 0), out.out, out.err


def test_the_command_prints_a_screen_and_ends_well(home, only, monkeypatch, capsys):
    only("shapes-geneval", "pickscore")
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = run(monkeypatch, capsys)
    assert code == 0
    assert len(out.splitlines()) < 50
    assert "golden" in out and "can run here" in out


def test_the_screen_says_which_command_installs_what_is_absent(home, only, monkeypatch, capsys):
    only()
    monkeypatch.setattr(examination, "installed", lambda package: None)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(monkeypatch, capsys, "--no-golden")
    assert code == 0
    assert f"paddleocr, paddlepaddle  {install('paddleocr')}" in out
    assert re.search(f"wandb +{re.escape(install('wandb'))}", out)


def test_the_screen_fits_60_columns_and_breaks_no_command(home, only, monkeypatch, capsys):
    only("geneval", "shapes-geneval")
    monkeypatch.setattr(examination, "installed", lambda package: None)
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = run(monkeypatch, capsys)
    assert code == 0
    lines = out.splitlines()
    words = {word for line in lines for word in line.split()}
    assert f"'{install('paddleocr').rpartition(' ')[2].strip(chr(39))}'" in words, "a whole path"
    assert [line for line in lines if len(line) > 60 and len(line.split()) > 1] == []
    assert not any(line.endswith(" ") for line in lines)
    row = next(i for i, line in enumerate(lines) if line.split()[:2] == ["absent", "geneval"])
    assert lines[row].split()[2:] == ["ok"], "its golden check"
    assert lines[row + 1].startswith("        soar-bench fetch mask2former-swin-s")


def test_a_golden_check_without_an_evaluator_of_its_name_has_a_row(home, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(examination, "_packages", lambda: iter(()))
    monkeypatch.setattr(examination, "_golden", lambda key, device: (State.broken, f"{key} is off"))
    code, out, err = run(monkeypatch, capsys, "openclip,shapes-geneval")
    assert (code, out.count(" is off")) == (1, 2)
    assert re.search(r"(?m)^broken +openclip:MODEL/PRETRAINED +broken +openclip is off$", out)
    assert re.search(r"(?m)^ok +shapes-geneval +broken +can run here; shapes-geneval is off$", out)
    assert "golden openclip:MODEL/PRETRAINED" in err
    _, out, _ = run(monkeypatch, capsys, "openclip")
    assert "openclip is off" in out


def test_models_that_a_package_brings_are_fetched_by_the_evaluators_name(home, monkeypatch):
    from evaluators.ocr import paddle

    monkeypatch.setattr(paddle, "installed", {"paddleocr": "3.7.0", "paddlepaddle": "3.3.1"}.get)
    monkeypatch.setenv(paddle.MODELS_VARIABLE, str(home / "none"))
    finding = list(examine(names=("ocr-paddle",), golden=False))[-1]
    assert (finding.state, finding.text) == (State.absent, "soar-bench fetch ocr-paddle")


def test_the_command_fails_where_something_is_broken(home, only, monkeypatch, capsys):
    only("shapes-geneval")
    monkeypatch.setattr(examination, "installed", {"mmcv": "2.2.0"}.get)
    code, out, err = run(monkeypatch, capsys, "--json", "--no-golden")
    assert code == 1
    assert "broken here: packages mmcv" in err
    assert ("packages", "mmcv", "broken") in {
        (finding["section"], finding["name"], finding["state"]) for finding in json.loads(out)
    }
