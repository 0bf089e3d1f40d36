"""Random affine and diffeomorphic deformation with one interpolation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms.utils import create_rotate, create_scale, create_shear
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.transforms._random_image import RandImageTransform, RandImageTransformd

__all__ = ["RandSVFAffine", "RandSVFAffined"]


class RandSVFAffine(RandImageTransform):
    """Deform an image by a random affine map and the flow of a random smooth velocity field.

    The velocity is Gaussian at nodes ``node_spacing`` voxels apart, resized to half the image's resolution and
    integrated by scaling and squaring, so the deformation has an inverse (no folds), unlike MONAI's ``Rand3DElastic``.
    Affine and displacement are applied as one location per voxel and one interpolation:
    ``y(x) = image(A (x - c + u(x)) + c)``.

    Args:
        prob: probability of the deformation.
        rotate_range_deg: angles are uniform in ± this; one angle in 2D, one per axis in 3D.
        scale_range: scale factors per axis are uniform in 1 ± this.
        shear_range: shears are uniform in ± this.
        translate_range: shift per axis in voxels, uniform in ± this.
        velocity_std: the velocity's standard deviation at the nodes is uniform in 0 to this, in voxels.
        node_spacing: distance of the nodes in voxels.
        steps: squarings of the integration.
        mode: ``"linear"`` for images or ``"nearest"`` for labels (kept in their integer type).
        border: ``"clamp"``, ``"zeros"`` or ``"reflect"``.

    Raises:
        ValueError: for another mode or border, or an image that is not (C, H, W) or (C, D, H, W).
    """

    def __init__(
        self,
        prob: float = 1.0,
        *,
        rotate_range_deg: float = 15.0,
        scale_range: float = 0.2,
        shear_range: float = 0.012,
        translate_range: float = 0.0,
        velocity_std: float = 4.0,
        node_spacing: float = 25.0,
        steps: int = 7,
        mode: str = "linear",
        border: str = "clamp",
    ) -> None:
        super().__init__(prob)
        if mode not in ("linear", "nearest"):
            raise ValueError(f"mode must be 'linear' or 'nearest', got {mode!r}")
        if border not in ("clamp", "zeros", "reflect"):
            raise ValueError(f"border must be 'clamp', 'zeros' or 'reflect', got {border!r}")
        if node_spacing <= 0:
            raise ValueError(f"node_spacing must be positive, got {node_spacing}")
        self.rotate_range_deg = rotate_range_deg
        self.scale_range = scale_range
        self.shear_range = shear_range
        self.translate_range = translate_range
        self.velocity_std = velocity_std
        self.node_spacing = node_spacing
        self.steps = steps
        self.mode = mode
        self.border = border
        self.matrix = torch.zeros(0)  # (D, D + 1)
        self.displacement = torch.zeros(0)  # (1, D, *half of the size)

    def _draw(self, size: Sequence[int]) -> None:
        dims = len(size)
        angles = (self.R.uniform(-1, 1, 1 if dims == 2 else 3) * math.radians(self.rotate_range_deg)).tolist()
        scale = create_scale(dims, (1 + self.R.uniform(-1, 1, dims) * self.scale_range).tolist())
        shear = create_shear(dims, (self.R.uniform(-1, 1, dims * (dims - 1)) * self.shear_range).tolist())
        affine = torch.as_tensor(np.asarray(scale @ shear @ create_rotate(dims, angles)))[:dims, :dims].double()
        shift = torch.from_numpy(self.R.uniform(-1, 1, dims) * self.translate_range)
        matrix = ops.lab2im_matrix(affine[None], size)[0]
        matrix[:, dims] += shift
        self.matrix = matrix.float()
        nodes = [max(2, math.ceil(n / self.node_spacing)) for n in size]
        std = self.R.uniform(0, self.velocity_std)
        velocity = torch.from_numpy(self.R.standard_normal((1, dims, *nodes)).astype(np.float32)) * std
        half = [max(2, n // 2) for n in size]
        # A velocity in image voxels is half as many voxels of the half-size grid; the displacement is doubled back.
        velocity = ops.resize_field(velocity, half, rule="half_pixel", rescale=False) * 0.5
        self.displacement = ops.integrate_svf(velocity, self.steps) * 2.0

    def __call__(self, image: Tensor, *, randomize: bool = True, mode: str | None = None) -> Tensor:  # (C, *S) both
        return self._transformed(image, randomize, partial(self._apply, mode=mode))

    def _apply(self, image: Tensor, *, mode: str | None = None) -> Tensor:
        mode = self.mode if mode is None else mode
        # Half precision would place voxels up to half a voxel off: locations are float32 for it, and for labels.
        exact = image.dtype if image.dtype == torch.float64 else torch.float32
        source = image.to(exact) if mode == "linear" or image.is_floating_point() else image
        # Channels go through one after the other as samples: integer labels keep their type.
        warped = ops.affine_svf_warp(
            source[:, None],
            self.matrix[None].to(source.device, exact),
            self.displacement.to(source.device, exact),
            out_shape=source.shape[1:],
            mode=mode,
            border=self.border,
            disp_rule="half_pixel",
        )[:, 0]
        return warped.to(image.dtype) if image.is_floating_point() else warped


class RandSVFAffined(RandImageTransformd):
    """Dictionary version of :class:`RandSVFAffine`: all keys share one deformation.

    Args:
        keys: images and label maps of one spatial size.
        mode: one interpolation mode, or one per key.
        allow_missing_keys: leave out keys that are missing.
        prob: see :class:`RandSVFAffine`, as all other arguments.
    """

    transform: RandSVFAffine

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        *,
        mode: str | Sequence[str] = "linear",
        allow_missing_keys: bool = False,
        rotate_range_deg: float = 15.0,
        scale_range: float = 0.2,
        shear_range: float = 0.012,
        translate_range: float = 0.0,
        velocity_std: float = 4.0,
        node_spacing: float = 25.0,
        steps: int = 7,
        border: str = "clamp",
    ) -> None:
        transform = RandSVFAffine(
            prob,
            rotate_range_deg=rotate_range_deg,
            scale_range=scale_range,
            shear_range=shear_range,
            translate_range=translate_range,
            velocity_std=velocity_std,
            node_spacing=node_spacing,
            steps=steps,
            border=border,
        )
        super().__init__(keys, transform, allow_missing_keys)
        self.modes = dict(zip(self.keys, [mode] * len(self.keys) if isinstance(mode, str) else mode, strict=True))

    def _transform_key(self, key: Hashable, image: Tensor) -> Tensor:
        return self.transform(image, randomize=False, mode=self.modes[key])
