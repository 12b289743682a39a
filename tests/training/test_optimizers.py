"""AdamW in 32 and 8 bits, against the published formulas, PyTorch's own, and itself resumed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from forks import launch

from training import optimizers
from training.optimizers import check_optimizer, make_optimizer, set_learning_rate
from training.types import Optimizer, TrainingError

CPU = torch.device("cpu")
KINDS = ("adamw", "adamw8bit")
STEPS = 10


def need(kind):
    if kind == "adamw8bit":
        pytest.importorskip("torchao")


def network():
    """Two layers: their matrices have 8192 values, their biases 128 and 64."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 64))


def samples(count=256):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 64, generator=generator)
    return inputs, torch.sin(inputs @ torch.randn(64, 64, generator=generator) / 8)


def advance(model, optimizer, first, last, part=slice(None)):
    """Steps of a regression with a learning rate that falls; returns the last loss."""
    inputs, targets = (tensor[part] for tensor in samples())
    for step in range(first, last):
        set_learning_rate(optimizer, 1e-3 * (1 - step / 100))
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def trained(kind, steps, device=CPU):
    model = network()
    optimizer = make_optimizer(model.parameters(), Optimizer(kind=kind), device)
    return model, optimizer, advance(model, optimizer, 0, steps)


def test_adamw_is_pytorchs_own_with_the_runs_settings():
    settings = Optimizer(lr=3e-4, beta1=0.8, beta2=0.95, epsilon=1e-6, weight_decay=0.1)
    ours, theirs = network(), network()
    optimizer = make_optimizer(ours.parameters(), settings, CPU)
    advance(ours, optimizer, 0, STEPS)
    official = torch.optim.AdamW(
        theirs.parameters(), lr=3e-4, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1
    )
    advance(theirs, official, 0, STEPS)
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, their)


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_follow_the_published_formula(kind):
    """Loshchilov and Hutter, arXiv 1711.05101, in float64 by hand, with two learning rates."""
    need(kind)
    settings = Optimizer(kind=kind, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.25)
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer([weight], settings, CPU)
    value, first, second = 2.0, 0.0, 0.0
    for step, (rate, gradient) in enumerate([(0.5, 3.0), (0.125, -1.0)], start=1):
        set_learning_rate(optimizer, rate)
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        value -= rate * 0.25 * value
        mean, spread = first / (1 - 0.8**step), second / (1 - 0.9**step)
        value -= rate * mean / (math.sqrt(spread) + 1e-3)
        assert weight.item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_learning_rate_of_zero_moves_nothing(kind):
    need(kind)
    model = network()
    optimizer = make_optimizer(model.parameters(), Optimizer(kind=kind), CPU)
    set_learning_rate(optimizer, 0.0)
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    for weight, before in zip(model.parameters(), network().parameters(), strict=True):
        assert torch.equal(weight, before)


def test_8_bits_without_their_package_are_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(optimizers, "find_spec", lambda _: None)
    check_optimizer(Optimizer())
    settings = Optimizer(kind="adamw8bit")
    with pytest.raises(TrainingError, match=r"pip install .*\[adamw8bit\]'"):
        check_optimizer(settings)
    with pytest.raises(TrainingError, match="torchao"):
        make_optimizer(network().parameters(), settings, CPU)


def test_8_bits_train_as_32_to_a_tenth_of_the_way():
    """After 50 steps the weights of a layer differ by less than a tenth of how far they came."""
    need("adamw8bit")
    start, (exact, _, loss), (near, _, near_loss) = (
        network(),
        trained("adamw", 50),
        trained("adamw8bit", 50),
    )
    for name, before in start.state_dict().items():
        way = (exact.state_dict()[name] - before).norm()
        apart = (near.state_dict()[name] - exact.state_dict()[name]).norm()
        assert apart < 0.1 * way, name
    assert near_loss == pytest.approx(loss, rel=0.02)


def size(state):
    """Bytes of an optimizer's state; a quantised tensor is several plain ones."""
    total = 0
    for tensors in state.values():
        for tensor in tensors.values():
            inner = getattr(tensor, "tensor_attrs", None)
            plain = [getattr(tensor, name) for name in inner] if inner else [tensor]
            total += sum(parameter.numel() * parameter.element_size() for parameter in plain)
    return total


def test_8_bits_take_a_quarter_of_the_memory():
    need("adamw8bit")
    matrices, biases, steps = 2 * 8192, 128 + 64, 4 * 4
    _, plain, _ = trained("adamw", 1)
    assert size(plain.state) == 8 * (matrices + biases) + steps
    # A byte a value, a float for each 256 of them, and a table of 256 floats a moment.
    _, small, _ = trained("adamw8bit", 1)
    moments = 2 * (matrices + matrices // 256 * 4 + 2 * 1024)
    assert size(small.state) == moments + 8 * biases + steps
    n = 10**9
    assert (2 * (n + n // 64)) / (8 * n) == pytest.approx(0.254, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_is_bit_identical(kind, tmp_path):
    need(kind)
    whole, _, _ = trained(kind, STEPS)
    model, optimizer, _ = trained(kind, 5)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")

    weights, moments = torch.load(tmp_path / "state.pt", weights_only=True)
    again = network()
    again.load_state_dict(weights)
    optimizer = make_optimizer(again.parameters(), Optimizer(kind=kind), CPU)
    optimizer.load_state_dict(moments)
    advance(again, optimizer, 5, STEPS)
    for parameter, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter, other)


def divided():
    """The network divided among the processes by FSDP2, and its optimizer."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = network(), init_device_mesh("cpu", (2,))
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh)
    return model, make_optimizer(model.parameters(), Optimizer(kind="adamw8bit"), CPU)


def train_a_process(folder):
    """Run in each of two processes: 10 steps, and 5 and 5 through a file of plain tensors."""
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor

    from training.state import Trained

    dist.init_process_group("gloo")
    part = slice(dist.get_rank(), None, 2)
    model, optimizer = divided()
    advance(model, optimizer, 0, STEPS, part)
    kinds = {type(s["exp_avg"].to_local()).__name__ for s in optimizer.state.values()}
    assert kinds == {"OptimState8bit", "Tensor"}, kinds

    stopped, optimizer = divided()
    advance(stopped, optimizer, 0, 5, part)
    file = folder / f"state-{dist.get_rank()}.pt"
    torch.save(Trained(stopped, optimizer).state(), file)
    state = torch.load(file, weights_only=True)
    assert not any(isinstance(s["exp_avg"], DTensor) for s in state["optimizer"]["state"].values())

    again, optimizer = divided()
    Trained(again, optimizer).load(state)
    advance(again, optimizer, 5, STEPS, part)
    for parameter, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter.to_local(), other.to_local())
    full = {name: tensor.full_tensor() for name, tensor in model.state_dict().items()}
    torch.save(full, folder / f"weights-{dist.get_rank()}.pt")
    dist.destroy_process_group()


def test_8_bits_go_on_bit_identical_where_weights_are_divided_among_processes(tmp_path):
    """And as one process would but for rounding: blocks of 256 values are the same blocks."""
    need("adamw8bit")
    code = (
        "import sys, pathlib; sys.path[:0] = [sys.argv[1]]; import test_optimizers;"
        "test_optimizers.train_a_process(pathlib.Path(sys.argv[2]))"
    )
    launch(["-c", code, str(Path(__file__).parent), str(tmp_path)])
    start, (alone, _, _) = network(), trained("adamw8bit", STEPS)
    for rank in (0, 1):
        together = torch.load(tmp_path / f"weights-{rank}.pt", weights_only=True)
        for name, weight in alone.state_dict().items():
            way = (weight - start.state_dict()[name]).norm()
            assert (together[name] - weight).norm() < 0.02 * way, name


@pytest.mark.slow
def test_compiled_as_on_a_gpu_the_step_is_the_same_and_compiled_once():
    """Needs a C++ compiler. A learning rate that changes compiles nothing anew."""
    need("adamw8bit")
    from torch._dynamo.utils import counters

    before = counters["stats"]["unique_graphs"]
    compiled, _, _ = trained("adamw8bit", 1, torch.device("cuda"))
    graphs = counters["stats"]["unique_graphs"]
    shapes = len(list(compiled.parameters()))
    assert graphs - before == shapes
    compiled, _, _ = trained("adamw8bit", STEPS, torch.device("cuda"))
    assert counters["stats"]["unique_graphs"] == graphs
    plain, _, _ = trained("adamw8bit", STEPS)
    for parameter, other, start in zip(
        compiled.parameters(), plain.parameters(), network().parameters(), strict=True
    ):
        assert (parameter - other).norm() < 0.01 * (other - start).norm()
