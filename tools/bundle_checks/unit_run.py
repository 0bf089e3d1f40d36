"""The unit run of the model zoo: every workflow once, on tiny data."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path

from .bundle import Bundle, require
from .paths import REPOSITORY

TESTS = REPOSITORY / "tests"


def check_unit_run(bundle: Bundle) -> str:
    """Training, evaluation and inference run and write what they promise, on the tiny data of the bundle's tests."""
    tiny_file = TESTS / f"bundles/tiny/{bundle.root.name}.py"
    require(tiny_file.is_file(), f"{tiny_file.relative_to(REPOSITORY)} is missing: it makes tiny data for the run")
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    workflows = importlib.import_module("bundle_workflows")
    tiny = workflows.load_tiny(bundle.root.name)
    with tempfile.TemporaryDirectory() as folder:
        data, out, results = Path(folder, "data"), Path(folder, "out"), Path(folder, "results")
        settings = tiny.train(data / "train")
        workflows.run_workflow(bundle.root, "train.json", output_dir=str(out), ckpt_dir=str(out), **settings)
        losses = [loss for _, loss in workflows.loss_curve(out)]
        require((out / "model.pt").is_file(), "training wrote no model.pt")
        settings = tiny.evaluate(data / "test", out / "model.pt")
        both = ("train.json", "evaluate.json")
        workflows.run_workflow(bundle.root, *both, output_dir=str(results), **settings)
        require((results / "metrics.csv").is_file(), "evaluation wrote no metrics.csv")
        settings = tiny.infer(data / "test", out / "model.pt")
        written = Path(folder, "written")
        workflows.run_workflow(bundle.root, "inference.json", kind="infer", output_dir=str(written), **settings)
        files = sorted(path.name for path in written.iterdir())
        require(any(name.startswith("one") for name in files), f"inference wrote nothing for the case: {files}")
        epochs = len(json.loads((out / "epochs.json").read_text(encoding="utf-8")))
    return f"{len(losses)} steps in {epochs} epochs, {len(files)} files"
