"""Compiled blocks: the training is the one without them, to rounding, however many processes share
it, and goes on after a stop with its own bits.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from processes import FSDP2, train_all
from test_processes import metrics, settings, weights

from training.loop import compile_blocks


class Block(torch.nn.Module):
    def forward(self, hidden):
        return hidden * 2


@pytest.mark.parametrize("deterministic", [False, True])
def test_code_depends_on_sizes_met_before_unless_it_is_to_be_deterministic(
    deterministic, monkeypatch
):
    """Each graph as it is compiled, by the size of its input: a symbol stands for any."""
    compiled, compile_module = [], torch.nn.Module.compile

    def note(graph, inputs):
        *symbols, tensor = inputs
        compiled.append("any" if symbols else tensor.shape[0])
        return graph.forward

    def with_backend(module, options=None, **others):
        assert options == ({"deterministic": True} if deterministic else None)
        compile_module(module, backend=note, **others)

    monkeypatch.setattr(torch.nn.Module, "compile", with_backend)
    with torch._dynamo.config.patch(recompile_limit=1):
        torch._dynamo.reset()
        blocks = [Block(), Block()]
        compile_blocks(SimpleNamespace(transformer_blocks=blocks), deterministic)
        for size in (3, 2, 5, 3, 2):
            for block in blocks:
                block(torch.zeros(size, 4, 2))
    torch._dynamo.reset()
    assert compiled == ([3, 2, 5] if deterministic else [3, "any"])


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
def test_two_compiled_processes_train_as_two_do_and_go_on_after_a_stop(
    environment, tiny_config, tmp_path
):
    """Minutes of compiling, in which the second start finds much of the first one's."""
    changes = {
        "steps": 4,
        "save_every": 4,
        "batch_size": 2,
        "ema_decay": 0.0,
        "soar": {"points": 2, "guidance": 2.0},
    }
    plain = settings(tiny_config, tmp_path, "plain", **changes)
    compiled = {**plain, "compile": True, "output": str(tmp_path / "compiled")}
    parts = {**compiled, "output": str(tmp_path / "parts")}
    train_all([{"settings": plain}, {"settings": compiled}], **environment)
    train_all([{"settings": parts, "stop": 2}], **environment)  # both compile for themselves
    train_all([{"settings": parts}], **environment)
    for a, b in zip(metrics(tmp_path / "plain"), metrics(tmp_path / "compiled"), strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    without, expected, found = (
        weights(tmp_path / name, 4) for name in ("plain", "compiled", "parts")
    )
    assert any(not torch.equal(without[name], expected[name]) for name in expected), "compiled"
    for name in expected:
        torch.testing.assert_close(expected[name], without[name], rtol=1e-4, atol=2e-6)
        assert torch.equal(expected[name], found[name])
    assert metrics(tmp_path / "compiled") == metrics(tmp_path / "parts")
