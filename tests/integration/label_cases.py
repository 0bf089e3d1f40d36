"""An unseen phantom for every bundle that MONAI Label serves, with its truth where there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import torch

from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.phantoms.head import head_phantom
from medsynth_ext.phantoms.rendering import render_head

__all__ = ["BUNDLES", "CASES", "Case", "draw"]

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


@dataclass(frozen=True)
class Case:
    """Settings of a bundle's ``phantoms.json``, and what it writes."""

    image: str
    truth: str | None = None
    phantoms: dict[str, Any] = field(default_factory=dict)


_FRAME = "intraop/intraop_077/video"
_FRAMES = Case(
    f"{_FRAME}/images/000000.png",
    f"{_FRAME}/point_labels/000000.json",
    {"sim": 0, "intraop": 1, "frames": 1, "seed": 77},
)
CASES = {
    "adaptor_relation_heatmap_detection": _FRAMES,
    "adaptor_suture_heatmap_detection": _FRAMES,
    "fbpaug_ct_segmentation": Case(
        "images/chest_077.nii.gz", "labels/chest_077.nii.gz", {"cases": 1, "seed": 77, "kernels": ["soft"]}
    ),
    "fedsim_cardiac_ct_synthesis": Case(
        "images/A_070.nii.gz", "labels/A_070.nii.gz", {"cases": 1, "labelled": 1, "first": 70}
    ),
    "fewshot_dag_landmark_localization": Case(
        "images/hand_000077.png", "landmarks/hand_000077.json", {"labelled": 1, "unlabelled": 0, "seed": 77}
    ),
    "frequency_supervised_mr_to_ct": Case("mr/head_077.nii.gz", "ct/head_077.nii.gz", {"cases": 1, "seed": 77}),
    "oneshot_landmark_detection": Case(
        "images/ear_000079.nii.gz", "landmarks/ear_000079.json", {"cases": 1, "seed": 77}
    ),
    "semipaired_mr_ct_translation": Case("mr/mr_077.nii.gz", None, {"mr": 1, "ct": 1, "truth": 0, "seed": 77}),
    "shape_consistent_ct_mr_translation": Case("ct/images/ct_070.nii.gz", None, {"ct": 1, "mr": 1, "first": 70}),
    "synthseg_brain_segmentation": Case("head.nii.gz", "labels.nii.gz"),
    "synthseg_heart_segmentation": Case(
        "images/heart_070.nii.gz", "labels/heart_070.nii.gz", {"cases": 1, "first": 70}
    ),
    "ultrasound_variational_style_transfer": Case("images/leg_machine1_00077.png", None, {"count": 1, "seed": 77}),
}


def draw(name: str, folder: Path) -> tuple[Path, Path | None]:
    """Write the phantom of a bundle; returns image and truth."""
    case = CASES[name]
    if name == "synthseg_brain_segmentation":
        _draw_head(folder)
    else:
        config = BUNDLES / name / "configs/phantoms.json"
        monai.bundle.run(config_file=str(config), output_dir=str(folder), **case.phantoms)
    image, truth = folder / case.image, None if case.truth is None else folder / case.truth
    assert image.is_file(), f"{image} is not among {[path.name for path in folder.rglob('*.*')]}"
    return image, truth


def _draw_head(folder: Path) -> None:
    """A T1 scan, and its labels as the bundle's channels."""
    phantom = head_phantom(77, shape=(96, 96, 96), spacing_mm=2.0, lesions=0)
    scan = render_head(phantom, "T1", 77)
    table = LabelTable.from_json(BUNDLES / "synthseg_brain_segmentation/configs/labels.json")
    channels = torch.zeros(int(phantom.labels.max()) + 1, dtype=torch.int16)
    for channel, value in enumerate(table.target_values):
        if value < len(channels):
            channels[value] = channel
    save_nifti(nifti_image(scan, np.float32), folder / "head.nii.gz")
    truth = scan.new_tensor(channels[phantom.labels.long()][None])
    save_nifti(nifti_image(truth, np.int16), folder / "labels.nii.gz")
