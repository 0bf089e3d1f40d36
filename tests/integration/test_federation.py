"""Real federations: an NVIDIA FLARE job with a server and three sites, every one in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medsynth_ext.engines.federated import FederatedServer, LocalSites
from medsynth_ext.engines.federated.worker import build

pytest.importorskip("nvflare", reason="the federation over NVIDIA FLARE needs nvflare: make integration")

pytestmark = pytest.mark.rehearsal

TESTS = Path(__file__).resolve().parents[1]
CONFIG = TESTS / "integration/toy_federation.json"
SITES = ("north", "south", "west")


def command(folder: Path, *options: str) -> list[str]:
    job = [sys.executable, "-m", "medsynth_ext.engines.federated.job", "--config_file", str(CONFIG)]
    job += ["--output_dir", str(folder / "out"), *options]
    for site in SITES:
        (folder / site).mkdir(parents=True, exist_ok=True)
        job += ["--site", f"{site}={folder / site}"]
    return job


def start(folder: Path, *options: str) -> subprocess.Popen:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS / "engines"), os.environ.get("PYTHONPATH", "")])
    with (folder / "job.log").open("ab") as log:
        return subprocess.Popen(
            command(folder, *options),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(job: subprocess.Popen, folder: Path) -> dict:
    try:
        job.wait(timeout=500)
    finally:
        end(job)
    assert job.returncode == 0, (folder / "job.log").read_text()[-3000:]
    return json.loads((folder / "out/federation.json").read_text())


def end(job: subprocess.Popen) -> None:
    """SIGKILL to all of the job; the sites' own processes leave when theirs are gone."""
    try:
        os.killpg(job.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    job.wait()


def wait_for(job: subprocess.Popen, folder: Path, reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not reached():
        assert job.poll() is None, (folder / "job.log").read_text()[-3000:]
        assert time.monotonic() < until, (folder / "job.log").read_text()[-3000:]
        time.sleep(0.02)


def sent(folder: Path, site: str) -> int:
    """Gradients that left a site so far."""
    lines = folder / site / "federation/sent.jsonl"
    return lines.read_text().count('"gradients"') if lines.is_file() else 0


def in_process(folder: Path, **settings) -> FederatedServer:
    """The same federation in this process, undisturbed."""
    base = {"pause_s": 0.0, **settings}
    server = build(CONFIG, "server", {**base, "output_dir": str(folder / "server")})
    runners = {
        site: build(CONFIG, "site", {**base, "site_name": site, "output_dir": str(folder / site)}) for site in SITES
    }
    server.run(LocalSites(runners))
    return server


@pytest.mark.parametrize("work", ["shared", "own"])
def test_killed_site_is_restarted_and_the_model_is_that_of_an_undisturbed_run(tmp_path, monkeypatch, work):
    """Where everybody waits for the killed site, not a bit differs."""
    monkeypatch.syspath_prepend(str(TESTS / "engines"))
    job = start(tmp_path, "--set", "pause_s=0.1")  # slow enough to be killed in between
    pid_file = tmp_path / "south/federation/site.pid"
    wait_for(job, tmp_path, lambda: sent(tmp_path, "south") >= (15 if work == "shared" else 40))
    first = int(pid_file.read_text())
    os.kill(first, signal.SIGKILL)
    report = finish(job, tmp_path)
    assert int(pid_file.read_text()) != first
    faults = [fault for fault in report["faults"] if fault["site"] == "south"]
    assert faults
    assert "died (signal 9)" in faults[0]["reason"]
    assert {fault["site"] for fault in report["faults"]} == {"south"}
    calm = in_process(tmp_path / "calm")
    assert torch.equal(torch.load(tmp_path / "out/shared.pt")["matrix"], calm.model.matrix)
    assert torch.equal(torch.load(tmp_path / "out/gaussian.pt")["covariance"], calm.gaussian.covariance)


def test_run_goes_on_without_a_killed_site_until_it_is_back(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS / "engines"))
    options = {"minimum_sites": 2, "iterations": 300, "pause_s": 0.1}
    job = start(tmp_path, *[word for name, value in options.items() for word in ("--set", f"{name}={value}")])
    wait_for(job, tmp_path, lambda: sent(tmp_path, "south") >= 40)
    os.kill(int((tmp_path / "south/federation/site.pid").read_text()), signal.SIGKILL)
    report = finish(job, tmp_path)
    missed = {fault["number"] for fault in report["faults"]}
    assert missed
    assert max(missed) < 300  # it was back before the end
    assert report["history"][max(missed)]["sites"] == list(SITES)
    calm = in_process(tmp_path / "calm", iterations=300)
    last, calm_last = report["history"][-1]["loss"], calm.history[-1]["loss"]
    first = report["history"][0]["loss"]
    assert last < 0.01 * first
    assert abs(last - calm_last) < 0.01 * first


def test_killed_job_continues_exactly_when_it_is_started_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS / "engines"))
    options = ("--set", "save_every=7")
    job = start(tmp_path, *options)
    wait_for(job, tmp_path, lambda: sent(tmp_path, "west") >= 18)
    end(job)
    assert not (tmp_path / "out/shared.pt").exists()
    report = finish(start(tmp_path, *options), tmp_path)
    assert report["faults"] == []
    assert [row["number"] for row in report["history"]] == list(range(1, 45))
    calm = in_process(tmp_path / "calm", save_every=7)
    assert torch.equal(torch.load(tmp_path / "out/shared.pt")["matrix"], calm.model.matrix)


def test_exported_job_holds_all_that_it_needs(tmp_path):
    job = start(tmp_path, "--export", "--export-dir", str(tmp_path / "jobs"))
    assert job.wait(timeout=300) == 0, (tmp_path / "job.log").read_text()[-3000:]
    names = {path.name for path in (tmp_path / "jobs").rglob("*.json")}
    assert {"meta.json", "config_fed_server.json", "config_fed_client.json", "federation.json"} <= names
    (client,) = (tmp_path / "jobs").rglob("app_south/config/config_fed_client.json")
    assert str(tmp_path / "south") in client.read_text()
    assert str(tmp_path / "west") not in client.read_text()
