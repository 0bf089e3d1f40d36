"""What a federation does, exchange by exchange; the same list on the server before and after it was killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Exchange", "plan_fingerprint"]


@dataclass(frozen=True)
class Exchange:
    """One message to every site and its answer.

    Args:
        work: what a site does, in the method's own terms; plain values, run one after the other.
        phase: the server's optimiser that takes the gradients of the last piece of work; ``None`` when the sites work
            for themselves and no gradient is asked for.
        factor: of the optimiser's rate.
    """

    work: tuple[Mapping[str, Any], ...]
    phase: str | None = None
    factor: float = 1.0


def plan_fingerprint(plan: Sequence[Exchange]) -> str:
    """A short name of a plan, equal for equal plans."""
    rows = [[dict(item) for item in exchange.work] + [exchange.phase, exchange.factor] for exchange in plan]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]
