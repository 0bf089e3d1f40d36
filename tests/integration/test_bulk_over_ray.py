"""Bulk generation over Ray's workers: the same files, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="bulk generation over machines needs Ray: make integration")

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "bulk"))

from folders import contents, job, made  # noqa: E402

from medsynth_ext.bulk import JobError, generate  # noqa: E402

pytestmark = pytest.mark.rehearsal


@pytest.fixture(autouse=True)
def paths(monkeypatch):
    """Ray's workers import the counted source."""
    monkeypatch.syspath_prepend(str(TESTS / "bulk"))
    path = os.pathsep.join([str(TESTS / "bulk"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS / "bulk"))
        generate(job(out, count=12))
    return contents(out)


def test_killed_ray_worker_is_replaced_and_its_shard_is_made_once(whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    killed: list[tuple[int, int]] = []

    def kill() -> None:
        until = time.monotonic() + 3000
        while len(made(log)) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        killed.append(made(log)[-1])
        os.kill(killed[0][0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    generate(job(out, count=12, log=str(log), pause_s=0.3), ray="local", workers=2)
    killer.join()
    assert contents(out) == whole
    pid, index = killed[0]
    assert len({p for p, i in made(log) if i == index} - {pid}) == 1
    assert {pid for pid, _ in made(log)}.isdisjoint({os.getpid()})


def test_cluster_at_an_address_makes_the_same_files(whole, tmp_path):
    start = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block"]
    options = ["--port=6399", "--num-cpus=2", "--include-dashboard=false"]
    cluster = subprocess.Popen(
        [*start, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        assert cluster.stdout is not None
        assert any("Ray runtime started" in line for line in cluster.stdout)
        generate(job(tmp_path, count=12), ray="127.0.0.1:6399", workers=0)
        assert contents(tmp_path) == whole
    finally:
        cluster.terminate()  # it ends what it started
        cluster.wait(timeout=120)


def test_cluster_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JobError, match=r"no Ray cluster to be reached at '127\.0\.0\.1:6390'"):
        generate(job(tmp_path), ray="127.0.0.1:6390", workers=0)


def test_what_a_worker_refuses_is_said_by_the_program(tmp_path):
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        generate(job(tmp_path, size=0), ray="local", workers=1)
