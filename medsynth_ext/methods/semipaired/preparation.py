"""From scans as they are stored to volumes of axial slices in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import (
    Compose,
    DivisiblePadd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Transform,
)

from medsynth_ext.data import ScanReader
from medsynth_ext.transforms import CheckCTd, CheckModalityd, CheckSameGridd, ScanSpacingd

__all__ = ["ScanPreparation"]

_AIR = -1.0


class ScanPreparation(Compose):
    """Load, check, orient, resample in the axial plane, normalise and fit to the network; can be inverted.

    Rows of a slice run from front to back, columns from right to left, as radiologists look at them.

    MR is clipped at percentiles of the scan, CT and surrogates at a window; both end in [-1, 1], and what is padded is
    -1. Scans under keys of CT that cannot be CT are refused, MR that looks like CT gets a warning, scans of
    one case must lie on one grid.

    Args:
        mr: keys of MR.
        ct: keys of CT and surrogates.
        spacing_mm: of pixels in the axial plane; slices stay as they are.
        percentiles: of MR, to -1 and 1.
        window_hu: of CT, to -1 and 1.
        check_units: whether keys of CT are checked; a translation is CT however poor it is.
        slice_size: crop or pad slices to this size; ``None`` leaves it.
        multiple: pad slices to multiples of this.
    """

    def __init__(
        self,
        *,
        mr: Sequence[str] = (),
        ct: Sequence[str] = (),
        spacing_mm: float,
        percentiles: Sequence[float],
        window_hu: Sequence[float],
        check_units: bool = True,
        slice_size: Sequence[int] | None = None,
        multiple: int = 1,
    ) -> None:
        keys = [*mr, *ct]
        steps: list[Transform] = [
            LoadImaged(keys, reader=ScanReader),
            EnsureChannelFirstd(keys),
            *([CheckModalityd(mr, "MR")] if mr else []),
            *([CheckCTd(ct)] if ct and check_units else []),
            *([CheckSameGridd(keys)] if len(keys) > 1 else []),
            Orientationd(keys, axcodes="PLS", labels=None),
            ScanSpacingd(keys, pixdim=(spacing_mm, spacing_mm, -1.0), mode="bilinear", padding_mode="border"),
        ]
        if mr:
            low, high = percentiles
            steps.append(ScaleIntensityRangePercentilesd(mr, lower=low, upper=high, b_min=_AIR, b_max=1.0, clip=True))
        if ct:
            low, high = window_hu
            steps.append(ScaleIntensityRanged(ct, a_min=low, a_max=high, b_min=_AIR, b_max=1.0, clip=True))
        if slice_size is not None:
            steps.append(ResizeWithPadOrCropd(keys, spatial_size=(*slice_size, -1), mode="constant", value=_AIR))
        if multiple > 1:
            steps.append(DivisiblePadd(keys, k=(multiple, multiple, 1), mode="constant", value=_AIR))
        super().__init__(steps)
