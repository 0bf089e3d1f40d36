from __future__ import annotations

import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from medsynth_ext.data import OutputError
from medsynth_ext.data.nifti import nifti_image
from medsynth_ext.handlers import NiftiWriter


@pytest.fixture
def result(tmp_path: Path) -> MetaTensor:
    affine = np.array([[0.0, -2, 0, 5], [3, 0, 0, -7], [0, 0, 4, 1], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((24, 25, 26), dtype=np.int16), affine), tmp_path / "case.nii.gz")
    values = torch.randint(0, 200, (1, 24, 25, 26), generator=torch.Generator().manual_seed(0))
    meta = {"filename_or_obj": str(tmp_path / "case.nii.gz")}
    return MetaTensor(values, affine=torch.from_numpy(affine), meta=meta)


def run(writer: NiftiWriter, result: MetaTensor) -> None:
    engine = Engine(lambda engine, batch: [{"pred": batch}])
    writer.attach(engine)
    engine.run([result], max_epochs=1)


def test_the_file_has_the_values_grid_and_type_of_the_result(tmp_path: Path, result: MetaTensor) -> None:
    run(NiftiWriter(tmp_path / "out", postfix="heart"), result)
    written = nib.load(tmp_path / "out/case_heart.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), result[0].numpy())
    np.testing.assert_allclose(written.affine, result.affine)


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path, result: MetaTensor) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # a limit on the size of files stands for the full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, old[1]))
        with pytest.raises(OutputError, match=r"case_seg\.nii\.gz cannot be written: File too large"):
            run(NiftiWriter(tmp_path / "out"), result)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path: Path, result: MetaTensor) -> None:
    (tmp_path / "out").write_text("a file")
    done = []
    engine = Engine(lambda engine, batch: done.append(batch))
    NiftiWriter(tmp_path / "out").attach(engine)
    with pytest.raises(OutputError, match="out cannot be written"):
        engine.run([result], max_epochs=1)
    assert done == []


def test_a_plain_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="MetaTensors, whose affine tells the grid, got Tensor"):
        nifti_image(torch.zeros(1, 2, 2, 2), np.uint8)
