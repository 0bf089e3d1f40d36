from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from medsynth_ext.handlers import WeightsWriter, half_state_dict, load_weights


def run_with_metrics(writer, values, network):
    engine = Engine(lambda engine, batch: None)

    @engine.on(Events.EPOCH_COMPLETED)
    def measure(engine):
        engine.state.metrics["dice"] = values[engine.state.epoch - 1]
        with torch.no_grad():
            network.weight.fill_(engine.state.epoch)

    writer.attach(engine)
    engine.run([0], max_epochs=len(values))


def stored(path) -> float:
    return torch.load(path, weights_only=True)["weight"].item()


def test_the_best_epoch_is_kept(tmp_path):
    network = nn.Linear(1, 1)
    path = tmp_path / "models/model.pt"
    writer = WeightsWriter(network, path, metric="dice")
    run_with_metrics(writer, [0.2, 0.5, 0.4, 0.5], network)
    assert stored(path) == 2
    resumed = WeightsWriter(network, path, metric="dice")
    resumed.load_state_dict(writer.state_dict())
    run_with_metrics(resumed, [0.45], network)
    assert stored(path) == 2
    run_with_metrics(resumed, [0.1, 0.1, 0.6], network)
    assert stored(path) == 3


def test_the_smallest_error_is_kept_when_smaller_is_better(tmp_path):
    network = nn.Linear(1, 1)
    writer = WeightsWriter(network, tmp_path / "model.pt", metric="dice", smaller_is_better=True)
    run_with_metrics(writer, [0.4, 0.1, 0.2, 0.1], network)
    assert stored(tmp_path / "model.pt") == 2
    assert writer.state_dict() == {"best": 0.1}


def test_without_a_metric_every_epoch_is_written(tmp_path):
    network = nn.Linear(1, 1)
    run_with_metrics(WeightsWriter(network, tmp_path / "model.pt"), [0.9, 0.1, 0.1], network)
    assert stored(tmp_path / "model.pt") == 3
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_parameters_are_half_precision_in_a_state_dict_that_loads_again(tmp_path):
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    writer = WeightsWriter(network, tmp_path / "model.pt")
    writer(Engine(lambda engine, batch: None))
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {state[name].dtype for name, _ in network.named_parameters()} == {torch.float16}
    assert {state[name].dtype for name, _ in network.named_buffers()} == {torch.float32, torch.int64}
    other = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    load_weights(other, tmp_path / "model.pt")
    assert torch.allclose(other[0].weight, network[0].weight, atol=1e-3)
    assert other[0].weight.dtype == torch.float32


def test_values_beyond_half_precision_are_refused():
    network = nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(1e6)
    with pytest.raises(ValueError, match="'weight' holds values that are not finite in half precision"):
        half_state_dict(network)


def test_large_running_statistics_survive():
    network = nn.BatchNorm3d(2)
    network.running_var.fill_(3e6)
    state = half_state_dict(network)
    assert state["running_var"].tolist() == [3e6, 3e6]
    assert state["weight"].dtype == torch.float16
