from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medsynth_ext.handlers import EMA, EMAHandler


def test_average_follows_the_recurrence():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = EMA(network, decay=0.5)
    expected = 0.0
    for s, value in enumerate([1.0, 3.0, -2.0, 5.0, 4.0, 1.0, 8.0, 8.0, 2.0, 7.0]):
        with torch.no_grad():
            network.weight.fill_(value)
        ema.update()
        decay = min(0.5, (1 + s) / (10 + s))
        expected = decay * expected + (1 - decay) * value
        assert ema.network.weight.item() == pytest.approx(expected, rel=1e-5)


def test_batch_norm_statistics_are_averaged_and_counters_copied():
    network = nn.BatchNorm1d(2)
    ema = EMA(network)
    network.train()
    network(torch.randn(8, 2) + 10)
    ema.update()  # the first update keeps a tenth of the initial value
    assert torch.allclose(ema.network.running_mean, 0.9 * network.running_mean)
    assert ema.network.num_batches_tracked.item() == 1


def test_the_copy_is_apart_from_the_network_and_not_trained():
    network = nn.Linear(2, 2)
    ema = EMA(network)
    before = ema.network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(ema.network.weight, before)
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert not ema.network.training


def test_weights_loaded_after_construction_are_taken_over_when_the_training_starts():
    network = nn.Linear(1, 1)
    ema = EMA(network, decay=0.9)
    with torch.no_grad():
        network.weight.fill_(42.0)
    engine = Engine(lambda engine, batch: None)
    EMAHandler(ema).attach(engine)
    engine.run([0, 1, 2])
    assert ema.network.weight.item() == 42.0
    assert ema.updates == 3


def test_a_restored_average_is_not_overwritten_at_the_start():
    network = nn.Linear(1, 1)
    ema = EMA(network)
    ema.update()
    saved = {"network": {k: torch.full_like(v, 5) for k, v in network.state_dict().items()}, "updates": 17}
    ema.load_state_dict(saved)
    ema.restart()
    assert ema.network.weight.item() == 5
    assert ema.updates == 17
    assert ema.state_dict()["updates"] == 17


def test_decay_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1"):
        EMA(nn.Linear(1, 1), decay=1)
