"""Layers, losses and pools that look at a whole batch see that of all processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from medsynth_ext.engines.processes import gather_batch
from medsynth_ext.networks import join_processes

HERE = Path(__file__).resolve().parent
NAMES = ("network", "dice", "warm_up", "relativistic", "free_bits", "mean_where", "points", "labelled", "pool")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[dict, dict, dict]:
    """Of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("processes")
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "two_processes.py"), str(folder)]
    pair = [subprocess.Popen([*command, str(rank), "2"], env=environment) for rank in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        import two_processes

        one = two_processes.compute()
    assert [process.wait(timeout=1500) for process in pair] == [0, 0]
    return one, *(torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_find_what_one_finds(results, name):
    one, first, second = results
    # These losses are computed in single precision wherever they run.
    single = name in ("relativistic", "labelled")
    close = {"rtol": 1e-5, "atol": 1e-6} if single else {"rtol": 1e-9, "atol": 1e-11}
    keys = [key for key in one if key.startswith(name)]
    assert keys
    for key in keys:
        torch.testing.assert_close(first[key], one[key], msg=lambda text, key=key: f"{key}: {text}", **close)
        assert torch.equal(first[key], second[key])


def test_a_joined_network_has_the_same_tensors_and_output():
    network = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)))
    before = dict(network.state_dict(keep_vars=True))
    x = torch.rand(4, 2, 5)
    wanted = network.eval()(x)
    joined = join_processes(network)
    assert dict(joined.state_dict(keep_vars=True)).keys() == before.keys()
    assert all(value is before[name] for name, value in joined.state_dict(keep_vars=True).items())
    assert not any(layer.training for layer in joined.modules())
    assert torch.equal(joined(x), wanted)
    assert join_processes(joined)[1] is joined[1]
    assert join_processes(nn.BatchNorm1d(3)).weight.shape == (3,)


def test_one_process_gets_back_its_own_batch():
    x = torch.rand(3, 2)
    assert gather_batch(x) is x
