"""D-OPSD: self-distillation on the student's own states (arXiv 2605.05204).

The student walks from noise in few steps under a short context; the teacher, a moving average of
the student, sees the same states in a richer one; the student learns the teacher's velocity there.
The paper's teacher sees features of the prompt and its target picture, made by the VLM that is the
model's own text encoder. SD3 has none: here the richer context is the whole caption, and the
student's is its first words. docs/rewards.md says what else differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.copies import Copies
from training.objectives.flow import Velocity, ode_step
from training.objectives.objective import Pass, Stateless
from training.sections import DOpsd
from training.step import Batch

TEACHER = "teacher"


def short(caption: str, words: int) -> str:
    """Return the first words of a caption."""
    return " ".join(caption.split()[:words])


@torch.no_grad()
def student_states(velocity: Velocity, z1: Tensor, levels: Sequence[float]) -> list[Tensor]:
    """Return the states [B, C, H, W] at which the student stands before each step from noise."""
    states, rows = [z1], torch.arange(len(z1), device=z1.device)
    for sigma, sigma_next in pairwise(levels[:-1]):
        z, start, end = states[-1], *(z1.new_full((len(z1),), x) for x in (sigma, sigma_next))
        states.append(ode_step(z, velocity(z, start, rows, True).to(z), start, end))
    return states


@dataclass(frozen=True)
class ContextBatch:
    """A micro-batch in both contexts."""

    z1: Tensor
    student: Batch
    teacher: Batch


@dataclass
class OpsdObjective(Stateless):
    """D-OPSD."""

    settings: DOpsd
    copies: Copies
    #: of the sampler, from 1 down to 0: steps + 1 of them
    levels: Sequence[float]
    draw_batches: Callable[[int], list[ContextBatch]]

    def batches(self, step: int) -> list[ContextBatch]:
        return self.draw_batches(step)

    def counts(self, batches: Sequence[ContextBatch]) -> list[float]:
        """Return the number of states."""
        return [float(sum(len(batch.z1) for batch in batches) * self.settings.steps)]

    def divisor(self, counts: Sequence[float]) -> float:
        return counts[0]

    def passes(self, batch: ContextBatch) -> int:
        return self.settings.steps

    def run(self, batch: ContextBatch) -> Iterator[Pass]:
        rows = torch.arange(len(batch.z1), device=batch.z1.device)
        states = student_states(batch.student.velocity, batch.z1, self.levels)
        levels = [batch.z1.new_full((len(batch.z1),), x) for x in self.levels[:-1]]
        seen = list(zip(states, levels, strict=True))
        with self.copies.as_weights(TEACHER), torch.no_grad():
            targets = [batch.teacher.velocity(z, x, rows, True).to(z) for z, x in seen]
        for (z, sigma), target in zip(seen, targets, strict=True):
            v = batch.student.velocity(z, sigma, rows, True).to(z)
            distance = (v - target).square().mean(dim=(1, 2, 3)).sum()
            yield Pass(distance, {"distance": distance})

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        return {"loss": sums["distance"] / counts[0]}

    def stepped(self, done: int) -> None:
        """Move the teacher towards the student."""
        self.copies.follow(TEACHER, self.settings.teacher_decay)
