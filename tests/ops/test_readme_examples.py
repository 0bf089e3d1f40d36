"""The README's examples of the operators run as they stand and compute what their comments say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
SECTION = re.search(r"^## Operators$(.*?)^## ", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    assert SECTION, "the README has no section 'Operators'"
    found: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", SECTION[1], re.DOTALL):
        exec(code, found)
    return found


def test_fused_image_lies_between_0_and_1(names: dict[str, Any]) -> None:
    assert names["image"].min() == 0
    assert names["image"].max().item() == pytest.approx(1, abs=1e-4)


def test_points_are_found_again_in_their_maps(names: dict[str, Any]) -> None:
    assert bool(names["found"].all())
    assert bool(names["valid"].all())
    torch.testing.assert_close(names["places"], names["points"], rtol=0, atol=0.01)
    torch.testing.assert_close(names["mean_place"], names["points"], rtol=0, atol=0.1)


def test_reconstruction_from_noisy_lines_is_the_volume(names: dict[str, Any]) -> None:
    middle = (..., slice(16, 48), slice(16, 48), slice(16, 48))
    truth, found = 0.02 * names["moved"][middle], names["volume"][middle]
    assert torch.corrcoef(torch.stack([truth.flatten(), found.flatten()]))[0, 1] > 0.9
    assert found.mean().item() == pytest.approx(truth.mean().item(), rel=0.05)


def test_gradient_reaches_the_corners_of_the_mesh(names: dict[str, Any]) -> None:
    assert names["corners"].grad.abs().min() > 0
