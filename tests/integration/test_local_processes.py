"""A federation of three processes of this machine, without NVIDIA FLARE."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from medsynth_ext.engines.federated import FederatedServer, LocalSites, ProcessSites, SiteProcess
from medsynth_ext.engines.federated.worker import build

pytestmark = pytest.mark.rehearsal

TESTS = Path(__file__).resolve().parents[1]
CONFIG = TESTS / "integration/toy_federation.json"
SITES = ("north", "south", "west")


@pytest.fixture
def make_processes(tmp_path, monkeypatch):
    folders = [str(TESTS.parent), str(TESTS / "engines"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(TESTS / "engines"))

    def make() -> ProcessSites:
        processes = {}
        for site in SITES:
            folder = tmp_path / site
            settings = {"site_name": site, "output_dir": str(folder), "pause_s": 0.05}
            processes[site] = SiteProcess(site, CONFIG, settings, log=folder / "site.log")
        return ProcessSites(processes)

    return make


def gradients_sent(folder: Path) -> int:
    lines = folder / "sent.jsonl"
    return lines.read_text().count('"gradients"') if lines.is_file() else 0


def undisturbed(folder: Path) -> FederatedServer:
    """The same federation in this process."""
    settings = {"pause_s": 0.0}
    server = build(CONFIG, "server", {**settings, "output_dir": str(folder / "server")})
    runners = {
        site: build(CONFIG, "site", {**settings, "site_name": site, "output_dir": str(folder / site)}) for site in SITES
    }
    server.run(LocalSites(runners))
    return server


def test_killed_process_is_started_again_and_not_a_bit_differs(tmp_path, make_processes):
    patient = {"federation#server#patience_s": 500.0}  # processes start slowly on a busy machine
    server = build(CONFIG, "server", {**patient, "output_dir": str(tmp_path / "out")})
    killed: list[int] = []

    def kill() -> None:
        while gradients_sent(tmp_path / "south") < 12:
            time.sleep(0.02)
        killed.append(int((tmp_path / "south/site.pid").read_text()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    with make_processes() as sites:
        killer.start()
        server.run(sites)
        assert int((tmp_path / "south/site.pid").read_text()) != killed[0]
    report = json.loads((tmp_path / "out/federation.json").read_text())
    assert {fault["site"] for fault in report["faults"]} == {"south"}
    assert "died (signal 9)" in report["faults"][0]["reason"]
    calm = undisturbed(tmp_path / "calm")
    assert torch.equal(server.model.matrix, calm.model.matrix)
    assert torch.equal(server.gaussian.covariance, calm.gaussian.covariance)
    assert all(process.process is None for process in sites.processes.values())  # nothing is left behind
