"""Running a bundle's workflows on tiny data; used by the tests of the bundles and of the tool that writes one."""

from __future__ import annotations

import csv
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

TESTS = Path(__file__).resolve().parent
TOOLS = TESTS.parent / "tools"
if str(TOOLS) not in sys.path:
    sys.path.insert(0, str(TOOLS))


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums come out the same in every process only with the same number of threads; small volumes need no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load_tiny(name: str, folder: Path = TESTS / "bundles/tiny") -> ModuleType:
    """The module that makes tiny data and settings for a bundle."""
    path = folder / f"{name}.py"
    assert path.is_file(), f"{path} is missing: it must have train(folder), evaluate(folder, trained) and infer(...)"
    spec = importlib.util.spec_from_file_location(f"tiny_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_workflow(bundle: Path, *configs: str, kind: str | None = "train", **settings: Any) -> ConfigWorkflow:
    """Initialise, check, run and finalise a workflow of a bundle on one thread of the CPU."""
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workflow = ConfigWorkflow(
            config_file=[str(bundle / "configs" / name) for name in configs],
            workflow_type=kind,
            logging_file=False,  # type: ignore[arg-type]
            bundle_root=str(bundle),
            device="cpu",
            **settings,
        )
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        workflow.finalize()
    return workflow


def loss_curve(folder: Path) -> list[tuple[int, float]]:
    """Iteration and loss of every row of a training's log."""
    with (folder / "loss.csv").open() as file:
        return [(int(row["iteration"]), float(row["loss"])) for row in csv.DictReader(file)]
