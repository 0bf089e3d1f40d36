"""What importing the package says where its compiled part is not what it should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import medsynth_ext
from medsynth_ext import operator_library

PACKAGE = Path(medsynth_ext.__file__).parent
SETUP = PACKAGE.parent / "setup.py"


def imported(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """A fresh process that imports a package of these files."""
    (folder / "medsynth_ext").mkdir()
    for file in (PACKAGE / "__init__.py", PACKAGE / "_extension.py", *files):
        shutil.copy(file, folder / "medsynth_ext")
    code = "import medsynth_ext; print(medsynth_ext.build_info()['version'])"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env={}, capture_output=True, text=True)


def test_without_its_module_it_warns_and_tells_the_command(tmp_path: Path) -> None:
    module = tmp_path / "_C.py"  # an editable install would find its own if there were none
    module.write_text("raise ImportError('built for another Python')")
    done = imported(tmp_path, module)
    assert (done.returncode, done.stdout) == (0, "None\n")
    assert "no compiled operators (built for another Python)" in done.stderr
    assert "pip install --no-build-isolation ." in done.stderr


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("no library", "file too short")])
def test_a_library_that_cannot_be_loaded_is_an_import_error(tmp_path: Path, content: str | None, says: str) -> None:
    module = next(PACKAGE.glob("_C.*so"))
    library = tmp_path / operator_library().name
    if content is not None:
        library.write_text(content)
    done = imported(tmp_path, module, *[library] * library.is_file())
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: medsynth_ext cannot load its compiled operators: ")
    assert says in last
    assert f"Build them anew for torch {torch.__version__} with: pip install --no-build-isolation ." in last


@pytest.mark.parametrize("found", ["2.9.1", "2.10.0+cu128", "1.13.1"])
def test_an_older_torch_is_named_before_anything_is_loaded(tmp_path: Path, found: str) -> None:
    (tmp_path / "torch.py").write_text(f"__version__ = {found!r}")
    done = imported(tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: medsynth_ext needs torch 2.11 or newer, found {found}"


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Start a build with a module ``torch`` of this folder, as pip does without isolation."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder), "--build-temp", str(folder)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "MEDSYNTH_CUDA": "0"}
    return subprocess.run(command, cwd=SETUP.parent, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("__version__ = '2.10.0'", "torch 2.11 or newer is needed to build medsynth_ext, found 2.10.0"),
        ("raise ModuleNotFoundError('No module', name='torch')", "torch is needed to build medsynth_ext: install "),
    ],
)
def test_a_build_beside_an_older_torch_or_none_ends_in_one_sentence(tmp_path: Path, module: str, says: str) -> None:
    if not SETUP.is_file():
        pytest.skip("the package is installed, its setup.py is not here")
    (tmp_path / "torch.py").write_text(module)
    done = build(tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {says}")
