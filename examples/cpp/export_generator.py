"""Exports a generator for run_exported.cpp: python export_generator.py FOLDER.

Writes generator.pt (TorchScript), generator.pt2 (AOTInductor, machine code for this kind of machine), labels.raw and
expected.raw: what the generator makes of these labels in Python.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from medsynth_ext import ops

SIZE = (32, 40, 48)


class Generator(torch.nn.Module):
    """An image of deformed labels, blurred and thick-sliced."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.tensor([0.0, 60.0, 120.0, 200.0]))
        self.register_buffer("stds", torch.full((4,), 10.0))

    def forward(self, labels: Tensor) -> Tensor:  # (1, 1, *SIZE) uint8 -> float32
        """The image."""
        velocity = ops.resize_field(0.3 * ops.rand_normal((1, 3, 4, 4, 4), seed=1), SIZE)
        moved = ops.warp_labels(labels, ops.integrate_svf(velocity))
        image = ops.gmm_sample(moved, self.means, self.stds, seed=2)
        return ops.simulate_resolution(ops.gaussian_blur(image, (1.2, 0.5, 0.5)), [[16, *SIZE[1:]]])


def main(folder: Path) -> None:
    """Write all four files."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = (4 * ops.resample(ops.rand_uniform((1, 1, 4, 4, 4), seed=3), SIZE)).to(torch.uint8)
    generator = Generator().eval()
    torch.jit.save(torch.jit.trace(generator, (labels,)), str(folder / "generator.pt"))
    program = torch.export.export(generator, (labels,))
    torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "generator.pt2"))
    labels.numpy().tofile(folder / "labels.raw")
    generator(labels).numpy().tofile(folder / "expected.raw")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
