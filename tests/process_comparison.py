"""The same training in one process and in two, at the same global batch."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle_workflows import load_tiny, run_workflow

TREE = Path(__file__).resolve().parents[1]
PROCESSES = 2


@dataclass(frozen=True)
class Curves:
    """What a training has logged."""

    rows: list[dict[str, float]]
    metrics: list[dict[str, float]]

    @classmethod
    def read(cls, folder: Path) -> Curves:
        """Every scalar of every iteration, without the seconds, and the validation's metrics of every epoch."""
        with (folder / "loss.csv").open() as file:
            rows = [{k: float(v) for k, v in row.items() if k != "seconds" and v} for row in csv.DictReader(file)]
        return cls(rows, [record.get("metrics", {}) for record in json.loads((folder / "epochs.json").read_text())])


def train_with_one_and_two(bundle: Path, folder: Path, *overlays: str, **more: Any) -> tuple[Curves, Curves]:
    """Train a bundle on tiny data in this process, and with ``torchrun`` in two that share each of its batches.

    Network, losses, optimisers, augmentation, pools and averages are the bundle's own; only sizes and lengths are not.

    Args:
        bundle: its folder.
        folder: for data and results.
        overlays: further configurations of the bundle, laid over ``train.json``.
        more: further settings.
    """
    tiny = load_tiny(bundle.name)
    settings = {"batch_size": 0, **tiny.train(folder / "data"), **tiny.distributed(folder / "data"), **more}
    del settings["batch_size"]
    batch = 2 * PROCESSES
    one, two = folder / "one", folder / "two"
    run_workflow(bundle, "train.json", *overlays, output_dir=str(one), ckpt_dir=str(one), batch_size=batch, **settings)
    places = {"bundle_root": str(bundle), "output_dir": str(two), "ckpt_dir": str(two)}
    (folder / "tiny.json").write_text(json.dumps({**settings, **places, "batch_size": batch // PROCESSES}))
    configs = [str(bundle / "configs" / name) for name in ("train.json", *overlays, "multi_gpu_train.json")]
    torchrun(folder, "-m", "monai.bundle", "run", "--config_file", str([*configs, str(folder / "tiny.json")]))
    return Curves.read(one), Curves.read(two)


def torchrun(folder: Path, *arguments: str) -> None:
    """Run a program in two processes with one thread each; sums are the same only with the same number of threads."""
    command = [str(Path(sys.executable).with_name("torchrun")), "--standalone", f"--nproc-per-node={PROCESSES}"]
    path = os.pathsep.join(filter(None, (str(TREE), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    command += arguments
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def differences(one: Curves, two: Curves) -> list[float]:
    """The largest relative difference of any scalar in each iteration; the same scalars must be there."""
    assert len(one.rows) == len(two.rows) > 0
    found = []
    for single, double in zip(one.rows, two.rows, strict=True):
        assert list(single) == list(double)
        scale = max(abs(single["loss"]), 1e-6)
        found.append(max(abs(single[k] - double[k]) / max(abs(single[k]), 1e-3 * scale) for k in single))
    return found
