"""Other packages' projectors, prepared so that only their own work is timed."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Peer
from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry

__all__ = ["astra_peer", "rtk_peer", "scikit_image_peer"]

CPU = ("cpu",)


def _load_astra() -> Any:
    """ASTRA, after the CUDA libraries that its package does not find by itself."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or [] if spec else []:
        for name in ("cuda_runtime/lib/libcudart.so.12", "cufft/lib/libcufft.so.11"):
            if (Path(place) / name).exists():
                ctypes.CDLL(str(Path(place) / name), mode=ctypes.RTLD_GLOBAL)
    import astra

    return astra


def astra_peer(
    geometry: CTGeometry,
    projector: str,
    data: Tensor,
    *,
    what: str = "FP",
    view: Callable[[Tensor], Tensor] | None = None,
) -> Peer:
    """ASTRA on one thread (it has no more on the CPU) into its own arrays; ``what`` is FP, BP or FBP."""
    name = f"ASTRA FBP {projector}" if what == "FBP" else f"ASTRA {projector}"

    def prepare() -> Callable[[], Any]:
        astra = _load_astra()
        orbit = geometry.orbit
        assert orbit is not None
        n, angles, du = geometry.vol_shape[0], orbit.angles.numpy(), orbit.pixel_mm[0]
        vol_geom = astra.create_vol_geom(n, n)
        if orbit.source_detector_mm is None or orbit.source_origin_mm is None:
            proj_geom = astra.create_proj_geom("parallel", du, geometry.det_shape[0], angles)
        else:
            behind = orbit.source_detector_mm - orbit.source_origin_mm
            distances = (orbit.source_origin_mm, behind)
            proj_geom = astra.create_proj_geom("fanflat", du, geometry.det_shape[0], angles, *distances)
        forward = what == "FP"
        volume = astra.data2d.create("-vol", vol_geom, ops.volume_to_astra(data).numpy().copy() if forward else 0)
        sino = astra.data2d.create("-sino", proj_geom, 0 if forward else data.numpy())
        settings = astra.astra_dict(what)
        settings["ProjectorId"] = astra.create_projector(projector, proj_geom, vol_geom)
        settings["ProjectionDataId"] = sino
        settings["VolumeDataId" if forward else "ReconstructionDataId"] = volume
        if what == "FBP":
            settings["option"] = {"FilterType": "ram-lak"}
        algorithm = astra.algorithm.create(settings)

        def call() -> int:
            astra.algorithm.run(algorithm)
            return sino if forward else volume

        return call

    def seen(identity: int) -> Tensor:
        import astra

        result = torch.from_numpy(astra.data2d.get(identity).copy())
        assert view is not None
        return view(result if what == "FP" else ops.volume_from_astra(result))

    note = "one thread" if view else "not compared: exact lengths instead of linear interpolation; one thread"
    return Peer(name, prepare, view=seen if view else None, note=note, devices=CPU)


def scikit_image_peer(geometry: CTGeometry, data: Tensor, *, inverse: bool = False) -> Peer:
    """scikit-image's radon or iradon."""

    def prepare() -> Callable[[], Any]:
        from skimage.transform import iradon, radon

        assert geometry.orbit is not None
        degrees = np.degrees(geometry.orbit.angles.numpy())
        if inverse:
            columns = data.T.numpy().copy()
            return lambda: iradon(columns, degrees, circle=False, output_size=geometry.vol_shape[0])
        image = data.numpy()
        return lambda: radon(image, degrees, circle=True)

    name = f"scikit-image {'iradon' if inverse else 'radon'}"
    note = "not compared: turns the other way, about another centre, and on a detector as wide as the image"
    return Peer(name, prepare, note=note, max_rounds=2, devices=CPU)


def rtk_peer(
    geometry: CTGeometry, filter_name: str, data: Tensor, *, view: Callable[[Tensor], Tensor] | None = None
) -> Peer:
    """One of RTK's filters on the same cone beam, with as many threads as torch has.

    RTK turns about y: its y is our z, its z our y backwards.
    """

    def prepare() -> Callable[[], Any]:
        import itk
        from itk import RTK as rtk  # noqa: N811 - the name that RTK's own examples use

        orbit = geometry.orbit
        assert orbit is not None
        assert orbit.source_origin_mm is not None
        kind = itk.Image[itk.F, 3]
        scan = rtk.ThreeDCircularProjectionGeometry.New()
        for angle in np.degrees(orbit.angles.numpy()):
            scan.AddProjection(orbit.source_origin_mm, orbit.source_detector_mm, float(angle))
        rows, cols = geometry.det_shape
        du, dv = orbit.pixel_mm

        def volume(values: np.ndarray) -> Any:
            image = itk.image_from_array(values)
            image.SetOrigin([-(n - 1) / 2 for n in geometry.vol_shape[::-1]])
            return image

        def projections(values: np.ndarray) -> Any:
            image = itk.image_from_array(values)
            image.SetSpacing([du, dv, 1.0])
            image.SetOrigin([-(cols - 1) / 2 * du, -(rows - 1) / 2 * dv, 0.0])
            return image

        empty_volume = volume(np.zeros(geometry.vol_shape, np.float32))
        empty_projections = projections(np.zeros(geometry.proj_shape, np.float32))
        forward = filter_name.endswith("ForwardProjection")
        given = volume(data.permute(1, 0, 2).flip(0).numpy().copy()) if forward else projections(data.numpy().copy())
        inputs = (empty_projections, given) if forward else (empty_volume, given)
        make = rtk.FDKConeBeamReconstructionFilter[kind] if filter_name == "FDK" else None
        make = make or getattr(rtk, f"{filter_name}ImageFilter")[kind, kind]

        def call() -> Any:
            step = make.New()
            if hasattr(step, "InPlaceOff"):
                step.InPlaceOff()  # in place it would free what the next call needs
            step.SetInput(0, inputs[0])
            step.SetInput(1, inputs[1])
            step.SetGeometry(scan)
            step.SetNumberOfWorkUnits(torch.get_num_threads())
            step.Update()
            return step.GetOutput()

        return call

    def seen(image: Any) -> Tensor:
        import itk

        result = torch.from_numpy(itk.array_from_image(image))
        assert view is not None
        return view(result if filter_name.endswith("ForwardProjection") else result.flip(0).permute(1, 0, 2))

    note = "" if view else "not compared: weights of its own"
    return Peer(f"RTK {filter_name}", prepare, view=seen if view else None, note=note, max_rounds=3, devices=CPU)
