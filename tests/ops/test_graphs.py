"""Every public operator inside graphs: compiled whole, exported and traced, loaded again in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from operator_cases import CASES, OF_FULL_PRECISION, OF_INTEGERS, OF_LABELS, OF_MAPS, OF_OPERATORS, Case
from torch import Tensor, nn

import medsynth_ext
from medsynth_ext import ops

EVERY = CASES + OF_MAPS + OF_OPERATORS + OF_LABELS + OF_INTEGERS + OF_FULL_PRECISION
FRESH_PROCESS = """
import sys
import torch
import medsynth_ext.ops

results = {}
for path in sys.argv[2:]:
    load = torch.jit.load if path.endswith(".pt") else lambda p: torch.export.load(p).module()
    inputs = torch.load(path.rsplit(".", 1)[0] + ".inputs", weights_only=True)
    results[path] = load(path)(*inputs)
torch.save(results, sys.argv[1])
"""


class Call(nn.Module):
    """One case as a module of its tensors."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.case.run(*tensors)


def assert_same(results: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(tuple(results), tuple(wanted), rtol=0, atol=0, equal_nan=True)


def run_fresh(paths: list[Path], results: Path) -> dict[str, tuple[Tensor, ...]]:
    """What programs give in a process that knows nothing but the installed package."""
    package = Path(medsynth_ext.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FRESH_PROCESS, str(results), *map(str, paths)]
    subprocess.run(command, check=True, env=environment, cwd=results.parent)
    return torch.load(results, weights_only=True)


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_compiles_whole_forward_and_backward(case: Case) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(Call(case), fullgraph=True, backend="aot_eager")
    assert_same(compiled(*case.tensors), case.run(*case.tensors))
    if not case.gradient or not case.floats:
        return

    def gradients(call: nn.Module) -> tuple[Tensor | None, ...]:
        leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in case.tensors]
        result = call(*leaves)[0]
        if not result.requires_grad:
            return ()
        return torch.autograd.grad(
            result, [t for t in leaves if t.requires_grad], torch.cos(result.detach()), allow_unused=True
        )

    # Sums over broadcast axes may be taken in another order.
    torch.testing.assert_close(gradients(compiled), gradients(Call(case)), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_programs_of_every_operator_give_the_same_bits_in_a_fresh_process(tmp_path: Path) -> None:
    wanted: dict[str, tuple[Tensor, ...]] = {}
    for number, case in enumerate(EVERY):
        module, path = Call(case), tmp_path / f"{number}-{case}"
        torch.save(case.tensors, f"{path}.inputs")
        torch.export.save(torch.export.export(module, case.tensors), f"{path}.pt2")
        torch.jit.save(torch.jit.trace(module, case.tensors, check_trace=False), f"{path}.pt")
        wanted |= dict.fromkeys((f"{path}.pt2", f"{path}.pt"), case.run(*case.tensors))
    found = run_fresh([Path(path) for path in wanted], tmp_path / "results")
    assert found.keys() == wanted.keys()
    for path, results in wanted.items():
        assert_same(found[path], results)


class Generator(nn.Module):
    """Labels to a deformed image of them and its reconstruction from projections, all of it differentiable."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([0.0, 0.6, 1.2, 2.0]))
        self.velocity = nn.Parameter(0.7 * ops.rand_normal((1, 3, 4, 4, 4), seed=1))
        angles = torch.arange(6) * torch.pi / 6
        self.geometry = ops.CTGeometry.parallel3d(angles, (10, 16), 1.0, (10, 12, 14))

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        image = ops.gmm_sample(labels, self.means, torch.full_like(self.means, 0.1), seed=2)
        displacement = ops.integrate_svf(ops.resize_field(self.velocity, labels.shape[2:]))
        image = ops.gaussian_blur(ops.warp(image, displacement), (0.5, 0.8, 0.5))
        image = ops.simulate_resolution(image, torch.tensor([[5, 12, 14]]).expand(image.shape[0], 3))
        lines = ops.ct_forward(image, self.geometry)
        return image, ops.fbp(lines, self.geometry)


def blobs(batch: int, seed: int) -> Tensor:
    smooth = ops.resample(ops.rand_uniform((batch, 1, 4, 4, 4), seed=seed), (10, 12, 14))
    return (4 * smooth).to(torch.uint8)


def test_generator_compiles_whole_for_every_batch_size() -> None:
    torch._dynamo.reset()
    generator = Generator()
    parameters = list(generator.parameters())
    compiled = torch.compile(generator, fullgraph=True, backend="aot_eager")
    for batch in (2, 3, 5):
        labels = blobs(batch, seed=batch)
        results, wanted = compiled(labels), generator(labels)
        assert_same(results, wanted)
        found, right = (torch.autograd.grad(r[1].square().sum(), parameters) for r in (results, wanted))
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
        assert all(bool(g.abs().max() > 0) for g in found)
