"""GenEval held to exact counts: all or nothing (strict) and in parts (soft).

Both come from the Flow-GRPO family (Liu et al., arXiv 2505.05470; yifan123/reward-server
``reward_server/gen_eval.py`` and its copies), whose rewards and logs they are. Unlike the official
rule they look at every object of a class, not at the best few. docs/metrics/geneval.md has the
formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluators.geneval.rules import ColorsOf, Detection, all_hold, detected_colors

#: Objects that count, by class, best first.
Objects = Mapping[str, Sequence[Detection]]

#: ``unseen``: not looked at, because the clause had failed before.
Place = Literal["right", "wrong", "no target", "unseen"]


@dataclass(frozen=True)
class Finding:
    """What an image shows of one include clause."""

    wanted: int
    found: int
    #: How many have the wanted colour, 0 where the count is wrong; None if no colour is asked for.
    colored: int | None
    #: None if no position is asked for
    place: Place | None

    @property
    def met(self) -> bool:
        """Exactly as many as asked for, all of the colour, all in place."""
        return (
            self.found == self.wanted
            and self.colored in (None, self.wanted)
            and self.place in (None, "right")
        )


def examine(
    metadata: Mapping[str, Any], objects: Objects, colors_of: ColorsOf = detected_colors
) -> list[Finding]:
    """What is found for each include clause, in order.

    ``colors_of`` is asked only where a clause wants a colour and the count is exact.
    """
    findings: list[Finding] = []
    for clause in metadata.get("include", ()):
        label, wanted = clause["class"], clause["count"]
        found = objects.get(label, ())
        exact = len(found) == wanted
        colored: int | None = None
        if "color" in clause:
            colored = list(colors_of(found, label)).count(clause["color"]) if exact else 0
        place: Place | None = None
        if "position" in clause:
            relation, target = clause["position"]
            place = "unseen"
            if exact and colored in (None, wanted):
                place = "no target"
                if findings[target].met:
                    references = objects[metadata["include"][target]["class"]]
                    place = "right" if all_hold(relation, found, references) else "wrong"
        findings.append(Finding(wanted, len(found), colored, place))
    return findings


def strict(metadata: Mapping[str, Any], objects: Objects, findings: Sequence[Finding]) -> bool:
    """Every clause met with the exact count, and nothing there that is excluded."""
    return strict_flow_grpo(findings) and all(
        len(objects.get(clause["class"], ())) < clause["count"]
        for clause in metadata.get("exclude", ())
    )


def strict_flow_grpo(findings: Sequence[Finding]) -> bool:
    """:func:`strict` without the exclude clauses. On GenEval's own prompts it is the same: they
    exclude only more of what is included.
    """
    return all(finding.met for finding in findings)


def soft(findings: Sequence[Finding]) -> float:
    """The mean of partial credits: for each clause one for the count, one for a colour and one for
    a position if they are asked for. At most 1; each object too many costs 1/wanted, so that it
    can fall below 0.
    """
    credits: list[float] = []
    for finding in findings:
        credits.append(_share(finding.wanted, finding.found))
        if finding.colored is not None:
            credits.append(_share(finding.wanted, finding.colored))
        if finding.place is not None:
            credits.append(float(finding.place == "right"))
    return _mean(credits)


def soft_flow_grpo(findings: Sequence[Finding]) -> float:
    """:func:`soft` as the family's code has it, with its fault: after the 0 of a wrong relation it
    appends the 1 of a right one, so that two objects in the wrong places get 3/4 and not 2/3.
    """
    credits: list[float] = []
    for finding in findings:
        credits.append(_share(finding.wanted, finding.found))
        if finding.found != finding.wanted:
            if finding.colored is not None or finding.place is not None:
                credits.append(0.0)
            continue
        if finding.colored is not None:
            credits.append(_share(finding.wanted, finding.colored))
        if finding.place == "right":
            credits.append(1.0)
        elif finding.place == "wrong":
            credits += [0.0, 1.0]
        elif finding.place == "no target":
            credits.append(0.0)
    return _mean(credits)


def _share(wanted: int, found: int) -> float:
    return 1 - abs(wanted - found) / wanted


def _mean(credits: Sequence[float]) -> float:
    return sum(credits) / len(credits) if credits else 0.0
