"""What importing the package says where its compiled part is not what it should be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medsynth_ext
from medsynth_ext import operator_library

PACKAGE = Path(medsynth_ext.__file__).parent


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
    assert "They need torch 2.11 or newer, found " in last
