"""Voxels inside closed surfaces, and gradients to their vertices: as many faces as a heart of seven parts has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.goals import SIZE
from benchmarks.harness import Agreement, Case, Peer
from medsynth_ext import ops
from medsynth_ext.ops import reference

__all__ = ["cases"]

CPU = ("cpu",)
PARAMETERS = 21  # of a shape, for the finite differences
# Centre and radius of each part as shares of the grid's edge: chambers in a wall, and vessels that reach into them.
PARTS = ((0.39, 0.47, 0.5, 0.14), (0.47, 0.5, 0.47, 0.2), (0.62, 0.5, 0.5, 0.17), (0.5, 0.66, 0.39, 0.16))
PARTS += ((0.55, 0.31, 0.55, 0.15), (0.5, 0.5, 0.74, 0.09), (0.39, 0.62, 0.62, 0.09))


def cases(size: int, device: torch.device) -> Iterator[Callable[[], Case]]:
    """The cases of this family: 128^3 voxels, scaled by ``size`` over the size of the goals."""
    n = max(8, 128 * size // SIZE)
    yield partial(volume_case, "mesh", n, device)
    yield partial(parts_case, "mesh_parts", n, device)
    yield partial(gradient_case, "mesh_grad", n, device)


def _sphere(around: int, rings: int) -> tuple[Tensor, Tensor]:
    """The unit sphere in ``2 * around * rings`` triangles, a little uneven."""
    polar = torch.arange(1, rings + 1) * math.pi / (rings + 1)
    turn = torch.arange(around) * 2 * math.pi / around
    across = polar.sin()[:, None]
    ring = torch.stack([across * turn.cos(), across * turn.sin(), polar.cos()[:, None].expand(-1, around)], -1)
    verts = torch.cat([ring.reshape(-1, 3), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])])
    s, r = torch.arange(around), around * torch.arange(rings - 1)[:, None]
    t, north, south = (s + 1) % around, torch.full_like(s, around * rings), torch.full_like(s, around * rings + 1)
    last = around * (rings - 1)
    sides = [
        torch.stack([r + s, r + s + around, r + t], -1).reshape(-1, 3),
        torch.stack([r + t, r + s + around, r + t + around], -1).reshape(-1, 3),
    ]
    faces = torch.cat([torch.stack([north, s, t], 1), torch.stack([south, last + t, last + s], 1), *sides])
    return verts * (1 + 0.03 * torch.sin(7 * verts[:, :1]) * verts[:, 1:2]), faces


def _one(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """One surface of 8,610 triangles."""
    verts, faces = _sphere(105, 41)
    return (n * (0.35 * verts + 0.5))[None].to(device), faces.to(device)


def _heart(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Seven overlapping surfaces of 1,230 triangles each: vertices, faces and the part of every face."""
    verts, faces = _sphere(41, 15)
    parts = [n * (verts * part[3] + torch.tensor(part[:3])) for part in PARTS]
    all_faces = [faces + k * len(verts) for k in range(len(PARTS))]
    part = torch.arange(len(PARTS)).repeat_interleave(len(faces))
    return torch.cat(parts)[None].to(device), torch.cat(all_faces).to(device), part.to(device)


def _few_differ(want: Tensor, share: float) -> Callable[[Tensor], Agreement]:
    """Packages may differ in voxels whose centre lies on the surface."""

    def check(found: Tensor) -> Agreement:
        if found.shape != want.shape:
            return Agreement(False, f"shape {tuple(found.shape)}, wanted {tuple(want.shape)}")
        differ = int((found.float() != want.float()).sum())
        return Agreement(differ <= share * float(want.sum()), f"{differ} of {int(want.sum())} voxels differ")

    return check


def _same(x: Tensor) -> Tensor:
    return x


def _vtk_peer(verts: Tensor, faces: Tensor, n: int) -> Peer:
    """VTK's stencil, whose axes run the other way round."""

    def prepare() -> Callable[[], Tensor]:
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

        points, cells, surface = vtk.vtkPoints(), vtk.vtkCellArray(), vtk.vtkPolyData()
        points.SetData(numpy_to_vtk(verts[0].numpy()[:, ::-1].astype(np.float64), deep=True))
        counted = np.pad(faces.numpy(), ((0, 0), (1, 0)), constant_values=3)
        cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(counted.ravel(), deep=True))
        surface.SetPoints(points)
        surface.SetPolys(cells)

        def call() -> Tensor:
            stencil, image = vtk.vtkPolyDataToImageStencil(), vtk.vtkImageStencilToImage()
            stencil.SetInputData(surface)
            stencil.SetOutputWholeExtent(0, n - 1, 0, n - 1, 0, n - 1)
            image.SetInputConnection(stencil.GetOutputPort())
            image.SetInsideValue(1)
            image.SetOutputScalarTypeToUnsignedChar()
            image.Update()
            values = vtk_to_numpy(image.GetOutput().GetPointData().GetScalars())
            return torch.from_numpy(values).view(1, 1, n, n, n)

        return call

    return Peer("VTK PolyDataToImageStencil", prepare, "peer", lambda x: x.clone(), devices=CPU)


def _itk_peer(verts: Tensor, faces: Tensor, n: int) -> Peer:
    """ITK's filter, whose axes run the other way round."""

    def prepare() -> Callable[[], Tensor]:
        import itk

        kind = {"dimension": 3, "pointComponentType": "float32", "cellComponentType": "uint64"}
        for what in ("point", "cell"):
            kind |= {f"{what}PixelType": "Scalar", f"{what}PixelComponentType": "uint8", f"{what}PixelComponents": 1}
        triangles = np.concatenate([np.tile([2, 3], (len(faces), 1)), faces.numpy()], 1).astype(np.uint64)
        mesh = itk.mesh_from_dict(
            {
                "meshType": kind,
                "name": "",
                "dimension": 3,
                "numberOfPoints": verts.shape[1],
                "points": verts[0].numpy()[:, ::-1].astype(np.float32).ravel(),
                "numberOfPointPixels": 0,
                "pointData": np.zeros(0, np.uint8),
                "numberOfCells": len(faces),
                "cells": triangles.ravel(),
                "cellBufferSize": triangles.size,
                "numberOfCellPixels": 0,
                "cellData": np.zeros(0, np.uint8),
            }
        )

        def call() -> Tensor:
            fill = itk.TriangleMeshToBinaryImageFilter[type(mesh), itk.Image[itk.UC, 3]].New(Input=mesh)
            fill.SetSize([n] * 3)
            fill.SetSpacing([1.0] * 3)
            fill.SetOrigin([0.0] * 3)
            fill.SetInsideValue(1)
            fill.Update()
            return torch.from_numpy(itk.array_from_image(fill.GetOutput())).view(1, 1, n, n, n)

        return call

    return Peer("ITK TriangleMeshToBinaryImage", prepare, "peer", _same, devices=CPU)


def _libigl_peer(verts: Tensor, faces: Tensor, n: int) -> Peer:
    """libigl's fast winding numbers at all voxel centres; they are not exact near the surface."""

    def prepare() -> Callable[[], Tensor]:
        import igl

        places = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64)] * 3).numpy()
        corners, triangles = verts[0].double().numpy(), faces.numpy()

        def call() -> Tensor:
            times = igl.fast_winding_number(corners, triangles, places)
            return torch.from_numpy(times > 0.5).view(1, 1, n, n, n)

        return call

    return Peer("libigl fast_winding_number", prepare, "peer", _same, max_rounds=2, devices=CPU)


def _trimesh_peer(verts: Tensor, faces: Tensor) -> Peer:
    def prepare() -> Callable[[], Tensor]:
        import trimesh

        surface = trimesh.Trimesh(verts[0].double().numpy(), faces.numpy(), process=False)
        return lambda: torch.from_numpy(surface.voxelized(1.0).fill().matrix)

    note = "another rule: also all voxels that the surface touches"
    return Peer("trimesh voxelized + fill", prepare, "peer", None, note, max_rounds=2, devices=CPU)


def volume_case(key: str, n: int, device: torch.device) -> Case:
    """What is inside one surface, as bytes."""
    verts, faces = _one(n, device)
    size = (n, n, n)
    out = torch.empty(1, 1, *size, dtype=torch.uint8, device=device)

    def ours(target: Tensor | None) -> Tensor:
        return ops.voxelize_mesh(verts, faces, shape=size, grad="none", out=target)

    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ours(out), "out", _same),
        Peer("medsynth_ext", lambda: lambda: ours(None), "fresh", _same),
        Peer("twin", lambda: lambda: reference.voxelize_mesh(verts, faces, shape=size, grad="none"), "twin", _same),
        _vtk_peer(verts, faces, n),
        _itk_peer(verts, faces, n),
        _libigl_peer(verts, faces, n),
        _trimesh_peer(verts, faces),
    ]
    title = f"inside of a surface of {len(faces):,} triangles, {n}^3, bytes"
    return Case(key, title, peers, _few_differ(ours(None), 1e-3), least_bytes=out.numel(), samples=1)


def parts_case(key: str, n: int, device: torch.device) -> Case:
    """Seven parts of which the first keeps a voxel, as float32 for a network."""
    verts, faces, part = _heart(n, device)
    options = {"shape": (n, n, n), "part": part, "n_parts": len(PARTS), "priority": range(len(PARTS))}
    out = torch.empty(1, len(PARTS), n, n, n, device=device)

    def ours(target: Tensor | None) -> Tensor:
        return ops.voxelize_mesh(verts, faces, out=target, **options)

    peers = [
        Peer("medsynth_ext, out=", lambda: lambda: ours(out), "out", _same),
        Peer("medsynth_ext", lambda: lambda: ours(None), "fresh", _same),
        Peer("twin", lambda: lambda: reference.voxelize_mesh(verts, faces, **options), "twin", _same, max_rounds=2),
    ]
    title = f"seven ordered parts of {len(faces):,} triangles, {n}^3, float32"
    return Case(key, title, peers, _few_differ(ours(None), 0.0), least_bytes=4 * out.numel(), samples=1)


def gradient_case(key: str, n: int, device: torch.device) -> Case:
    """Voxelisation and the gradient to the vertices."""
    verts, faces, part = _heart(n, device)
    options = {"shape": (n, n, n), "part": part, "n_parts": len(PARTS)}
    field = torch.rand(1, len(PARTS), n, n, n, device=device)
    leaf = verts.clone().requires_grad_()

    def forward_and_back(module: object) -> Tensor:
        voxels = module.voxelize_mesh(leaf, faces, **options)  # type: ignore[attr-defined]
        return torch.autograd.grad(voxels, leaf, field)[0]

    def differences() -> Tensor:
        waves = [torch.sin((k + 1) * verts / n) for k in range(PARAMETERS)]

        def moved(t: Tensor) -> Tensor:
            return ops.voxelize_mesh(verts + sum(a * w for a, w in zip(t, waves, strict=True)), faces, **options)

        return ops.finite_difference_shape_grad(moved, torch.zeros(PARAMETERS, device=device), 0.6, field)

    want = forward_and_back(reference)

    def check(found: Tensor) -> Agreement:
        gap = ((found - want).abs().max() / want.abs().max()).item()
        return Agreement(gap <= 1e-5, f"largest difference {gap:.1e} of the largest")

    note = f"to {PARAMETERS} parameters of a shape, by {2 * PARAMETERS} voxelisations"
    peers = [
        Peer("medsynth_ext", lambda: partial(forward_and_back, ops), "fresh", _same),
        Peer("twin", lambda: partial(forward_and_back, reference), "twin", _same, max_rounds=2),
        Peer("finite differences", lambda: differences, "variant", None, note, max_rounds=2),
    ]
    title = f"forward and backward, seven parts of {len(faces):,} triangles, {n}^3"
    return Case(key, title, peers, check, samples=1, grad=True)
