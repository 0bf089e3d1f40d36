"""The pairs of snippets in docs/coming_from.md give the same numbers, where the other package is installed."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming_from.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SETUP, *SECTIONS = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)


def load_libraries_of_astra() -> None:
    """ASTRA's package does not find by itself the CUDA libraries that its CPU half links to."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or [] if spec else []:
        for name in ("cuda_runtime/lib/libcudart.so.12", "cufft/lib/libcufft.so.11"):
            if (Path(place) / name).exists():
                ctypes.CDLL(str(Path(place) / name), mode=ctypes.RTLD_GLOBAL)


def sections() -> Iterator[object]:
    for section in SECTIONS:
        title, text = section.split("\n", 1)
        text = text.split("\n## ", 1)[0]
        package = re.search(r"import (voxelmorph|torchio|kornia|astra)", text)
        assert package, f"'{title}' names no package"
        yield pytest.param(package[1], BLOCK.findall(text), id=f"{package[1]}: {title}")


@pytest.mark.parametrize(("package", "snippets"), sections())
def test_both_sides_give_the_same_numbers(package: str, snippets: list[str]) -> None:
    if package == "astra":
        load_libraries_of_astra()
    pytest.importorskip(package, exc_type=ImportError)
    names: dict[str, torch.Tensor] = {}
    for code in (*BLOCK.findall(SETUP), *snippets):
        exec(compile(code, str(PAGE), "exec"), names)
    within = re.search(r"# within ([0-9.e-]+)$", snippets[-1], re.MULTILINE)
    assert within, "the page does not say how close the two are"
    torch.testing.assert_close(names["ours"], names["theirs"], rtol=0, atol=float(within[1]), check_dtype=False)
    assert names["ours"].abs().max() > 0.01
