"""The C++ examples, built on the installed torch and run without Python: the same numbers as from Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import medsynth_ext
from medsynth_ext import ops

pytestmark = pytest.mark.rehearsal

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "cpp"
SIZE = (32, 40, 48)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("cpp")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    subprocess.run(["cmake", "-S", EXAMPLES, "-B", folder, prefix], check=True)
    subprocess.run(["cmake", "--build", folder], check=True)
    environment = os.environ | {"PYTHONPATH": str(Path(medsynth_ext.__file__).parents[1])}
    subprocess.run([sys.executable, EXAMPLES / "export_generator.py", folder], check=True, env=environment)
    return folder


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the programs, where no Python can be found."""
    command = [folder / program, str(medsynth_ext.operator_library()), *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": ""}, capture_output=True, text=True)


def read(path: Path, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.fromfile(path, np.float32)).view(shape)


@pytest.mark.parametrize("program", ["synthesise", "gradient", "run_exported"])
def test_no_program_is_linked_to_python(built: Path, program: str) -> None:
    libraries = subprocess.run(["ldd", built / program], check=True, capture_output=True, text=True).stdout
    assert "libtorch" in libraries
    assert "python" not in "".join(line.split("=>")[0] for line in libraries.splitlines())


def test_synthesised_image_and_projections_are_those_of_python(built: Path) -> None:
    done = run(built, "synthesise", "labels.raw", *map(str, SIZE), ".")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checked: ") == 2
    labels = torch.from_numpy(np.fromfile(built / "labels.raw", np.uint8)).view(1, 1, *SIZE)
    velocity = ops.resize_field(0.3 * ops.rand_normal((1, 3, 4, 4, 4), 1), SIZE)
    moved = ops.warp_labels(labels, ops.integrate_svf(velocity))
    image = ops.gmm_sample(moved, torch.tensor([0.0, 60.0, 120.0, 200.0]), torch.full((4,), 10.0), seed=2)
    assert torch.equal(read(built / "image.raw", *image.shape), image)
    scan = ops.CTGeometry.parallel3d(torch.arange(12) * torch.pi / 12, (32, 96), 1.0, SIZE)
    lines = ops.ct_forward((moved > 0).float(), scan)
    torch.testing.assert_close(read(built / "projections.raw", *lines.shape), lines, rtol=1e-5, atol=1e-4)


def test_gradient_finds_the_shift(built: Path) -> None:
    done = run(built, "gradient")
    assert done.returncode == 0, done.stderr
    assert "was found as 2.5" in done.stdout


@pytest.mark.parametrize("module", ["generator.pt", "generator.pt2"])
def test_exported_generator_gives_what_it_gives_in_python(built: Path, module: str) -> None:
    done = run(built, "run_exported", module, "labels.raw", *map(str, SIZE), "result.raw")
    assert done.returncode == 0, done.stderr
    assert torch.equal(read(built / "result.raw", *SIZE), read(built / "expected.raw", *SIZE))


def test_what_is_wrong_is_said_in_a_sentence(built: Path) -> None:
    done = run(built, "synthesise", "labels.raw", "1", "2", "3", ".")
    assert (done.returncode, done.stderr) == (1, "synthesise: labels.raw does not hold 6 bytes, one per voxel\n")
    nowhere = subprocess.run([built / "gradient", "nowhere.so"], capture_output=True, text=True)
    assert nowhere.returncode == 1
    assert "nowhere.so: cannot open shared object file" in nowhere.stderr
