"""Agreement with other packages' projectors, where they are installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from ct_scans import ellipsoid, turn

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry


def rel(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def smooth_image(size: int) -> torch.Tensor:
    """Two blurred ellipses inside the inscribed circle."""
    grid = CTGeometry.parallel2d([0.0], 1, 1.0, (size, size))
    image = ellipsoid(grid, (8.0, -5.0), (40.0, 22.0)) + 0.5 * ellipsoid(grid, (-10.0, 12.0), (9.0, 14.0))
    return ops.gaussian_blur(image[None, None].float(), 2.0)[0, 0]


def test_radon_of_scikit_image() -> None:
    radon = pytest.importorskip("skimage.transform").radon
    image = smooth_image(129)  # odd: scikit-image turns about pixel N // 2
    angles = turn(30, math.pi)
    geometry = CTGeometry.parallel2d(-angles, 129, 1.0, (129, 129))  # its rows run downwards, so it turns the other way
    theirs = torch.from_numpy(radon(image.numpy(), np.degrees(angles.numpy()), circle=True).T)
    assert rel(ops.ct_forward(image, geometry), theirs) < 2e-3


def test_iradon_of_scikit_image() -> None:
    iradon = pytest.importorskip("skimage.transform").iradon
    image = smooth_image(129)
    angles = turn(180, math.pi)
    geometry = CTGeometry.parallel2d(-angles, 129, 1.0, (129, 129))
    proj = ops.ct_forward(image, geometry)
    theirs = iradon(proj.T.numpy(), np.degrees(angles.numpy()), circle=False, output_size=129)
    ours = ops.fbp(proj, geometry)
    assert rel(ours, torch.from_numpy(theirs)) < 5e-3
    place = torch.arange(129) - 64
    seen = place[:, None] ** 2 + place**2 < 60**2  # the detector misses the corners
    assert rel(ours[seen], image[seen]) < 0.01


def astra_project(geometry: CTGeometry, projector: str, data: torch.Tensor, *, adjoint: bool) -> torch.Tensor:
    """ASTRA's projection or back-projection on the CPU."""
    astra: Any = pytest.importorskip("astra", exc_type=ImportError)
    vol_geom, proj_geom = geometry.to_astra()
    identity = astra.create_projector(projector, proj_geom, vol_geom)
    volume = astra.data2d.create("-vol", vol_geom, 0 if adjoint else ops.volume_to_astra(data).numpy().copy())
    sino = astra.data2d.create("-sino", proj_geom, data.numpy() if adjoint else 0)
    settings = astra.astra_dict("BP" if adjoint else "FP")
    settings["ProjectorId"] = identity
    settings["ProjectionDataId"] = sino
    settings["ReconstructionDataId" if adjoint else "VolumeDataId"] = volume
    astra.algorithm.run(astra.algorithm.create(settings))
    result = torch.from_numpy(astra.data2d.get(volume if adjoint else sino).copy())
    astra.clear()
    return ops.volume_from_astra(result) if adjoint else result


@pytest.mark.parametrize(("projector", "model"), [("linear", "joseph"), ("line", "siddon")])
def test_astras_parallel_projectors(projector: str, model: str) -> None:
    geometry = CTGeometry.parallel2d(turn(30, math.pi), 180, 0.9, (90, 110), offset_mm=0.35)
    image = torch.rand(90, 110)
    theirs = astra_project(geometry, projector, image, adjoint=False)
    assert rel(ops.ct_forward(image, geometry, model=model), theirs) < 2e-4
    proj = torch.rand(geometry.proj_shape)
    theirs = astra_project(geometry, projector, proj, adjoint=True)
    assert rel(ops.ct_adjoint(proj, geometry, model=model), theirs) < 2e-4


def test_astras_fan_projector() -> None:
    geometry = CTGeometry.fan2d(turn(30), 180, 1.4, (90, 110), source_origin_mm=200.0, source_detector_mm=300.0)
    image, proj = torch.rand(90, 110), torch.rand(geometry.proj_shape)
    theirs = astra_project(geometry, "line_fanflat", image, adjoint=False)
    assert rel(ops.ct_forward(image, geometry, model="siddon"), theirs) < 2e-4
    theirs = astra_project(geometry, "line_fanflat", proj, adjoint=True)
    assert rel(ops.ct_adjoint(proj, geometry, model="siddon"), theirs) < 2e-4


def test_astras_vectors_of_its_own_geometries() -> None:
    astra: Any = pytest.importorskip("astra", exc_type=ImportError)
    vol_geom = astra.create_vol_geom(20, 30, 10)
    angles = np.linspace(0, 2, 7)
    for plain in (
        astra.create_proj_geom("parallel3d", 1.5, 2.0, 5, 8, angles),
        astra.create_proj_geom("cone", 1.5, 2.0, 5, 8, angles, 60.0, 30.0),
    ):
        ours = CTGeometry.from_astra(vol_geom, plain)
        torch.testing.assert_close(ours.vectors, torch.from_numpy(astra.geom_2vec(plain)["Vectors"]))
