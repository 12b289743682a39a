"""GenEval with exact counts: all or nothing (strict) and with partial credit (soft).

Both are rewards of the Flow-GRPO family (Liu et al., arXiv 2505.05470; yifan123/reward-server
``reward_server/gen_eval.py``). Unlike the official rule they count every object of a class, not the
best few. docs/metrics/geneval.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluators.geneval.rules import ColorsOf, Detection, all_hold, detected_colors

#: Objects that count, by class, best first.
Objects = Mapping[str, Sequence[Detection]]

#: ``unseen``: not examined, because the clause failed before.
Place = Literal["right", "wrong", "no target", "unseen"]


@dataclass(frozen=True)
class Finding:
    """Counts of one include clause in an image."""

    #: objects that the clause asks for
    count: int
    #: objects that were detected
    detected: int
    #: objects of the right colour, 0 where the count is wrong; None if no colour is asked for
    colored: int | None
    #: None if no position is asked for
    place: Place | None

    @property
    def met(self) -> bool:
        """Whether there are exactly as many as asked for, all of the colour, all in place."""
        colored = self.colored in (None, self.count)
        return self.detected == self.count and colored and self.place in (None, "right")


def examine(
    metadata: Mapping[str, Any], objects: Objects, colors_of: ColorsOf = detected_colors
) -> list[Finding]:
    """Return a finding for each include clause, in order.

    ``colors_of`` is called only where a clause asks for a colour and the count is exact.
    """
    findings: list[Finding] = []
    for clause in metadata.get("include", ()):
        label, count = clause["class"], clause["count"]
        detected = objects.get(label, ())
        exact = len(detected) == count
        colored: int | None = None
        if "color" in clause:
            colored = list(colors_of(detected, label)).count(clause["color"]) if exact else 0
        place: Place | None = None
        if "position" in clause:
            relation, target = clause["position"]
            place = "unseen"
            if exact and colored in (None, count):
                place = "no target"
                if findings[target].met:
                    references = objects[metadata["include"][target]["class"]]
                    place = "right" if all_hold(relation, detected, references) else "wrong"
        findings.append(Finding(count, len(detected), colored, place))
    return findings


def strict(metadata: Mapping[str, Any], objects: Objects, findings: Sequence[Finding]) -> bool:
    """Return whether every clause is met with its exact count and nothing excluded is there."""
    return strict_flow_grpo(findings) and all(
        len(objects.get(clause["class"], ())) < clause["count"]
        for clause in metadata.get("exclude", ())
    )


def strict_flow_grpo(findings: Sequence[Finding]) -> bool:
    """Return :func:`strict` without the exclude clauses.

    On GenEval's own prompts it is the same: they exclude only more of what is included.
    """
    return all(finding.met for finding in findings)


def soft(findings: Sequence[Finding]) -> float:
    """Return the mean of partial credits, at most 1.

    A clause has one credit for the count, and one each for a colour and a position if they are
    asked for. Each object too many costs 1/count, so that the mean can fall below 0.
    """
    credits: list[float] = []
    for finding in findings:
        shares = (finding.detected, finding.colored)
        credits += [_share(finding.count, n) for n in shares if n is not None]
        if finding.place is not None:
            credits.append(float(finding.place == "right"))
    return _mean(credits)


#: Credits of a place where the count is right.
_FLOW_GRPO_PLACE: Mapping[Place | None, Sequence[float]] = {
    "right": (1.0,),
    "wrong": (0.0, 1.0),
    "no target": (0.0,),
}


def soft_flow_grpo(findings: Sequence[Finding]) -> float:
    """Return :func:`soft` as the family's code computes it, with its fault.

    A wrong relation gets a 0 and then the 1 of a right one: two objects in wrong places get 3/4.
    """
    credits: list[float] = []
    for finding in findings:
        credits.append(_share(finding.count, finding.detected))
        if finding.detected != finding.count:
            if finding.colored is not None or finding.place is not None:
                credits.append(0.0)
            continue
        if finding.colored is not None:
            credits.append(_share(finding.count, finding.colored))
        credits += _FLOW_GRPO_PLACE.get(finding.place, ())
    return _mean(credits)


def _share(count: int, detected: int) -> float:
    return 1 - abs(count - detected) / count


def _mean(credits: Sequence[float]) -> float:
    return sum(credits) / len(credits) if credits else 0.0
