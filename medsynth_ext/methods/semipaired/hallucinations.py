"""What a generator may have invented: gas in the body and a couch below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Orientation
from scipy import ndimage
from torch import Tensor

from medsynth_ext.data.files import write_json
from medsynth_ext.data.scans import scan_name
from medsynth_ext.metrics.synthetic_ct import body_mask

__all__ = ["GasChange", "HallucinationReport", "couch_pixels", "gas_change", "gas_mask"]

GAS_HU, COUCH_HU = -400.0, -700.0
_NOTE = (
    "Gas and couch in a synthetic CT are what the network saw in CT of other patients. Where the MR does not show them "
    "as well, take them as invented."
)


class GasChange(NamedTuple):
    """Gas pockets of axial slices: in the truth, only in the translation, only in the truth."""

    true: int
    invented: int
    lost: int


def gas_mask(
    hu: Tensor,  # (H, W, D)
    *,
    body: Tensor | None = None,  # (H, W, D) bool
    least_pixels: int = 3,
) -> Tensor:  # (H, W, D) bool
    """Pockets of gas: what is thinner than -400 HU in the body, at least so many pixels of an axial slice.

    The outermost two pixels of the body, where air and skin share pixels, do not count.
    """
    inside = (body_mask(hu) if body is None else body).cpu().numpy()
    gas = (hu < GAS_HU).cpu().numpy()
    found = np.zeros_like(gas)
    for k in range(gas.shape[-1]):
        core = ndimage.binary_erosion(inside[..., k], iterations=2)
        labels, count = ndimage.label(gas[..., k] & core)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        sizes[0] = 0
        found[..., k] = (sizes >= least_pixels)[labels]
    return torch.from_numpy(found)


def gas_change(found_hu: Tensor, true_hu: Tensor) -> GasChange:  # (H, W, D) both
    """Count pockets, slice by slice, that overlap with none of the other image's; the true body is that of both."""
    body = body_mask(true_hu)
    found, true = (gas_mask(hu, body=body).numpy() for hu in (found_hu, true_hu))
    counts = np.zeros(3, dtype=int)
    for k in range(true.shape[-1]):
        counts += (
            ndimage.label(true[..., k])[1],
            _alone(found[..., k], true[..., k]),
            _alone(true[..., k], found[..., k]),
        )
    return GasChange(*counts.tolist())


def _alone(mask: np.ndarray, other: np.ndarray) -> int:
    labels, count = ndimage.label(mask)
    return count - len(np.setdiff1d(labels[other], [0]))


def couch_pixels(hu: Tensor) -> Tensor:  # (H, W, D) HU to (D,)
    """Pixels of each axial slice outside of the body that are denser than -700 HU."""
    outside = ~torch.from_numpy(ndimage.binary_dilation(body_mask(hu).cpu().numpy(), iterations=2))
    return ((hu.cpu() > COUCH_HU) & outside).sum((0, 1))


class HallucinationReport:
    """Writes ``report.json``: axial slices with gas, volume of gas and slices with a couch of every synthetic CT.

    Args:
        output_dir: where the file is.
        key: of the synthetic CT in HU in the evaluator's output, a MetaTensor (1, H, W, D) that knows its file.
    """

    def __init__(self, output_dir: str | Path, *, key: str = "pred") -> None:
        self.path = Path(output_dir) / "report.json"
        self.key = key
        self.axial = Orientation("RAS", labels=None)  # a scan may be stored in sagittal or coronal slices
        self.scans: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def __call__(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            image = sample[self.key]
            hu = torch.as_tensor(np.asarray(self.axial(image).cpu()))[0].float()
            gas = gas_mask(hu)
            voxel_ml = abs(float(torch.linalg.det(torch.as_tensor(image.affine)[:3, :3].double()))) / 1000
            self.scans[scan_name(str(image.meta["filename_or_obj"]))] = {
                "slices": hu.shape[-1],
                "slices_with_gas": int(gas.any(0).any(0).sum()),
                "gas_ml": round(float(gas.sum()) * voxel_ml, 2),
                "slices_with_couch": int((couch_pixels(hu) > 0.005 * hu[..., 0].numel()).sum()),
            }

    def write(self) -> None:
        """Write what is known so far."""
        write_json(self.path, {"note": _NOTE, "scans": self.scans})
