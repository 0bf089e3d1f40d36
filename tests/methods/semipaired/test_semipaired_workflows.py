"""Both directions and the baselines through the bundle's configs, and a training that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_workflows import load_tiny, loss_curve, run_workflow
from PIL import Image

BUNDLE = Path(__file__).parents[3] / "bundles" / "semipaired_mr_ct_translation"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_tiny(BUNDLE.name)


@pytest.fixture(scope="module")
def settings(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {**tiny.train(tmp_path_factory.mktemp("data")), "epochs": 4}


def train(settings: dict[str, Any], out: Path, *configs: str, **more: Any) -> list[float]:
    run_workflow(BUNDLE, "train.json", *configs, output_dir=str(out), ckpt_dir=str(out), **{**settings, **more})
    return [loss for _, loss in loss_curve(out)]


@pytest.mark.parametrize("direction", ["mr2ct", "ct2mr"])
@pytest.mark.parametrize("config", ["pix2pix.json", "pix2pixhd.json", "cyclegan.json"])
def test_the_baselines_learn_in_both_directions(
    settings: dict[str, Any], tmp_path: Path, config: str, direction: str
) -> None:
    more = {"blocks": 1, "downsamplings": 2} if config == "pix2pixhd.json" else {}
    losses = train(settings, tmp_path, config, direction=direction, **more)
    assert np.mean(losses[-4:]) < 0.95 * np.mean(losses[:4])


def test_ct_becomes_mr_on_the_grid_of_the_ct(settings: dict[str, Any], tiny: Any, tmp_path: Path) -> None:
    train(settings, tmp_path, direction="ct2mr")
    columns = (tmp_path / "loss.csv").read_text().splitlines()[0]
    assert "adversarial_unconditional" in columns
    assert "adversarial_conditional" in columns
    shared = {**tiny.evaluate(tmp_path / "more", tmp_path / "model_ct2mr.pt"), "direction": "ct2mr"}
    out = tmp_path / "out"
    run_workflow(BUNDLE, "evaluate.json", kind=None, output_dir=str(out), **shared)
    assert "ct_009" in (out / "val_mean_ssim_raw.csv").read_text()
    scans = tmp_path / "more" / "truth" / "ct_alone"
    # Oblique to the axes, with an odd number of pixels that the strides do not divide, and another pixel size.
    source = nib.load(scans / "ct_009.nii.gz")
    odd = nib.Nifti1Image(source.get_fdata()[3:, 2:-1][:, ::-1], source.affine * np.array([1.1, -1.1, 1, 1]))
    nib.save(odd, scans / "odd.nii.gz")
    run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(out), **{**shared, "dataset_dir": str(scans)})
    for name in ("ct_009", "odd"):
        before, after = nib.load(scans / f"{name}.nii.gz"), nib.load(out / f"{name}_smr.nii.gz")
        assert after.shape == before.shape
        assert np.allclose(after.affine, before.affine, atol=1e-4)
        assert after.get_data_dtype() == np.float32
        assert -0.01 <= after.get_fdata().min() < after.get_fdata().max() <= 1.01
    assert not (out / "report.json").exists()


def test_a_synthetic_ct_is_in_whole_hu_with_a_report(settings: dict[str, Any], tiny: Any, tmp_path: Path) -> None:
    train(settings, tmp_path)
    shared = tiny.infer(tmp_path / "more", tmp_path / "model.pt")
    run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(tmp_path / "out"), **shared)
    image = nib.load(tmp_path / "out" / "one_sct.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert image.shape == (32, 32, 3)
    values = image.get_fdata()
    assert -1000 <= values.min() < -200
    assert values.max() > values.min() + 100
    assert (tmp_path / "out" / "report.json").is_file()


def test_pictures_and_likeness_of_a_translation(settings: dict[str, Any], tiny: Any, tmp_path: Path) -> None:
    train(settings, tmp_path)
    shared = tiny.evaluate(tmp_path / "more", tmp_path / "model.pt")
    out = str(tmp_path / "out")
    run_workflow(BUNDLE, "pictures.json", kind=None, output_dir=out, **shared)
    picture = Image.open(tmp_path / "out" / "mr2ct.png")
    assert picture.size == (2 * (4 * 32 + 3 * 4), 2 * 2 * 32)
    assert len(picture.getcolors(1 << 20) or []) > 100
    run_workflow(BUNDLE, "pictures.json", kind=None, output_dir=str(tmp_path / "alone"), **shared, labels="")
    with Image.open(tmp_path / "alone" / "mr2ct.png") as alone:
        assert alone.size == (2 * (2 * 32 + 4), 2 * 2 * 32)
        box = (0, 0, alone.width - 8, alone.height)  # beside the rim, where the enlarged picture knows its neighbour
        assert alone.crop(box).tobytes() == picture.crop(box).tobytes()
    folders = {
        "found_dir": str(tmp_path / "more" / "truth" / "ct"),
        "real_dir": str(Path(settings["dataset_dir"]) / "ct"),
    }
    sizes = {"spacing_mm": settings["spacing_mm"], "slice_size": settings["slice_size"]}
    run_workflow(BUNDLE, "compare.json", kind=None, output_dir=out, **folders, **sizes)
    figures = json.loads((tmp_path / "out" / "likeness.json").read_text())
    assert figures["slices"] == {"found": 3, "real": 6}
    assert np.isfinite([figures["fid"], figures["kid"]]).all()


def test_likeness_judges_translations_without_air_and_refuses_such_real_ct(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    real = Path(settings["dataset_dir"]) / "ct"
    poor = tmp_path / "poor"
    poor.mkdir()
    for path in sorted(real.glob("*.nii.gz")):
        scan = nib.load(path)
        nib.save(nib.Nifti1Image(np.clip(scan.get_fdata(), -300, None).astype(np.int16), scan.affine), poor / path.name)
    sizes = {"spacing_mm": settings["spacing_mm"], "slice_size": settings["slice_size"], "output_dir": str(tmp_path)}
    run_workflow(BUNDLE, "compare.json", kind=None, found_dir=str(poor), real_dir=str(real), **sizes)
    assert json.loads((tmp_path / "likeness.json").read_text())["fid"] > 0
    with pytest.raises(RuntimeError) as error:
        run_workflow(BUNDLE, "compare.json", kind=None, found_dir=str(real), real_dir=str(poor), **sizes)
    assert "must be CT in HU with air" in "".join(traceback.format_exception(error.value))


@pytest.mark.slow
@pytest.mark.parametrize("configs", [["ct2mr"], ["cyclegan"]], ids=["ct2mr", "cyclegan"])
def test_a_training_killed_in_the_middle_ends_as_an_undisturbed_one(
    settings: dict[str, Any], tmp_path: Path, configs: list[str]
) -> None:
    more = {"direction": "ct2mr"} if configs == ["ct2mr"] else {}
    overlay = [] if configs == ["ct2mr"] else ["cyclegan.json"]
    whole = train(settings, tmp_path / "whole", *overlay, **more)
    out = tmp_path / "parts"
    values = {**settings, **more, "output_dir": str(out), "ckpt_dir": str(out), "bundle_root": str(BUNDLE)}
    names = [str(BUNDLE / "configs" / name) for name in ("train.json", *overlay)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(names), "--device", "cpu"]
    command += [part for key, value in values.items() for part in (f"--{key}", str(value))]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = out / "loss.csv"
    while not log.exists() or log.read_text().count("\n") < len(whole) // 2 + 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((out / "checkpoints").glob("checkpoint_epoch=*.pt"))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [loss for _, loss in loss_curve(out)] == whole
