"""Gas pockets, couches and the similarity of slices, on images made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Orientation

from medsynth_ext.methods.semipaired.hallucinations import HallucinationReport, couch_pixels, gas_change, gas_mask
from medsynth_ext.methods.semipaired.slice_similarity import SliceSSIM


def body(*pockets: tuple[int, int], couch: bool = False) -> torch.Tensor:  # (40, 40, 2)
    """A square of water with pockets of 3 x 3 pixels in its first slice."""
    hu = torch.full((40, 40, 2), -1000.0)
    hu[5:30, 5:35] = 0
    for row, column in pockets:
        hu[row : row + 3, column : column + 3, 0] = -950
    if couch:
        hu[34:36, 5:35] = -200
    return hu


def test_pockets_that_were_invented_or_lost_are_counted() -> None:
    truth = body((10, 10), (20, 20))
    assert gas_change(body((10, 11), (10, 25), (25, 10)), truth) == (2, 2, 1)
    assert gas_change(truth, truth) == (2, 0, 0)


def test_skin_specks_and_the_room_are_no_gas() -> None:
    hu = body((5, 10))  # open to the front
    hu[15, 15, 0] = -950
    assert not gas_mask(hu).any()
    assert gas_mask(body((10, 10))).sum() == 9


def test_a_couch_is_what_is_dense_beside_the_body() -> None:
    assert couch_pixels(body()).tolist() == [0, 0]
    assert couch_pixels(body(couch=True)).tolist() == [60, 60]


@pytest.mark.parametrize("stored", ["RAS", "LPS", "ASR", "SPL"])
def test_the_report_names_scans_with_gas_and_couch_however_they_are_stored(tmp_path: Path, stored: str) -> None:
    image = MetaTensor(body((10, 10), couch=True)[None], affine=torch.diag(torch.tensor([10.0, 10.0, 5.0, 1.0])))
    image = Orientation(stored, labels=None)(image)
    image.meta["filename_or_obj"] = "some/case.nii.gz"
    engine = Engine(lambda engine, batch: [{"pred": image}])
    HallucinationReport(tmp_path).attach(engine)
    engine.run([0])
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["scans"] == {"case": {"slices": 2, "slices_with_gas": 1, "gas_ml": 4.5, "slices_with_couch": 2}}
    assert "invented" in record["note"]


def test_similarity_is_one_for_equal_slices_and_counts_slices_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 16, 16, 3, generator=generator)
    metric = SliceSSIM(data_range=1.0)
    metric(image, image)
    assert metric.aggregate().item() == pytest.approx(1)
    metric.reset()
    other = image.clone()
    other[..., 0] = torch.rand(1, 1, 16, 16, generator=generator)
    metric(other, image)
    assert 0.6 < metric.aggregate().item() < 0.8  # one of three slices is unlike
    with pytest.raises(ValueError, match="wanted two volumes of one shape"):
        metric(image, image[..., :2])
