"""D-OPSD on a linear model, against values by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.copies import Copies
from training.objectives.d_opsd import TEACHER, ContextBatch, OpsdObjective, short, student_states
from training.sections import DOpsd

SHAPE = (2, 2, 2)


class Linear(torch.nn.Module):
    """The velocity ``w c z``, with a number c as the context of each row."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def batch(self, *contexts: float) -> SimpleNamespace:
        values = torch.tensor(contexts, dtype=torch.float64)

        def velocity(z, sigma, rows, conditional):
            assert conditional
            return self.w * values[rows][:, None, None, None] * z

        return SimpleNamespace(velocity=velocity)


def ones(count: int) -> torch.Tensor:
    return torch.ones(count, *SHAPE, dtype=torch.float64)


@pytest.fixture()
def objective():
    """Two steps of a student with w = 0.4, whose teacher has w = 0.5."""
    model = Linear(0.5)
    copies = Copies(model, [model.w])
    copies.keep(TEACHER)
    model.w.data.fill_(0.4)
    settings = DOpsd(steps=2, teacher_decay=0.9)
    return model, OpsdObjective(settings, copies, (1.0, 0.5, 0.0), lambda step: [])


def test_the_students_context_is_the_captions_first_words():
    caption = "a red  circle\nover a square"
    assert [short(caption, words) for words in (1, 3, 99)] == [
        "a", "a red circle", "a red circle over a square",
    ]  # fmt: skip


def test_states_are_eulers_and_the_last_step_is_not_taken():
    states = student_states(Linear(2.0).batch(1.0, 0.5).velocity, ones(2), (1.0, 0.75, 0.25, 0.0))
    # z <- z (1 + (sigma' - sigma) w c): factors 1 - 0.25 w c and 1 - 0.5 w c
    expected = [[1.0, 1.0], [0.5, 0.75], [0.0, 0.375]]
    assert [state[:, 0, 0, 0].tolist() for state in states] == expected
    assert not any(state.requires_grad for state in states)


def test_loss_and_gradient_at_the_students_own_states(objective):
    """States are 1 and 0.8; there student and teacher differ by z (0.4 - 0.5 c), c = 3 and 2."""
    model, opsd = objective
    batch = ContextBatch(ones(2), model.batch(1.0, 1.0), model.batch(3.0, 2.0))
    losses = []
    for part in opsd.run(batch):
        part.loss.backward()
        losses.append(part.loss.item())
    squares = 1.1**2 + 0.6**2
    assert losses == pytest.approx([squares, 0.64 * squares])
    # Neither teacher nor states have a gradient: d/dw is 2 (v - v_T) z.
    assert model.w.grad.item() == pytest.approx(-2 * (1.1 + 0.6) * (1 + 0.64))
    counts = opsd.counts([batch])
    assert counts == [4.0] == [opsd.divisor(counts)]
    figures = opsd.figures({"distance": sum(losses)}, counts)
    assert figures == {"loss": pytest.approx(squares * 1.64 / 4)}
    assert model.w.item() == 0.4  # the teacher's weights were there for its passes alone


def test_the_teacher_follows_the_student(objective):
    model, opsd = objective
    opsd.stepped(1)
    with opsd.copies.as_weights(TEACHER):
        assert model.w.item() == pytest.approx(0.9 * 0.5 + 0.1 * 0.4)


def test_nothing_is_to_be_learnt_where_the_contexts_agree(objective):
    model, opsd = objective
    model.w.data.fill_(0.5)
    batch = ContextBatch(ones(2), model.batch(1.0, 2.0), model.batch(1.0, 2.0))
    assert [part.loss.item() for part in opsd.run(batch)] == [0.0, 0.0]
