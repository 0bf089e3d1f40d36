from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from medsynth_ext.handlers import RateSchedule


def test_rates_are_those_of_the_epoch_whatever_they_were_before() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizers = [torch.optim.SGD([parameter], lr=lr) for lr in (0.5, 0.1)]
    for group in optimizers[0].param_groups:
        group["lr"] = 7.0  # as a checkpoint may bring it
    seen = []
    engine = Engine(lambda e, b: seen.append([o.param_groups[0]["lr"] for o in optimizers]))
    RateSchedule(lambda done: 1 - done / 4, optimizers).attach(engine)
    engine.run([0], max_epochs=3)
    assert seen == [pytest.approx([lr * share for lr in (0.5, 0.1)]) for share in (1.0, 0.75, 0.5)]
