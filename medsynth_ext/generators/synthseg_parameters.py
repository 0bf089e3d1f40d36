"""What SynthSeg draws at random for one training image: ranges, drawing, and the drawn values as a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsynth_ext import ops

__all__ = ["SynthSegParameters", "SynthSegRanges", "draw_parameters"]

# Every group of scalars has a channel of its own in the counter-based generator: a new group never shifts the others.
_GROUPS = (
    "flip",
    "strip",
    "lesion",
    "rotation",
    "scaling",
    "shearing",
    "translation",
    "crop",
    "svf",
    "bias",
    "gamma",
    "background",
    "resolution",
    "spacing",
    "thickness",
    "blur",
    "mean",
    "std",
)
_SCALAR_STREAM, _VELOCITY_STREAM, _BIAS_STREAM = 4, 2, 3


@dataclass(frozen=True)
class SynthSegRanges:
    """Ranges and probabilities of the generative model (Billot et al., MedIA 2023, section 3.1).

    Lengths are in millimetres, angles in degrees, intensities on the paper's scale of 0 to 255.

    Args:
        rotation_deg: angles about each axis are uniform in ``±rotation_deg``.
        scaling: scale factors per axis are uniform in ``1 ± scaling``.
        shearing: the six shears are uniform in ``±shearing``.
        translation_mm: shift per axis, uniform in ``±translation_mm``; a random crop usually replaces it.
        svf_std: standard deviation of the velocity at the nodes is uniform in ``0..svf_std`` (millimetres of final
            displacement, in the convention of the published generator, see ``svf_rescale``).
        svf_node_mm: distance of the velocity nodes.
        svf_rescale: whether displacements found at half resolution are doubled for full resolution. The published
            generator does not double them; with doubling its fields come close to folding.
        mean_range: range of the class means.
        std_range: range of the class standard deviations.
        class_means: ``(K, 2)`` mean and deviation of a Gaussian prior per class instead of ``mean_range``.
        class_stds: the same for the standard deviations.
        background_black_prob: probability that the background is exactly 0.
        background_dark_prob: probability of a dark background, mean uniform in 0..15 and deviation in 0..5.
        bias_prob: probability of a bias field.
        bias_std: standard deviation of the logarithm at the bias nodes is uniform in ``0..bias_std``.
        bias_node_mm: distance of the bias nodes.
        gamma_std: standard deviation of the logarithm of the exponent.
        randomise_resolution: whether a low resolution is simulated.
        native_prob: probability that an image keeps its resolution.
        isotropic_prob: probability, among the others, of the same low resolution on every axis.
        independent_axes: draw the axes of that case independently, as the published code does.
        max_spacing_iso_mm: coarsest spacing of that case.
        max_spacing_aniso_mm: coarsest spacing of one random axis otherwise.
        fixed_spacing_mm: one spacing per axis instead of random ones (a network per resolution).
        fixed_thickness_mm: the slice thickness that goes with it; the spacing when ``None``.
        blur_jitter: the blur is multiplied by a number uniform in ``1/blur_jitter..blur_jitter``.
        flip_prob: probability of a left-right flip; 0 for organs without symmetry.
        strip_prob: probability that everything outside the brain becomes background.
        strip_csf_prob: probability, when stripped, that the fluid around the brain goes too.
        lesion_prob: probability that lesion labels keep an intensity of their own; else they look like their tissue.
        crop_jitter_mm: with a given crop centre, the crop is shifted by up to this much per axis.

    Raises:
        ValueError: for a negative range, a probability outside [0, 1] or priors of another shape.
    """

    rotation_deg: float = 15.0
    scaling: float = 0.2
    shearing: float = 0.012
    translation_mm: float = 0.0
    svf_std: float = 4.0
    svf_node_mm: float = 25.0
    svf_rescale: bool = False
    mean_range: Sequence[float] = (0.0, 255.0)
    std_range: Sequence[float] = (0.0, 35.0)
    class_means: Sequence[Sequence[float]] | None = None
    class_stds: Sequence[Sequence[float]] | None = None
    background_black_prob: float = 0.05
    background_dark_prob: float = 0.25
    bias_prob: float = 0.95
    bias_std: float = 0.7
    bias_node_mm: float = 40.0
    gamma_std: float = 0.5
    randomise_resolution: bool = True
    native_prob: float = 0.05
    isotropic_prob: float = 0.1
    independent_axes: bool = False
    max_spacing_iso_mm: float = 4.0
    max_spacing_aniso_mm: float = 8.0
    fixed_spacing_mm: Sequence[float] | None = None
    fixed_thickness_mm: Sequence[float] | None = None
    blur_jitter: float = 1.03
    flip_prob: float = 0.5
    strip_prob: float = 0.5
    strip_csf_prob: float = 0.5
    lesion_prob: float = 0.5
    crop_jitter_mm: float = 20.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_prob") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], got {value}")
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        for name in ("mean_range", "std_range"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be (low, high) with 0 <= low <= high, got {(low, high)}")
        for name in ("svf_node_mm", "bias_node_mm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.blur_jitter < 1:
            raise ValueError(f"blur_jitter must be at least 1, got {self.blur_jitter}")
        if not 0 <= self.scaling < 1:
            raise ValueError(f"scaling must be in [0, 1), got {self.scaling}")


@dataclass(frozen=True)
class SynthSegParameters:
    """Everything that was drawn for a batch of B images; small CPU tensors. With it an image can be made again."""

    matrix: Tensor  # (B, 3, 4) float64: output voxel (displaced) -> map voxel, flip included
    velocity: Tensor  # (B, 3, *nodes) float32 in voxels of the integration grid
    displacement_scale: float  # voxels of the output grid per voxel of the integration grid
    flip: Tensor  # (B,) bool
    source: Tensor  # (B, L) int64: the generation index whose look and target each generation index takes
    means: Tensor  # (B, L, C) float32 per generation index
    stds: Tensor  # (B, L, C) float32
    bias_grid: Tensor  # (B, C, *nodes) float32, logarithm of the field
    gamma: Tensor  # (B, C) float32, logarithm of the exponent
    blur_sigma: Tensor  # (B, 3) float32 in voxels
    low_size: Tensor  # (B, 3) int64


def draw_parameters(
    ranges: SynthSegRanges,
    *,
    seed: int,
    index: int,
    batch: int,
    crop_size: Sequence[int],
    spacing_mm: float,
    map_size: Sequence[int],
    map_spacing_mm: float,
    classes: Tensor,  # (L,) class of every generation index
    flip_index: Tensor,  # (L,) generation index of the mirrored label
    lesion_source: Tensor,  # (L,) generation index of the tissue around a lesion, itself for other labels
    extra_cerebral: Tensor,  # (L,) bool
    csf: Tensor,  # (L,) bool
    channels: int = 1,
    center: Tensor | None = None,  # (B, 3) crop centre in map voxels
) -> SynthSegParameters:
    """Draw the parameters of samples ``index .. index + batch - 1`` of a seed: a pure function of its arguments."""
    n_classes = int(classes.max()) + 1
    width = max(8, n_classes * channels)
    shape = (batch, len(_GROUPS), width)
    table = ops.rand_uniform(shape, seed, sample_offset=index, stream=_SCALAR_STREAM).double()
    u = {name: table[:, i] for i, name in enumerate(_GROUPS)}

    flip = u["flip"][:, 0] < ranges.flip_prob
    crop_mm = [n * spacing_mm for n in crop_size]
    velocity, scale = _velocity(ranges, u["svf"][:, 0], crop_size, spacing_mm, seed=seed, index=index)
    means, stds = _intensities(ranges, u, n_classes, channels)
    source = _label_edits(ranges, u, flip, flip_index, lesion_source, extra_cerebral, csf)
    nodes = [max(2, math.ceil(s / ranges.bias_node_mm)) for s in crop_mm]
    bias = ops.rand_normal((batch, channels, *nodes), seed, sample_offset=index, stream=_BIAS_STREAM)
    bias_std = (ranges.bias_std * u["bias"][:, 1]).where(u["bias"][:, 0] < ranges.bias_prob, 0.0)
    gamma = ranges.gamma_std * torch.special.ndtri(u["gamma"][:, :channels] + 2.0**-25)
    sigma, low_size = _resolution(ranges, u, crop_size, spacing_mm)
    picked = classes.long()[source]
    return SynthSegParameters(
        matrix=_matrix(ranges, u, flip, crop_size, spacing_mm, map_size, map_spacing_mm, center),
        velocity=velocity,
        displacement_scale=scale,
        flip=flip,
        source=source,
        means=torch.gather(means, 1, picked[:, :, None].expand(-1, -1, channels)).float(),
        stds=torch.gather(stds, 1, picked[:, :, None].expand(-1, -1, channels)).float(),
        bias_grid=bias * bias_std.float().reshape(batch, *([1] * (bias.ndim - 1))),
        gamma=gamma.float(),
        blur_sigma=sigma.float(),
        low_size=low_size,
    )


def _symmetric(u: Tensor, half_width: float) -> Tensor:
    return half_width * (2 * u - 1)


def _rotation(angles: Tensor) -> Tensor:  # (B, 3) in radians -> (B, 3, 3), R = Rx Ry Rz
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles).unbind(1), torch.sin(angles).unbind(1)
    zero, one = torch.zeros_like(cx), torch.ones_like(cx)

    def rows(*values: Tensor) -> Tensor:
        return torch.stack(values, dim=1).reshape(-1, 3, 3)

    rx = rows(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    ry = rows(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    rz = rows(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return rx @ ry @ rz


def _matrix(
    ranges: SynthSegRanges,
    u: dict[str, Tensor],
    flip: Tensor,
    crop_size: Sequence[int],
    spacing_mm: float,
    map_size: Sequence[int],
    map_spacing_mm: float,
    center: Tensor | None,
) -> Tensor:
    """Crop, flip and affine as one matrix: a voxel of the output grid to a voxel of the map.

    The affine A = scale · shear · rotation acts about the centre of the map. A crop is a shift of the output grid, a
    flip reverses its first axis.
    """
    batch = len(flip)
    shear = torch.eye(3, dtype=torch.float64).repeat(batch, 1, 1)
    off_diagonal = [(i, j) for i in range(3) for j in range(3) if i != j]
    for k, (i, j) in enumerate(off_diagonal):
        shear[:, i, j] = _symmetric(u["shearing"][:, k], ranges.shearing)
    scale = torch.diag_embed(1 + _symmetric(u["scaling"][:, :3], ranges.scaling))
    affine = scale @ shear @ _rotation(torch.deg2rad(_symmetric(u["rotation"][:, :3], ranges.rotation_deg)))

    size = torch.tensor(map_size, dtype=torch.float64)
    crop = torch.tensor(crop_size, dtype=torch.float64)
    step = spacing_mm / map_spacing_mm
    map_center = (size - 1) / 2
    if center is None:  # anywhere inside the map; centred on an axis where the crop is larger
        slack = (size - crop * step).clamp(min=0)
        offset = (u["crop"][:, :3] - 0.5) * slack
    else:
        jitter = ranges.crop_jitter_mm / map_spacing_mm
        offset = center.double().cpu() - map_center + _symmetric(u["crop"][:, :3], jitter)
    offset = offset + _symmetric(u["translation"][:, :3], ranges.translation_mm / map_spacing_mm)

    # Output voxel x -> step * (x - (crop - 1) / 2) + offset, seen from the centre of the map; x reversed when flipped.
    linear = torch.eye(3, dtype=torch.float64).repeat(batch, 1, 1) * step
    linear[:, 0, 0] = torch.where(flip, -step, step)
    shift = offset - (linear @ ((crop - 1) / 2))
    return torch.cat([affine @ linear, (affine @ shift[..., None]) + map_center[:, None]], dim=2)


def _velocity(
    ranges: SynthSegRanges, u: Tensor, crop_size: Sequence[int], spacing_mm: float, *, seed: int, index: int
) -> tuple[Tensor, float]:
    """Velocity at its nodes, in voxels of the integration grid (half the output's resolution), and what a displacement
    found there means in output voxels.

    The published generator reads N(0, s²) as voxels of its 2 mm grid and applies the resulting displacement as voxels
    of its 1 mm grid. In millimetres that is a velocity of 2 s, integrated, and half of the displacement.
    """
    nodes = [max(2, math.ceil(n * spacing_mm / ranges.svf_node_mm)) for n in crop_size]
    noise = ops.rand_normal((len(u), 3, *nodes), seed, sample_offset=index, stream=_VELOCITY_STREAM)
    std = (ranges.svf_std * u / spacing_mm).float()
    return noise * std.reshape(-1, 1, 1, 1, 1), 2.0 if ranges.svf_rescale else 1.0


def _prior(values: Sequence[Sequence[float]], u: Tensor, n_classes: int, name: str) -> Tensor:
    prior = torch.tensor(values, dtype=torch.float64)
    if prior.shape != (n_classes, 2):
        raise ValueError(f"{name} must be ({n_classes}, 2): mean and deviation per class, got {tuple(prior.shape)}")
    return (prior[:, :1] + prior[:, 1:] * torch.special.ndtri(u + 2.0**-25)).clamp(min=0)


def _intensities(
    ranges: SynthSegRanges, u: dict[str, Tensor], n_classes: int, channels: int
) -> tuple[Tensor, Tensor]:  # (B, K, C) each, float64
    count = n_classes * channels
    shape = (-1, n_classes, channels)
    u_mean, u_std = u["mean"][:, :count].reshape(shape), u["std"][:, :count].reshape(shape)
    low, high = ranges.mean_range
    means = low + (high - low) * u_mean
    low, high = ranges.std_range
    stds = low + (high - low) * u_std
    if ranges.class_means is not None:
        means = _prior(ranges.class_means, u_mean, n_classes, "class_means")
    if ranges.class_stds is not None:
        stds = _prior(ranges.class_stds, u_std, n_classes, "class_stds")
    which, dark_mean, dark_std = u["background"][:, 0], u["background"][:, 1], u["background"][:, 2]
    black = (which < ranges.background_black_prob)[:, None]
    dark = (which < ranges.background_black_prob + ranges.background_dark_prob)[:, None] & ~black
    means[:, 0] = means[:, 0].where(~dark, 15 * dark_mean[:, None]).where(~black, 0.0)
    stds[:, 0] = stds[:, 0].where(~dark, 5 * dark_std[:, None]).where(~black, 0.0)
    return means, stds


def _label_edits(
    ranges: SynthSegRanges,
    u: dict[str, Tensor],
    flip: Tensor,
    flip_index: Tensor,
    lesion_source: Tensor,
    extra_cerebral: Tensor,
    csf: Tensor,
) -> Tensor:  # (B, L)
    """Lesions and skull stripping change which label a voxel counts as; so does a flip. All three are one table."""
    identity = torch.arange(len(flip_index))
    source = identity.where(~flip[:, None], flip_index.long())
    keep_lesions = u["lesion"][:, :1] < ranges.lesion_prob
    source = source.where(keep_lesions, lesion_source.long()[source])
    strip = u["strip"][:, :1] < ranges.strip_prob
    strip_csf = strip & (u["strip"][:, 1:2] < ranges.strip_csf_prob)
    gone = (strip & extra_cerebral[source]) | (strip_csf & csf[source])
    return source.masked_fill(gone, 0)


def _resolution(
    ranges: SynthSegRanges, u: dict[str, Tensor], crop_size: Sequence[int], spacing_mm: float
) -> tuple[Tensor, Tensor]:  # (B, 3) sigma in voxels, (B, 3) low sizes
    batch = len(u["spacing"])
    native = torch.full((batch, 3), float(spacing_mm), dtype=torch.float64)
    size = torch.tensor(crop_size, dtype=torch.float64)
    if not ranges.randomise_resolution and ranges.fixed_spacing_mm is None:
        return torch.zeros(batch, 3, dtype=torch.float64), size.long().expand(batch, 3).clone()
    if ranges.fixed_spacing_mm is not None:
        spacing = torch.tensor(ranges.fixed_spacing_mm, dtype=torch.float64).expand(batch, 3).clamp(min=spacing_mm)
        fixed = ranges.fixed_thickness_mm or ranges.fixed_spacing_mm
        thickness = torch.tensor(fixed, dtype=torch.float64).expand(batch, 3).clamp(min=spacing_mm)
    else:
        u_iso = u["spacing"][:, :3] if ranges.independent_axes else u["spacing"][:, :1].expand(-1, 3)
        iso = native + (max(ranges.max_spacing_iso_mm, spacing_mm) - spacing_mm) * u_iso
        axis = (u["resolution"][:, 2] * 3).long().clamp(max=2)
        coarse = spacing_mm + (max(ranges.max_spacing_aniso_mm, spacing_mm) - spacing_mm) * u["spacing"][:, 3:4]
        aniso = native.where(torch.arange(3) != axis[:, None], coarse)
        spacing = aniso.where(u["resolution"][:, 1:2] >= ranges.isotropic_prob, iso)
        spacing = spacing.where(u["resolution"][:, :1] >= ranges.native_prob, native)
        thickness = native + (spacing - native) * u["thickness"][:, :3]
    jitter = 1 / ranges.blur_jitter + (ranges.blur_jitter - 1 / ranges.blur_jitter) * u["blur"][:, :3]
    sigma = (0.75 * thickness / spacing_mm).where(thickness > spacing_mm, 0.5) * jitter
    low_size = (size * spacing_mm / spacing).floor().long().clamp(min=1)
    return sigma, low_size.where(spacing > spacing_mm, size.long())
