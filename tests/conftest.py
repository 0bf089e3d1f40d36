"""Fixtures shared by all tests, and how `make test` shares them out among processes (pytest-xdist)."""

from __future__ import annotations

import os

import pytest

# Each of several test processes takes its share of the cores, and so does every process that its tests start.
# torch and OpenMP read this once, when they are loaded.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(share, 1)))

import torch


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares expensive fixtures in one process: a bundle's contract tests, otherwise the tests of a file."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        bundle = callspec.params.get("trained") if callspec else None
        item.add_marker(pytest.mark.xdist_group(bundle.name if bundle else item.path.name))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device at hand; the CUDA half is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
