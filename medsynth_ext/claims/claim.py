"""A claim: a sentence, the arms that it compares, and the numbers that decide whether it holds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Claim", "Condition", "Outcome", "Results"]

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Results:
    """The figures of every finished arm: ``figures[arm][seed]`` is what :meth:`Study.run` returned."""

    figures: Mapping[str, Mapping[int, Mapping[str, Any]]]

    def per_seed(self, function: Callable[..., float], *arms: str) -> list[float]:
        """``function(figures of arm 1, figures of arm 2, ...)`` for every seed, in the order of the seeds."""
        seeds = [seed for seed in self.figures[arms[0]] if all(seed in self.figures[arm] for arm in arms)]
        return [float(function(*(self.figures[arm][seed] for arm in arms))) for seed in seeds]


@dataclass(frozen=True)
class Condition:
    """One comparison of a measured number with a limit; it holds when the mean over the seeds does.

    Args:
        what: the number in words, with its unit.
        values: one number per seed.
        relation: ``<=``, ``>=``, ``<`` or ``>``.
        limit: what the mean is compared with.

    Raises:
        ValueError: for another relation, or without a value.
    """

    what: str
    values: tuple[float, ...]
    relation: str
    limit: float

    def __post_init__(self) -> None:
        if self.relation not in _RELATIONS:
            raise ValueError(f"relation must be one of {', '.join(_RELATIONS)}, got {self.relation!r}")
        if not self.values:
            raise ValueError(f"{self.what}: a condition needs at least one value, got none")

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.values) / len(self.values)

    @property
    def held(self) -> bool:
        """Whether the mean fulfils the relation; a number that is not finite never does."""
        return math.isfinite(self.mean) and _RELATIONS[self.relation](self.mean, self.limit)

    @property
    def wanted(self) -> str:
        """The condition in words."""
        return f"{self.what} {self.relation} {self.limit:g}"

    def shortfall(self) -> str:
        """Why the condition does not hold, as far as the numbers tell."""
        seeds = [_RELATIONS[self.relation](value, self.limit) for value in self.values]
        text = f"{self.what} is {self.mean:.4g}, wanted {self.relation} {self.limit:g}"
        if any(seeds):
            text += f"; {sum(seeds)} of {len(seeds)} seeds fulfil it, so seeds differ by more than what is missing"
        return text

    def record(self) -> dict[str, Any]:
        """The condition as it is written to ``claims.json``."""
        finite = [value if math.isfinite(value) else None for value in self.values]
        return {
            "what": self.what,
            "wanted": f"{self.relation} {self.limit:g}",
            "measured": _rounded(self.mean),
            "per_seed": [None if value is None else _rounded(value) for value in finite],
            "held": self.held,
        }


@dataclass(frozen=True)
class Claim:
    """A sentence to be confirmed or refuted.

    Args:
        id: number of the claim on the method's card.
        sentence: the claim in words.
        arms: names of the arms that it needs.
        judge: makes the conditions from the results; the claim holds when all of them do.
        not_measured: parts of the sentence that this run cannot measure, and why.
    """

    id: str
    sentence: str
    arms: tuple[str, ...]
    judge: Callable[[Results], Iterable[Condition]]
    not_measured: tuple[str, ...] = ()

    def outcome(self, results: Results, *, reason: str = "") -> Outcome:
        """Judge the claim; ``reason`` is added where it does not hold."""
        return Outcome(self, tuple(self.judge(results)), reason)


@dataclass(frozen=True)
class Outcome:
    """What was wanted, what was measured, and whether the claim held."""

    claim: Claim
    conditions: tuple[Condition, ...]
    known_reason: str = field(default="")

    @property
    def held(self) -> bool:
        """Whether every condition held."""
        return all(condition.held for condition in self.conditions)

    @property
    def reason(self) -> str:
        """Why it did not hold, as far as known; empty when it held."""
        missed = [condition.shortfall() for condition in self.conditions if not condition.held]
        return ". ".join([*missed, self.known_reason] if missed and self.known_reason else missed)

    def record(self) -> dict[str, Any]:
        """The outcome as it is written to ``claims.json``."""
        return {
            "claim": self.claim.id,
            "sentence": self.claim.sentence,
            "wanted": "; ".join(condition.wanted for condition in self.conditions),
            "measured": [condition.record() for condition in self.conditions],
            "held": self.held,
            "reason": self.reason,
            "not_measured": list(self.claim.not_measured),
            "arms": list(self.claim.arms),
        }


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
