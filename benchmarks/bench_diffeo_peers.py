"""Other packages' integration and warping, prepared so that only their own work is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.compositions import identity, interior
from benchmarks.harness import Needs, Peer

__all__ = ["svf_peers", "warp_peers"]


def _vectors_last(field: Tensor) -> np.ndarray:  # (D, H, W, 3), x first
    """A field as ITK holds it."""
    return np.ascontiguousarray(field[0].permute(1, 2, 3, 0).flip(-1).cpu().numpy())


def _monai_block(name: str, **options: Any) -> Any:
    """A MONAI warping block in its native form, whatever was compiled."""
    from monai.networks.blocks import warp as module

    if module.USE_COMPILED:
        raise Needs("this MONAI was built with its C++ extension; the row is for the native form")
    return getattr(module, name)(**options)


def svf_peers(
    v: Tensor,
    steps: int,
    *,
    gradient: Callable[..., Callable[[], Any]] | None = None,
    view: Callable[[Any], Tensor] = interior,
) -> list[Peer]:
    """Integration by other packages; with ``gradient`` forward and backward."""

    def bind(call: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
        return gradient(call, v) if gradient else lambda: call(v)

    def voxelmorph() -> Callable[[], Any]:
        import voxelmorph as vxm

        return bind(lambda x: vxm.nn.functional.integrate_vec(x, steps))

    def monai() -> Callable[[], Any]:
        block = _monai_block("DVF2DDF", num_steps=steps, mode="bilinear", padding_mode="border").to(v.device)
        return bind(block)

    def interpol() -> Callable[[], Any]:
        import interpol as package

        grid = identity(v.shape[-1], v.device)[0].permute(1, 2, 3, 0)

        def call(x: Tensor) -> Tensor:
            d = x / 2**steps
            for _ in range(steps):
                where = (grid + d[0].permute(1, 2, 3, 0))[None]
                d = d + package.grid_pull(d, where, interpolation=1, bound="replicate", extrapolate=True)
            return d

        return bind(call)

    def itk() -> Callable[[], Any]:
        import itk as package

        package.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
        array = _vectors_last(v).astype(np.float64)
        image = package.image_view_from_array(array, ttype=package.Image[package.Vector[package.D, 3], 3])

        def call(_keep: np.ndarray = array) -> Any:  # a view does not own its array
            transform = package.ConstantVelocityFieldTransform[package.D, 3].New()
            transform.SetConstantVelocityField(image)
            transform.SetCalculateNumberOfIntegrationStepsAutomatically(False)
            transform.SetNumberOfIntegrationSteps(steps)
            transform.SetLowerTimeBound(0.0)
            transform.SetUpperTimeBound(1.0)
            transform.IntegrateVelocityField()
            return transform.GetDisplacementField()

        return call

    def itk_view(image: Any) -> Tensor:
        import itk as package

        array = torch.from_numpy(package.array_from_image(image)).flip(-1)
        return interior(array.permute(3, 0, 1, 2)[None]).to(v.device)

    peers = [
        Peer("voxelmorph integrate_vec", voxelmorph, view=view, note="zeros outside the field"),
        Peer("MONAI DVF2DDF", monai, view=view),
        Peer("torch-interpol grid_pull loop (cornucopia's)", interpol, view=view, max_rounds=2),
    ]
    if gradient is None:
        note = "double precision"
        peers.append(Peer("ITK constant-velocity transform", itk, view=itk_view, note=note, devices=("cpu",)))
    return peers


def warp_peers(
    image: Tensor,  # (1, 1, n, n, n) float32
    field: Tensor,
    mode: str,
    *,
    gradient: Callable[..., Callable[[], Any]] | None = None,
    view: Callable[[Any], Tensor] = interior,
) -> list[Peer]:
    """Warps by other packages, linear or nearest; with ``gradient`` forward and backward."""

    def bind(call: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Any]:
        return gradient(call, image, field) if gradient else lambda: call(image, field)

    def voxelmorph() -> Callable[[], Any]:
        import voxelmorph as vxm

        transform = vxm.nn.functional.spatial_transform
        return bind(lambda x, d: transform(x, d, method=mode, non_spatial_dims=(0, 1)))

    def monai() -> Callable[[], Any]:
        block = _monai_block("Warp", mode="bilinear" if mode == "linear" else "nearest", padding_mode="border")
        return bind(block.to(image.device))

    def interpol() -> Callable[[], Any]:
        import interpol as package

        grid = identity(image.shape[-1], image.device)[0].permute(1, 2, 3, 0).contiguous()
        order = 1 if mode == "linear" else 0
        pull = package.grid_pull
        return bind(
            lambda x, d: pull(
                x, (grid + d[0].permute(1, 2, 3, 0))[None], interpolation=order, bound="replicate", extrapolate=True
            )
        )

    peers = [
        Peer("voxelmorph spatial_transform", voxelmorph, view=view, note="zeros outside the volume"),
        Peer("MONAI Warp", monai, view=view),
        Peer("torch-interpol grid_pull", interpol, view=view, max_rounds=5),
    ]
    return peers if gradient else peers + _array_peers(image, field, mode)


def _array_peers(image: Tensor, field: Tensor, mode: str) -> list[Peer]:
    """Packages that work on arrays or images on the CPU."""
    linear = mode == "linear"

    def from_array(array: np.ndarray) -> Tensor:
        return interior(torch.from_numpy(array)[None, None])

    def itk() -> Callable[[], Any]:
        import itk as package

        scalar, vector = package.Image[package.F, 3], package.Image[package.Vector[package.F, 3], 3]
        arrays = (np.ascontiguousarray(image[0, 0].numpy()), _vectors_last(field))
        moving = package.image_view_from_array(arrays[0])
        displacement = package.image_view_from_array(arrays[1], ttype=vector)

        def call(_keep: tuple[np.ndarray, ...] = arrays) -> Any:  # a view does not own its array
            options: dict[str, Any] = {"Input": moving, "DisplacementField": displacement}
            warp = package.WarpImageFilter[scalar, scalar, vector].New(**options)
            if not linear:
                warp.SetInterpolator(package.NearestNeighborInterpolateImageFunction[scalar, package.D].New())
            warp.SetOutputParametersFromImage(moving)
            warp.SetNumberOfWorkUnits(torch.get_num_threads())
            warp.Update()
            return warp.GetOutput()

        return call

    def itk_view(result: Any) -> Tensor:
        import itk as package

        return from_array(package.array_from_image(result))

    def simpleitk() -> Callable[[], Any]:
        import SimpleITK as sitk  # noqa: N813 - the name everybody uses

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
        displacement = sitk.GetImageFromArray(_vectors_last(field).astype(np.float64), isVector=True)
        transform = sitk.DisplacementFieldTransform(displacement)
        moving = sitk.GetImageFromArray(image[0, 0].numpy())
        interpolator = sitk.sitkLinear if linear else sitk.sitkNearestNeighbor
        return lambda: sitk.Resample(moving, moving, transform, interpolator, 0.0)

    def simpleitk_view(result: Any) -> Tensor:
        import SimpleITK as sitk  # noqa: N813

        return from_array(sitk.GetArrayFromImage(result))

    def scipy() -> Callable[[], Any]:
        from scipy.ndimage import map_coordinates

        array, where = image[0, 0].numpy(), (identity(image.shape[-1], image.device) + field)[0].numpy()
        return lambda: map_coordinates(array, where, order=1 if linear else 0, mode="nearest")

    def torchio() -> Callable[[], Any]:
        import torchio as tio

        transform = tio.RandomElasticDeformation(
            num_control_points=10, max_displacement=6.0, image_interpolation="linear" if linear else "nearest"
        )
        subject = tio.Subject(i=tio.ScalarImage(tensor=image[0]))
        return lambda: transform(subject)

    cpu = ("cpu",)
    own_field = "not compared: a B-spline field of its own"
    return [
        Peer("ITK WarpImageFilter", itk, view=itk_view, note="zeros outside the volume", devices=cpu),
        Peer("SimpleITK Resample", simpleitk, view=simpleitk_view, note="zeros outside the volume", devices=cpu),
        Peer("scipy map_coordinates", scipy, view=from_array, note="one thread, grid ready", devices=cpu),
        Peer("TorchIO RandomElasticDeformation", torchio, note=own_field, max_rounds=5, devices=cpu),
    ]
