"""Finds the bundles and runs their workflows on tiny data."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tools"))

import check_bundles  # noqa: E402

BUNDLES = check_bundles.find_bundles()


def load_tiny(name: str, folder: Path = Path(__file__).parent / "tiny") -> ModuleType:
    """The module that makes tiny data and settings for a bundle."""
    path = folder / f"{name}.py"
    assert path.is_file(), f"{path} is missing: it must have train(folder), evaluate(folder, trained) and infer(...)"
    spec = importlib.util.spec_from_file_location(f"tiny_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_workflow(bundle: Path, *configs: str, kind: str = "train", **settings: Any) -> ConfigWorkflow:
    """Initialise, run and finalise a workflow of a bundle on the CPU."""
    with warnings.catch_warnings():
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


@dataclass
class Trained:
    """A bundle after its short training."""

    bundle: Path
    tiny: ModuleType
    workflow: ConfigWorkflow
    settings: dict[str, Any]
    output: Path

    @property
    def weights(self) -> Path:
        return self.output / "model.pt"


@pytest.fixture(scope="session")
def one_thread():
    """Sums come out the same in every process only with the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=BUNDLES, ids=lambda path: path.name)
def trained(request, tmp_path_factory, one_thread) -> Trained:
    bundle: Path = request.param
    tiny = load_tiny(bundle.name)
    folder = tmp_path_factory.mktemp(bundle.name)
    settings = tiny.train(folder / "data")
    output = folder / "out"
    workflow = run_workflow(bundle, "train.json", output_dir=str(output), ckpt_dir=str(output), **settings)
    return Trained(bundle, tiny, workflow, settings, output)


@pytest.fixture
def run() -> Callable[..., ConfigWorkflow]:
    return run_workflow
