from __future__ import annotations

import pytest

from medsynth_ext.engines import Stages


def test_every_epoch_has_its_stage_and_the_last_one_has_the_rest() -> None:
    stages = Stages(7, {"one": 2, "none": 0, "two": 1}, last="rest")
    assert [stages.at(epoch) for epoch in range(1, 8)] == ["one", "one", "two", "rest", "rest", "rest", "rest"]


def test_rates_are_constant_and_then_fall_to_zero_in_equal_steps() -> None:
    stages = Stages(6, {}, last="all", decay=3)
    assert [stages.rate(done) for done in range(7)] == pytest.approx([1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert Stages(6, {}, last="all").rate(6) == 1


@pytest.mark.parametrize(("epochs", "first", "decay"), [(3, {"one": 4}, 0), (3, {}, 4), (3, {"one": -1}, 0)])
def test_stages_that_do_not_fit_are_refused(epochs: int, first: dict[str, int], decay: int) -> None:
    with pytest.raises(ValueError, match="3 epochs must hold the stages"):
        Stages(epochs, first, last="rest", decay=decay)
