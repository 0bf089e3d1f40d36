"""A short training of every bundle, shared by the contract tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bundle_workflows import load_tiny, run_workflow
from check_bundles import find_bundles
from monai.bundle import ConfigWorkflow


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


@pytest.fixture(scope="session", params=find_bundles(), ids=lambda path: path.name)
def trained(request, tmp_path_factory) -> Trained:
    bundle: Path = request.param
    tiny = load_tiny(bundle.name)
    folder = tmp_path_factory.mktemp(bundle.name)
    settings = tiny.train(folder / "data")
    output = folder / "out"
    workflow = run_workflow(bundle, "train.json", output_dir=str(output), ckpt_dir=str(output), **settings)
    return Trained(bundle, tiny, workflow, settings, output)
