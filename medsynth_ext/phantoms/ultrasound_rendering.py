"""B-mode pictures of a tissue map: scatterers through a separable pulse, log compression, scan conversion."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.networks.layers import MedianFilter
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.phantoms.ultrasound_anatomy import TISSUES
from medsynth_ext.phantoms.ultrasound_machines import Machine

__all__ = ["beam_grid", "pulse_echo", "render_tissues", "scan_convert"]

_DB = math.log(10) / 20  # amplitude of a decibel
_FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian over its deviation
_REFERENCE_DB = 6.0  # what is shown white at no gain
_ECHO, _SPECKLE, _RECEIVER, _CLUTTER = 0, 12, 1, 13  # of docs/random_numbers.md


def pulse_echo(
    scatterers: Tensor,  # (H, W) complex amplitudes
    machine: Machine,
) -> Tensor:  # (H, W) complex echoes
    """Scatterers seen through a Gaussian pulse on a carrier, whose width across grows away from the focus.

    The pulse is separable: first every row is blurred across with its own width, then every column along depth with the
    modulated pulse. A pulse has unit energy, so that the brightness of speckle does not depend on its size.
    """
    height, width = scatterers.shape
    depth = (torch.arange(height) + 0.5) / height
    away = (depth - machine.focus).abs() / max(machine.focus, 1 - machine.focus)
    across = machine.lateral_px / _FWHM * (1 + machine.spread * away)  # (H,)
    frequency = torch.fft.fftfreq(2 * width)  # twice the width, so that nothing wraps around
    lateral = torch.exp(-2 * (math.pi * across[:, None] * frequency) ** 2)
    lateral = lateral * (2 * math.sqrt(math.pi) * across[:, None]).sqrt()
    echoes = torch.fft.ifft(torch.fft.fft(scatterers, 2 * width) * lateral)[:, :width]
    along = machine.axial_px / _FWHM
    carrier = 1 / (machine.wavelength * machine.axial_px)
    shift = torch.fft.fftfreq(2 * height) - carrier
    shift = shift - shift.round()  # complex samples see the carrier modulo the sampling rate
    axial = torch.exp(-2 * (math.pi * along * shift) ** 2) * math.sqrt(2 * math.sqrt(math.pi) * along)
    return torch.fft.ifft(torch.fft.fft(echoes, 2 * height, dim=0) * axial[:, None], dim=0)[:height]


def _complex_normal(height: int, width: int, seed: int, stream: int) -> Tensor:  # (H, W), unit variance
    parts = ops.rand_normal((1, 2, height, width), seed, stream=stream)[0]
    return torch.complex(parts[0], parts[1]) / math.sqrt(2)


def render_tissues(
    tissues: Tensor,  # (H, W) integer, indices of TISSUES
    machine: Machine,
    seed: int,
) -> Tensor:  # (H, W) float32 in [0, 1]
    """The picture of a linear probe above the first row; a pure function of its arguments.

    Every tissue has log-normal scatterers (drawn by :func:`medsynth_ext.ops.gmm_sample`) times a complex normal number.
    What lies above a point attenuates it; the time-gain curve makes up for the mean tissue, with the machine's error.
    """
    height, width = tissues.shape
    table = torch.tensor(list(TISSUES.values()))  # (K, 3)
    level_db = ops.gmm_sample(
        tissues[None, None].to(torch.int32), table[:, 0].contiguous(), table[:, 1].contiguous(), seed=seed, stream=_ECHO
    )[0, 0]
    lost_db = table[:, 2][tissues.long()].cumsum(0) / height
    depth = ((torch.arange(height) + 0.5) / height)[:, None]
    gain_db = machine.tgc_error_db * depth + 12.0 * depth  # 12 dB is the mean tissue's loss
    across = ((torch.arange(width) + 0.5) / width * 2 - 1)[None]
    shade_db = -machine.shading_db * across.abs() ** 3
    amplitude = torch.exp(_DB * (level_db - lost_db))
    echoes = pulse_echo(amplitude * _complex_normal(height, width, seed, _SPECKLE), machine)
    echoes = echoes * torch.exp(_DB * shade_db)
    near = torch.exp(_DB * machine.near_field_db - (depth / 0.06) ** 2)
    echoes = echoes + near * pulse_echo(_complex_normal(height, width, seed, _CLUTTER), machine)
    typical = math.exp(_DB * -14.0)
    noise = machine.noise * typical * _complex_normal(height, width, seed, _RECEIVER)
    received = (echoes + noise) * torch.exp(_DB * gain_db)
    shown_db = 20 * torch.log10(received.abs().clamp_min(1e-9)) + machine.gain_db - _REFERENCE_DB
    grey = (1 + shown_db / machine.dynamic_range_db).clamp(0, 1) ** machine.gamma
    if machine.median:
        grey = MedianFilter(machine.median // 2, spatial_dims=2)(grey[None, None])[0, 0]
    return grey.float()


def beam_grid(height: int, width: int, sector_deg: float, *, radius: float = 0.5) -> Tensor:  # (H, W, 2) as (x, y)
    """Where a convex probe's samples (depth, beam) lie in the picture, in ``grid_sample``'s coordinates.

    The probe is an arc of ``radius`` times the picture's height whose middle touches the first row; the beams cover
    ``sector_deg`` and reach as deep as the last row.
    """
    angle = (torch.arange(width) + 0.5) / width - 0.5
    angle = math.radians(sector_deg) * angle[None]
    depth = ((torch.arange(height) + 0.5) / height)[:, None]
    reach = radius + depth
    x, y = reach * torch.sin(angle), reach * torch.cos(angle) - radius
    return torch.stack([2 * x * height / width, 2 * y - 1], -1)


def scan_convert(
    beams: Tensor,  # (H, W): depth along each beam, one column per beam
    sector_deg: float,
    *,
    radius: float = 0.5,
    nearest: bool = False,
) -> Tensor:  # (H, W)
    """Beams of a convex probe as a picture; black (0) where no beam looks. The inverse of :func:`beam_grid`."""
    height, width = beams.shape
    y = ((torch.arange(height) + 0.5) / height)[:, None] + radius
    x = ((torch.arange(width) + 0.5) / width - 0.5)[None] * width / height
    angle = torch.atan2(x, y) / math.radians(sector_deg)
    depth = torch.hypot(x, y) - radius
    grid = torch.stack([2 * angle, 2 * depth - 1], -1)[None]
    mode = "nearest" if nearest else "bilinear"
    inside = ((grid[0].abs() <= 1).all(-1)).to(beams.dtype)
    return F.grid_sample(beams[None, None], grid, mode=mode, padding_mode="border", align_corners=False)[0, 0] * inside
