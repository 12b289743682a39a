"""Resume states: one that is not as it was written is refused, in whichever process it is seen."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass

import pytest
import torch

from training.state import Trained, load_state, save_state, states
from training.types import TrainingError


@dataclass
class Processes:
    """One process of several, of which the others report ``others`` in every sum."""

    rank: int = 0
    count: int = 1
    division: str = ""
    others: float = 0

    @property
    def main(self):
        return self.rank == 0

    @property
    def sharded(self):
        return bool(self.division)

    def wait(self):
        pass

    def sum(self, *numbers):
        # Of steps, all processes report the same; of faults, the others theirs.
        return [n * self.count if n > 1 else n + self.others for n in numbers]


def trained(seed=0, width=3):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        model(torch.randn(5, width)).square().sum().backward()
        optimizer.step()
    return Trained(model, optimizer)


@pytest.fixture()
def saved(tmp_path):
    """A state after seven steps, and the weights in it."""
    before = trained()
    save_state(tmp_path / "run", 7, before, Processes(), "run a")
    return tmp_path / "run", {n: p.detach().clone() for n, p in before.parameters().items()}


def load(output, run="run a", processes=None, width=3):
    notes = []
    into = trained(seed=1, width=width)
    step = load_state(output, into, processes or Processes(), run, notes.append)
    return step, into, notes


def refused(output, words, **how):
    with pytest.raises(TrainingError, match=words) as error:
        load(output, **how)
    text = str(error.value)
    assert "\n" not in text and len(text) < 250 + 2 * len(str(output))
    return text


def test_a_state_that_is_as_it_was_written_is_restored(saved):
    output, weights = saved
    step, into, notes = load(output)
    assert (step, notes) == (7, [])
    assert all(p.equal(weights[name]) for name, p in into.parameters().items())


def test_a_digest_can_be_checked_with_sha256sum(saved):
    import hashlib

    (folder,) = states(saved[0]).values()
    assert sorted(f.name for f in folder.iterdir()) == ["process-0.pt", "process-0.pt.sha256"]
    sha256 = hashlib.sha256((folder / "process-0.pt").read_bytes()).hexdigest()
    assert (folder / "process-0.pt.sha256").read_text() == f"{sha256}  process-0.pt\n"


def test_a_state_of_which_any_byte_was_changed_is_refused(saved):
    """Random bytes changed, cut out, put in and cut off, in either file: 300 of them."""
    output, _ = saved
    folder = states(output)[7]
    chance = random.Random(0)
    originals = {file: file.read_bytes() for file in folder.iterdir()}
    for number in range(300):
        file = sorted(originals)[number % 6 == 0]
        content = bytearray(originals[file])
        place = chance.randrange(len(content))
        match number % 5:
            case 0 | 1:
                content[place] ^= 1 << chance.randrange(8)
            case 2:
                del content[place : place + chance.randint(1, 50)]
            case 3:
                content[place:place] = chance.randbytes(chance.randint(1, 50))
            case 4:
                del content[place:]
        file.write_bytes(content)
        refused(output, r"process-0\.pt cannot be read \(it was damaged or changed .*: delete ")
        file.write_bytes(originals[file])
    assert load(output)[0] == 7


def test_a_state_without_its_digest_is_refused(saved):
    (states(saved[0])[7] / "process-0.pt.sha256").unlink()
    refused(saved[0], r"its digest, process-0\.pt\.sha256, is missing")


@pytest.mark.parametrize("left", [[], ["process-0.pt.sha256"]])
def test_a_state_without_its_file_is_refused(saved, left):
    for file in states(saved[0])[7].iterdir():
        if file.name not in left:
            file.unlink()
    refused(saved[0], r"cannot be read \(.*No such file")


def test_a_state_of_another_step_or_run_is_refused(saved):
    output, _ = saved
    refused(output, "it is another run's", run="run b")
    shutil.copytree(states(output)[7], output / "state-000009")
    refused(output, "it is that of step 7")


def older(output, state=None):
    """The state as versions before the digest wrote it."""
    file = states(output)[7] / "process-0.pt"
    content = torch.load(file, weights_only=True)
    del content["run"]
    torch.save(content if state is None else state(content), file)
    file.with_name("process-0.pt.sha256").unlink(missing_ok=True)
    return file


def test_a_state_of_an_older_version_is_gone_on_from_with_a_word(saved):
    output, weights = saved
    older(output)
    step, into, (note,) = load(output)
    assert step == 7
    assert "older soar-bench, without a digest: going on from it" in note
    assert all(p.equal(weights[name]) for name, p in into.parameters().items())


WRONG = [
    lambda s: None,
    lambda s: [],
    lambda s: {"step": 7, "division": ""},
    lambda s: s | {"step": "7"},
    lambda s: s | {"step": torch.ones(2)},
    lambda s: s | {"weights": None},
    lambda s: s | {"weights": [*s["weights"].values()]},
    lambda s: s | {"weights": {n: t[:1] for n, t in s["weights"].items()}},
    lambda s: s | {"weights": dict.fromkeys(s["weights"], 1.0)},
    lambda s: s | {"weights": dict(list(s["weights"].items())[1:])},
    lambda s: s | {"weights": s["weights"] | {"more": torch.ones(1)}},
    lambda s: s | {"optimizer": 3},
    lambda s: s | {"optimizer": {}},
    lambda s: s | {"optimizer": s["optimizer"] | {"param_groups": []}},
    lambda s: s | {"optimizer": s["optimizer"] | {"state": {9: {"step": torch.ones(())}}}},
]


@pytest.mark.parametrize("state", WRONG)
def test_an_older_state_that_fits_nothing_is_refused(saved, state):
    older(saved[0], state)
    refused(saved[0], r"process-0\.pt cannot be read \(")


def test_a_damaged_older_state_is_refused_or_read_never_a_traceback(saved):
    file = older(saved[0])
    whole, chance, read = file.read_bytes(), random.Random(1), 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 1, 1, 20])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        file.write_bytes(content)
        try:
            read += load(saved[0])[0] == 7
        except TrainingError as error:
            assert "\n" not in str(error)
    assert read < 150


def test_in_several_processes_all_refuse_what_one_cannot_read(tmp_path):
    """Each has its own part, with a digest of its own."""
    halves = [Processes(rank, 2, "FSDP2 in 2") for rank in (1, 0)]
    for half in halves:  # the main one last: it puts the parts in place
        if half.rank:
            (tmp_path / ".state-000007").mkdir()
        save_part(tmp_path, half)
    for half in halves:
        assert load(tmp_path, processes=half)[0] == 7
    file = states(tmp_path)[7] / "process-1.pt"
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)
    refused(tmp_path, r"process-1\.pt cannot be read", processes=halves[0])
    main = Processes(0, 2, "FSDP2 in 2", others=1)
    refused(tmp_path, "another process cannot read its part of", processes=main)
    shutil.copy(file.with_name("process-0.pt"), file)
    refused(tmp_path, r"process-1\.pt cannot be read", processes=halves[0])


def save_part(output, half):
    kept = {f.name: f.read_bytes() for f in (output / ".state-000007").iterdir()}
    calls = iter([lambda: restore(output, kept)])
    half.wait = lambda: next(calls, lambda: None)()
    save_state(output, 7, trained(), half, "run a")
    del half.wait


def restore(output, kept):
    for name, content in kept.items():
        (output / ".state-000007" / name).write_bytes(content)


def test_too_little_memory_is_not_taken_for_damage(saved, monkeypatch):
    def load_too_much(self, state):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trained, "load", load_too_much)
    with pytest.raises(torch.OutOfMemoryError):
        load(saved[0])
