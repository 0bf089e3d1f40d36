from __future__ import annotations

from typing import Any

import pytest
from ignite.engine import Engine

from medsynth_ext.handlers import PlateauStop


def run(stop: PlateauStop, means: list[float | None], first: int = 0) -> int:
    """Epochs that were run with these means of the term, two iterations each."""

    def iteration(engine: Engine, batch: float) -> dict[str, Any]:
        mean = means[first + engine.state.epoch - 1]
        return {} if mean is None else {"loss": mean + batch}

    engine = Engine(iteration)
    stop.attach(engine)
    return engine.run([-0.5, 0.5], max_epochs=len(means) - first).epoch


def test_it_stops_when_the_mean_has_not_fallen_for_so_many_epochs() -> None:
    assert run(PlateauStop("loss", 2), [3.0, 2.0, 2.0, 2.5, 1.0, 1.0]) == 4
    for patience in (3, None):
        assert run(PlateauStop("loss", patience), [3.0, 2.0, 2.0, 2.5, 1.0, 1.0]) == 6


def test_epochs_without_the_term_do_not_count() -> None:
    assert run(PlateauStop("loss", 1), [None, None, 3.0, None, 2.0]) == 5


def test_a_training_that_goes_on_remembers() -> None:
    means: list[float | None] = [3.0, 2.0, 2.0, 2.5, 1.0]
    early, later = PlateauStop("loss", 2), PlateauStop("loss", 2)
    assert run(early, means[:3]) == 3
    later.load_state_dict(early.state_dict())
    assert run(later, means, first=3) == 1
    with pytest.raises(ValueError, match="patience must be at least 1 epoch, got 0"):
        PlateauStop("loss", 0)
