from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from medsynth_ext.engines.federated.messages import pack, unpack
from medsynth_ext.engines.federated.process import SiteProcess, SiteProcessError

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "integration/toy_federation.json"


def patient(site: SiteProcess, message: bytes) -> bytes:
    """The answer of a site that may still be starting."""
    until = time.monotonic() + 120
    while True:
        try:
            return site.ask(message)
        except SiteProcessError:
            assert time.monotonic() < until, site.log.read_text()
            time.sleep(0.1)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    settings = {"site_name": "north", "output_dir": str(tmp_path), "pause_s": 0.0}
    process = SiteProcess("north", CONFIG, settings, log=tmp_path / "site.log")
    yield process
    process.close()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while asked", "before"])
def test_process_that_is_killed_is_started_again_and_goes_on(tmp_path, site, when):
    state = {"matrix": torch.zeros(3, 2)}

    def step(number: int) -> bytes:
        work = [{"iteration": number}]
        return pack(
            {"kind": "step", "run": "r", "number": number, "save": True, "shares": True, "work": work, "state": state}
        )

    site.wait_s = 0.0
    with pytest.raises(SiteProcessError, match="is starting"):
        site.ask(step(1))
    site.wait_s = 5.0
    assert set(unpack(patient(site, step(1)))["gradients"]) == {"matrix"}
    first = int((tmp_path / "site.pid").read_text())
    os.kill(first, signal.SIGSTOP if when == "while asked" else signal.SIGKILL)
    if when == "while asked":
        threading.Timer(0.5, os.kill, (first, signal.SIGKILL)).start()
    else:
        site.process.wait()
    with pytest.raises(SiteProcessError, match=r"died \(signal 9\) and is started again"):
        site.ask(step(2))
    assert unpack(patient(site, step(2)))["number"] == 2
    assert int((tmp_path / "site.pid").read_text()) != first
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "sent.jsonl").read_text().splitlines()]
    assert kinds == ["gradients", "gradients"]


def test_process_leaves_with_its_owner(site, tmp_path):
    site.start()
    assert site.process is not None
    process = site.process
    site.close()
    assert process.poll() is not None
