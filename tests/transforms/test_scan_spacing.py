"""Resampling beside entries that are no images."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from medsynth_ext.transforms import ScanSpacingd


def item() -> dict:
    image = MetaTensor(torch.arange(64.0).reshape(1, 4, 4, 4), meta={"filename_or_obj": "a.nii.gz"})
    return {"image": image, "image_path": "/scans/a.nii.gz"}


def test_text_is_kept_and_the_image_is_resampled_as_by_monai():
    transform = ScanSpacingd("image", pixdim=(2.0, 1.0, 1.0), mode="bilinear")
    made = transform(item())
    plain = Spacingd("image", pixdim=(2.0, 1.0, 1.0), mode="bilinear")({"image": item()["image"]})
    assert made["image_path"] == "/scans/a.nii.gz"
    assert torch.equal(made["image"], plain["image"])
    assert torch.equal(made["image"].affine, plain["image"].affine)
    assert transform.inverse(made)["image"].shape == (1, 4, 4, 4)
