"""SynthSeg's generative model: from a label map to a training image of random contrast and resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.generators.synthseg_parameters import SynthSegParameters, SynthSegRanges, draw_parameters

if TYPE_CHECKING:
    from medsynth_ext.methods.synthseg.labels import LabelTable

__all__ = ["SynthSegGenerator"]


class SynthSegGenerator:
    """Makes pairs of image and target from label maps (Billot et al., MedIA 2023).

    Per sample: an affine and diffeomorphic deformation with a random crop and a left-right flip, Gaussian intensities
    per class, a bias field, gamma, and a simulated slice thickness and spacing. Everything is drawn from counters: a
    sample is addressed by ``(seed, index)`` and comes out the same for any batch, any number of threads, and on any
    device up to rounding. Work is done on the device of the label maps.

    The deformation and the crop are one interpolation (only the crop is computed); the flip, lesions and skull
    stripping are changes of a small table, not of the volume.

    Args:
        label_table: which labels occur, their classes, and what is predicted.
        crop_size: size of the image in voxels.
        spacing_mm: voxel size of the image; the maps may be finer or coarser.
        map_spacing_mm: voxel size of the maps (isotropic).
        channels: images per sample with intensities of their own, as in multi-modal scans.
        steps: squarings of the velocity integration.
        nearest_downsampling: sample the low resolution without interpolation, as the published code does.
        target_dtype: integer type of the target.
        validate: refuse label values that the table does not list. On CUDA this waits for the result.
        ranges: the ranges of :class:`SynthSegRanges`; or give its arguments here by name.

    Raises:
        ValueError: for crop sizes below 4 voxels, non-positive spacings, or wrong ranges.
    """

    def __init__(
        self,
        label_table: LabelTable,
        *,
        crop_size: Sequence[int],
        spacing_mm: float = 1.0,
        map_spacing_mm: float = 1.0,
        channels: int = 1,
        steps: int = 7,
        nearest_downsampling: bool = False,
        target_dtype: torch.dtype = torch.int64,
        validate: bool = True,
        ranges: SynthSegRanges | None = None,
        **range_arguments: Any,
    ) -> None:
        if len(crop_size) != 3 or min(crop_size) < 4:
            raise ValueError(f"crop_size must be three sizes of at least 4 voxels, got {tuple(crop_size)}")
        if not (spacing_mm > 0 and map_spacing_mm > 0):
            raise ValueError(f"spacing_mm and map_spacing_mm must be positive, got {spacing_mm} and {map_spacing_mm}")
        if ranges is not None and range_arguments:
            raise ValueError(f"give either ranges or single ranges by name, got both: {sorted(range_arguments)}")
        self.label_table = label_table
        self.crop_size = tuple(int(n) for n in crop_size)
        self.spacing_mm = float(spacing_mm)
        self.map_spacing_mm = float(map_spacing_mm)
        self.channels = channels
        self.steps = steps
        self.nearest_downsampling = nearest_downsampling
        self.target_dtype = target_dtype
        self.validate = validate
        self.ranges = ranges if ranges is not None else SynthSegRanges(**range_arguments)
        self._scratch: dict[tuple, Tensor] = {}
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(
        self,
        labels: Tensor,  # (B, 1, D, H, W) integer label values, RAS
        *,
        seed: int,
        index: int = 0,
        center: Tensor | None = None,  # (B, 3) crop centre in map voxels; anywhere when None
        out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:  # (B, C, *crop) float32 in [0, 1], (B, 1, *crop) target_dtype
        """Make the samples ``index .. index + B - 1`` of a seed.

        With ``out`` the results are written there, which spares the cost of fresh memory.

        Raises:
            ValueError: for a wrong shape, or a label that the table does not list.
        """
        parameters = self.draw(labels.shape, seed=seed, index=index, center=center)
        return self.apply(labels, parameters, seed=seed, index=index, out=out)

    def draw(
        self, shape: Sequence[int], *, seed: int, index: int = 0, center: Tensor | None = None
    ) -> SynthSegParameters:
        """The random parameters for label maps of this shape, as a record that :meth:`apply` can use again."""
        if len(shape) != 5 or shape[1] != 1:
            raise ValueError(f"labels must be (B, 1, D, H, W), got {tuple(shape)}")
        table = self.label_table
        return draw_parameters(
            self.ranges,
            seed=seed,
            index=index,
            batch=shape[0],
            crop_size=self.crop_size,
            spacing_mm=self.spacing_mm,
            map_size=shape[2:],
            map_spacing_mm=self.map_spacing_mm,
            classes=table.class_of,
            flip_index=table.flip,
            lesion_source=table.lesion_source,
            extra_cerebral=table.is_extra_cerebral,
            csf=table.is_csf,
            channels=self.channels,
            center=center,
        )

    def apply(
        self,
        labels: Tensor,
        parameters: SynthSegParameters,
        *,
        seed: int,
        index: int = 0,
        out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Make the pair from drawn parameters; ``seed`` and ``index`` address the noise."""
        batch, device = labels.shape[0], labels.device
        image_shape, target_shape = (batch, self.channels, *self.crop_size), (batch, 1, *self.crop_size)
        image, target = out if out is not None else (None, None)
        if image is None:
            image = torch.empty(image_shape, device=device)
        if target is None:
            target = torch.empty(target_shape, dtype=self.target_dtype, device=device)
        lut, targets = self._table(device)

        warped = self._deform(labels, parameters)
        means, stds = parameters.means.to(device), parameters.stds.to(device)
        noisy = ops.synth_image(
            warped,
            means,
            stds,
            lut=lut,
            bias_grid=parameters.bias_grid.to(device),
            gamma=parameters.gamma.to(device),
            seed=seed,
            sample_offset=index,
            validate=self.validate,
            out=self._buffer("noisy", image_shape, torch.float32, device),
        )
        blurred = ops.gaussian_blur(
            noisy, parameters.blur_sigma.to(device), out=self._buffer("blurred", image_shape, torch.float32, device)
        )
        mode = "nearest" if self.nearest_downsampling else "linear"
        ops.simulate_resolution(blurred, parameters.low_size, mode=mode, out=image)

        # Value -> generation index (unknown ones were refused above) -> the label it counts as -> target channel.
        by_index = targets[parameters.source.to(device)].to(self.target_dtype)
        ops.map_labels(warped, by_index[:, lut.clamp(min=0).long()], validate=False, out=target)
        return image, target

    def _deform(self, labels: Tensor, parameters: SynthSegParameters) -> Tensor:
        """The labels on the output grid, in the type of the map."""
        batch, device = labels.shape[0], labels.device
        grid = [max(2, n // 2) for n in self.crop_size]
        velocity = ops.resize_field(
            parameters.velocity.to(device),
            grid,
            rule="corner",
            rescale=False,
            out=self._buffer("velocity", (batch, 3, *grid), torch.float32, device),
        )
        displacement = ops.integrate_svf(
            velocity,
            steps=self.steps,
            out=self._buffer("displacement", (batch, 3, *grid), torch.float32, device),
        )
        if parameters.displacement_scale != 1.0:
            displacement.mul_(parameters.displacement_scale)
        return ops.affine_svf_warp(
            labels,
            parameters.matrix.float().to(device),
            displacement,
            out_shape=self.crop_size,
            mode="nearest",
            border="clamp",
            disp_rule="corner",
            out=self._buffer("labels", (batch, 1, *self.crop_size), labels.dtype, device),
        )

    def _table(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._tables:
            table = self.label_table
            self._tables[device] = (table.lut.to(device), table.target_of.long().to(device))
        return self._tables[device]

    def _buffer(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Scratch that is kept between calls: fresh memory costs more than the arithmetic."""
        key = (name, tuple(shape), dtype, device)
        if key not in self._scratch:
            for old in [k for k in self._scratch if k[0] == name]:
                del self._scratch[old]
            self._scratch[key] = torch.empty(tuple(shape), dtype=dtype, device=device)
        return self._scratch[key]
