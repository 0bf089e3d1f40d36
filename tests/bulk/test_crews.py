"""Who makes the shards does not matter, and who dies over one does not either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_workflows import TOOLS
from folders import config, contents, job, made

from medsynth_ext.bulk import JobError, crews, generate


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """What a run in one process, that nothing disturbs, makes."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        generate(job(out, count=12, shard_size=3))
    return contents(out)


def wait_for(reached: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + 3000
    while not reached():
        assert time.monotonic() < until
        assert process is None or process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_workers_shard_is_made_again_and_nothing_differs(whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    killed: list[tuple[int, int]] = []

    def kill() -> None:
        wait_for(lambda: len(made(log)) >= 2)
        killed.append(made(log)[-1])
        os.kill(killed[0][0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    generate(job(out, count=12, shard_size=3, log=str(log), pause_s=0.2), workers=2)
    killer.join()
    assert contents(out) == whole
    pid, index = killed[0]
    again = {p for p, i in made(log) if i == index}
    assert pid in again
    assert len(again) == 2
    # No other shard was made twice.
    begun = [i for _, i in made(log)]
    assert {i for i in begun if begun.count(i) > 1} <= set(range(index // 3 * 3, index // 3 * 3 + 3))


@pytest.mark.slow
def test_a_killed_program_goes_on_to_the_same_files(whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    (tmp_path / "job.json").write_text(json.dumps(config(log=str(log), pause_s=0.1)))
    command = [sys.executable, str(TOOLS / "generate.py"), str(tmp_path / "job.json"), "--out", str(out)]
    command += ["--count=12", "--shard-size=3", "--seed=5"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(made(log)) >= 5, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (out / "shard_00000").is_dir()
    assert not (out / "manifest.json").exists()
    begun = len(made(log))
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"12 samples in 4 shards: {out}/manifest.json\n"
    assert contents(out) == whole
    assert all(index >= 3 for _, index in made(log)[begun:])


def test_a_shard_that_kills_every_worker_is_given_up():
    queue = crews._Queue([4, 5])
    assert queue.waiting.popleft() == 4
    for _ in range(crews.TRIES - 1):
        queue.give_back(4, "out of memory")
        assert queue.waiting.popleft() == 4
    with pytest.raises(JobError, match=f"shard 4 was given up: {crews.TRIES} workers died over it.*out of memory"):
        queue.give_back(4, "out of memory")


def test_ray_that_is_missing_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(JobError, match=r'Ray, which is not installed: pip install "ray>='):
        generate(job(tmp_path), ray="auto", workers=0)
