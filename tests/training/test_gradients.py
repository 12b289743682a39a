"""The gradient of a step: what the model is handed, and that it is one in several processes."""

from __future__ import annotations

from pathlib import Path

import torch
from forks import launch

from training.draws import Random
from training.gradients import add_gradients
from training.objectives.flow import shift_sigma
from training.objectives.soar import Draws, SoarObjective, count_points, draw_paths
from training.parallel import Parallel
from training.step import Batch
from training.types import Soar


def soar_gradients(parallel, model, batches, shift, settings, counts, reuse=True):
    objective = SoarObjective(settings, shift, draw_batches=None, reuse=reuse)
    return add_gradients(parallel, model, objective, batches, counts)


class Recorder(torch.nn.Module):
    """A transformer that keeps what it was handed, with dropout if asked."""

    def __init__(self, dropout=0.0, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.mix = torch.nn.Linear(16 + 1 + 3 + 2, 16).to(dtype)
        self.dropout = torch.nn.Dropout(dropout)
        self.seen = []

    def forward(
        self, hidden_states, timestep, encoder_hidden_states, pooled_projections, return_dict
    ):
        self.seen.append((hidden_states, timestep, encoder_hidden_states, self.training))
        inputs = torch.cat(
            [
                hidden_states.flatten(1),
                timestep[:, None] / 1000,
                encoder_hidden_states.mean(1),
                pooled_projections,
            ],
            dim=1,
        )
        return (self.dropout(self.mix(inputs)).view_as(hidden_states),)


def a_batch(model, count=8, settings=None, dtype=torch.float32):
    """Samples with captions of their own; the first ends at sigma = 0."""
    generator = torch.Generator().manual_seed(1)
    z0, z1 = torch.randn(2, count, 1, 4, 4, generator=generator)
    t0 = torch.linspace(0.02, 0.95, count)
    paths = draw_paths(z1, settings or Soar(), Random(1, 0, range(count)))
    captions = [torch.randn(count, 2, 3, generator=generator)]
    captions += [torch.randn(count, 2, generator=generator)]
    draws = Draws(*(part.to(dtype) for part in (z1, t0, *paths)))
    captions = [e.to(dtype) for e in captions]
    return Batch(model, z0.to(dtype), draws, captions, [torch.zeros_like(e[0]) for e in captions],
                 1000)  # fmt: skip


def part_of(batch, model, part):
    return Batch(
        model,
        batch.z0[part],
        batch.draws.samples(part),
        [e[part] for e in batch._conditional],
        batch._empty,
        1000,
    )


def test_the_timestep_handed_to_the_model_is_that_of_the_level_used():
    """Data 0 and noise 1 everywhere: an ideal state's value is its level."""
    model = Recorder()
    batch = a_batch(model)
    draws = Draws(torch.ones_like(batch.z0), batch.draws.t0, batch.draws.fractions,
                  batch.draws.path_noise)  # fmt: skip
    batch = Batch(model, torch.zeros_like(batch.z0), draws, batch._conditional, batch._empty, 1000)
    counts = count_points(draws.t0, Soar(guidance=1))
    # v = 1 exactly: the rollout stays on the line.
    torch.nn.init.zeros_(model.mix.weight)
    torch.nn.init.ones_(model.mix.bias)
    with torch.autocast("cpu", torch.bfloat16):
        soar_gradients(Parallel("fp32"), model, [batch], 3.0, Soar(guidance=1), counts)
    assert len(model.seen) == 2
    for latents, timestep, *_ in model.seen:
        assert latents.dtype == timestep.dtype == torch.float32
        torch.testing.assert_close(latents[:, 0, 0, 0] * 1000, timestep, rtol=1e-5, atol=1e-3)
    assert torch.equal(model.seen[0][1], shift_sigma(draws.t0, 3.0) * 1000)


def test_with_dropout_the_rollout_is_the_samplers_and_reuses_nothing():
    from training.step import draws_in_training

    settings = Soar(points=1)
    for dropout, passes in ((0.0, 3), (0.5, 4)):
        model = Recorder(dropout)
        assert draws_in_training(model) == (dropout > 0)
        batch = a_batch(model, settings=settings)
        counts = count_points(batch.draws.t0, settings)
        reuse = not draws_in_training(model)
        soar_gradients(Parallel("fp32"), model, [batch], 3.0, settings, counts, reuse)
        assert len(model.seen) == passes
        trained = [training for *_, training in model.seen]
        assert trained == ([True, True, True] if not dropout else [True, False, False, True])
        assert model.training


def test_where_a_caption_was_dropped_guidance_has_nothing_to_push():
    """Both halves are then the prediction without caption, so reuse is exact there too."""
    model, settings = Recorder(), Soar(points=1, guidance=4.5)
    batch = a_batch(model, settings=settings)
    empty = [torch.zeros_like(e) for e in batch._conditional]
    dropped = Batch(model, batch.z0, batch.draws, empty, batch._empty, 1000)
    counts = count_points(batch.draws.t0, settings)
    soar_gradients(Parallel("fp32"), model, [dropped], 3.0, settings, counts)
    guided_states = model.seen[-1][0]
    model.seen.clear()
    plain = settings.model_copy(update={"guidance": 1.0})
    soar_gradients(Parallel("fp32"), model, [dropped], 3.0, plain, counts)
    torch.testing.assert_close(guided_states, model.seen[-1][0], rtol=1e-5, atol=1e-6)


TWO = Soar(points=3, paths=2, aux_chunk=4, weight=0.7)


def gradients_of_a_process():
    """Run in each of two processes: its half of the batch, in two micro-batches.

    The gradients, and how often the processes exchanged any.
    """
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    parallel = Parallel("fp32")
    model = Recorder(dtype=torch.float64)
    model, _ = parallel.prepare(model, torch.optim.SGD(model.parameters()), clip_norm=1.0)
    exchanged = []

    def note(group, bucket):
        exchanged.append(bucket.index())
        return allreduce_hook(group, bucket)

    model.register_comm_hook(None, note)
    whole = a_batch(model, settings=TWO, dtype=torch.float64)
    rank = parallel.rank
    halves = [slice(4 * rank + i, 4 * rank + i + 2) for i in (0, 2)]
    batches = [part_of(whole, model, part) for part in halves]
    counts = count_points(whole.draws.t0, TWO)
    soar_gradients(parallel, model, batches, 3.0, TWO, counts)
    return [p.grad for p in model.parameters()], len(exchanged)


def test_two_processes_have_the_gradient_of_one_in_float64(tmp_path):
    """The processes have unequal numbers of points: one sample ends at sigma = 0."""
    files = [tmp_path / f"{rank}.pt" for rank in (0, 1)]
    code = (
        "import os, sys, torch; sys.path[:0] = [sys.argv[1]];"
        "import test_gradients; place = f'{sys.argv[2]}/' + os.environ['RANK'] + '.pt';"
        "torch.save(test_gradients.gradients_of_a_process(), place)"
    )
    launch(["-c", code, str(Path(__file__).parent), str(tmp_path)])

    model = Recorder(dtype=torch.float64)
    whole = a_batch(model, settings=TWO, dtype=torch.float64)
    counts = count_points(whole.draws.t0, TWO)
    assert counts == (8, 3 * (8 + 7))
    plain = TWO.model_copy(update={"aux_chunk": 0})
    soar_gradients(Parallel("fp32"), model, [whole], 3.0, plain, counts)
    for file in files:
        gradients, exchanges = torch.load(file, weights_only=True)
        assert exchanges == 1, "of the one bucket that so small a model has"
        for got, expected in zip(gradients, model.parameters(), strict=True):
            torch.testing.assert_close(got, expected.grad, rtol=1e-12, atol=1e-14)


def test_a_process_alone_sums_without_its_device(monkeypatch):
    """On mps there is no float64 to sum in."""
    monkeypatch.setattr(Parallel, "device", torch.device("meta"))
    assert Parallel("fp32").sum(3, True) == [3.0, 1.0]
