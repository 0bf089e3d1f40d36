"""The bundle's workflows: results on the input's grid, bad input named, every variant trains, kills leave no trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, loss_curve, run_workflow
from PIL import Image

from medsynth_ext.data.modality import ModalityWarning
from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.frequency_supervised import FCNet, ResNet, UNet
from medsynth_ext.methods.frequency_supervised.field import FieldOfViewWarning
from medsynth_ext.methods.frequency_supervised.page import draw_page, panels

BUNDLE = Path(__file__).parents[3] / "bundles/frequency_supervised_mr_to_ct"
tiny = load_tiny(BUNDLE.name)
SHORT = {"epochs": 1, "samples_per_epoch": 2, "batch_size": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny training's heads."""
    folder = tmp_path_factory.mktemp("heads")
    tiny.train(folder)
    return folder


@pytest.fixture(scope="module")
def weights(data: Path) -> Path:
    """Weights of a training of two steps."""
    out = data / "out"
    settings = {**tiny.train(data), **SHORT, "output_dir": str(out), "ckpt_dir": str(out)}
    run_workflow(BUNDLE, "train.json", **settings)
    return out / "model.pt"


def train(data: Path, out: Path, *configs: str, **settings: Any) -> Any:
    options = {**tiny.NETWORK, **SHORT, "val_pairs": 1, **settings}
    return run_workflow(
        BUNDLE, "train.json", *configs, dataset_dir=str(data), output_dir=str(out), ckpt_dir=str(out), **options
    )


def test_a_turned_scan_gets_its_ct_on_its_own_grid_with_its_bands(data: Path, weights: Path, tmp_path: Path) -> None:
    scan = nib.load(data / "mr/head_0.nii.gz")
    values = np.asarray(scan.dataobj)[::-1].transpose(2, 0, 1)[:, :, :22]
    turn = np.zeros((4, 4))
    turn[0, 1], turn[1, 2], turn[2, 0], turn[3, 3] = -1, 1, 1, 1
    turn[0, 3] = scan.shape[0] - 1
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(values, scan.affine @ turn @ np.diag([1, 1.0, 1, 1])), tmp_path / "in/a.nii.gz")
    settings = {**tiny.NETWORK, "weights": str(weights), "bands": True}
    run_workflow(
        BUNDLE,
        "inference.json",
        kind="infer",
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        **settings,
    )
    source = nib.load(tmp_path / "in/a.nii.gz")
    found = {name: nib.load(tmp_path / f"out/a_{name}.nii.gz") for name in ("sct", "sct_low", "sct_high", "phigh")}
    assert len(list((tmp_path / "out").iterdir())) == 4
    for image in found.values():
        assert image.shape == source.shape
        assert np.allclose(image.affine, source.affine, atol=1e-4)
    ct = np.asarray(found["sct"].dataobj)
    assert ct.dtype == np.int16
    assert ct.min() >= -1024
    assert ct.max() <= 2253
    low, high, share = (found[name].get_fdata() for name in ("sct_low", "sct_high", "phigh"))
    assert np.abs(np.clip(low + high, -1024, 2252.7) - ct).max() <= 1
    assert share.min() >= -1e-6
    assert share.max() <= 1 + 1e-6


def test_ct_in_place_of_mr_is_translated_with_a_warning_that_says_why(
    data: Path, weights: Path, tmp_path: Path
) -> None:
    settings = {**tiny.NETWORK, "weights": str(weights), "dataset_dir": str(data / "ct/head_0.nii.gz")}
    command = ["inference.json"]
    with pytest.warns(ModalityWarning, match=r"ct/head_0\.nii\.gz should be MR but looks like CT"):
        run_loudly(*command, output_dir=str(tmp_path), **settings)
    assert (tmp_path / "head_0_sct.nii.gz").is_file()


def test_a_scan_of_more_than_the_head_is_translated_with_a_warning(data: Path, weights: Path, tmp_path: Path) -> None:
    settings = {**tiny.NETWORK, "weights": str(weights), "dataset_dir": str(data / "mr/head_0.nii.gz")}
    with pytest.warns(FieldOfViewWarning, match="head-feet .* mm \\(trained on 100\\)"):
        run_loudly("inference.json", output_dir=str(tmp_path), field_mm=[300.0, 300.0, 100.0], **settings)
    image: Any = nib.load(tmp_path / "head_0_sct.nii.gz")
    planes = (np.asarray(nib.as_closest_canonical(image).dataobj) != -1024).any((0, 1))  # from the feet
    assert not planes[: len(planes) // 3].any()
    assert planes[-1]


def run_loudly(config: str, **settings: Any) -> None:
    """As ``run_workflow``, with warnings."""
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        str(BUNDLE / "configs" / config),
        workflow_type="infer",
        logging_file=False,  # type: ignore[arg-type]
        bundle_root=str(BUNDLE),
        device="cpu",
        **settings,
    )
    workflow.initialize()
    workflow.run()


def chain(error: BaseException | None) -> str:
    """What an error and those behind it say."""
    return "" if error is None else f"{error}\n{chain(error.__cause__)}"


def test_pairs_on_two_grids_and_empty_folders_are_named(data: Path, tmp_path: Path) -> None:
    for kind, width in (("mr", 24), ("ct", 20)):
        (tmp_path / kind).mkdir()
        for name in ("a", "b"):
            values = np.random.default_rng(width).normal(0, 300, (24, 24, width)).astype(np.float32)
            nib.save(nib.Nifti1Image(values, np.diag([8.0, 8, 8, 1])), tmp_path / kind / f"{name}.nii.gz")
    with pytest.raises(RuntimeError) as found:
        train(tmp_path, tmp_path / "out")
    assert "ct/a.nii.gz has (24, 24, 20) voxels" in chain(found.value)
    with pytest.raises(RuntimeError) as found:
        train(tmp_path / "nothing", tmp_path / "out")
    assert "nothing/mr and" in chain(found.value)
    assert "hold 0 pairs" in chain(found.value)
    with pytest.raises(RuntimeError) as found:
        train(data, tmp_path / "out", val_pairs=4)
    assert "hold 4 pairs of NIfTI or MGZ files of one name, wanted at least 5" in chain(found.value)


@pytest.mark.parametrize(
    "configs",
    [
        ["baseline.json"],
        ["boundary_refinement.json"],
        ["fc_net.json"],
        ["res_net.json"],
        ["fc_net.json", "baseline.json"],
        ["adversarial.json"],
        ["fc_net.json", "adversarial.json"],
        ["gan.json"],
    ],
    ids="+".join,
)
def test_every_variant_trains_and_is_evaluated(data: Path, tmp_path: Path, configs: list[str]) -> None:
    small = {"backbone#features": [4, 4, 4]} if "fc_net.json" in configs else {}
    small = {"backbone#features": [4, 4, 4, 4, 4], "backbone#repeat": 1} if "res_net.json" in configs else small
    workflow = train(data, tmp_path, *configs, warm_up_share=0.5, **small)
    backbone = {"fc_net.json": FCNet, "res_net.json": ResNet}.get(configs[0], UNet)
    assert isinstance(workflow.parser.get_parsed_content("network").backbone, backbone)
    columns = (tmp_path / "loss.csv").read_text().splitlines()[0].split(",")
    judged = configs[-1] in ("adversarial.json", "gan.json")
    banded = configs[-1] in ("fc_net.json", "res_net.json", "adversarial.json")
    assert ("high_band" in columns) == banded
    assert ("adversarial" in columns) == ("discriminator_band" in columns) == judged
    settings = {**tiny.NETWORK, **small, "weights": str(tmp_path / "model.pt"), "dataset_dir": str(data)}
    run_workflow(BUNDLE, "evaluate.json", *configs, kind=None, output_dir=str(tmp_path / "eval"), **settings)
    assert "val_dice_bone" in (tmp_path / "eval/metrics.csv").read_text()


@pytest.mark.parametrize("config", ["adversarial.json", "gan.json"])
def test_a_cosine_takes_the_rate_of_both_networks_to_zero_and_is_kept(data: Path, tmp_path: Path, config: str) -> None:
    settings = {"epochs": 4, "samples_per_epoch": 1, "warm_up_share": 0.0, "learning_rate": 0.005}
    names = ("optimizer", "judge_optimizer")
    for decay, wanted in ((False, 0.005), (True, 0.0)):
        workflow = train(data, tmp_path / str(decay), config, cosine_decay=decay, **settings)
        rates = [workflow.parser.get_parsed_content(name).param_groups[0]["lr"] for name in names]
        assert rates == pytest.approx([wanted] * 2, abs=1e-9)
        kept = workflow.parser.get_parsed_content("train#step").checkpoint_objects()
        assert kept["judge_scheduler"].last_epoch == kept["scheduler"].last_epoch == 4


def test_a_loss_that_is_not_finite_stops_with_the_files_name_and_keeps_the_last_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data/mr/head_1.nii.gz"
    broken = nib.load(path).get_fdata(dtype=np.float32)
    broken[0, 0, :2] = 3e38  # finite, but not their sum
    nib.save(nib.Nifti1Image(broken, nib.load(path).affine), path)
    with pytest.raises(RuntimeError) as found:
        train(tmp_path / "data", tmp_path / "out", epochs=12, samples_per_epoch=1)
    text = chain(found.value)
    assert "the loss must be finite, got nan" in text
    assert "mr/head_1.nii.gz" in text
    assert "mr/head_0.nii.gz" not in text
    last = sorted((tmp_path / "out/checkpoints").glob("*.pt"))[-1]
    state = torch.load(last, weights_only=True)
    assert all(torch.isfinite(value).all() for value in state["objects"]["generator"].values())


def adversarial_training(data: Path, out: Path) -> list[str]:
    settings = {
        **tiny.train(data),
        "epochs": 4,
        "warm_up_share": 0.25,
        "adversarial_weight": 0.1,
        "resume": True,
    }
    command = [sys.executable, "-m", "monai.bundle", "run", "--logging_file", "False", "--config_file"]
    command += [str([str(BUNDLE / "configs" / name) for name in ("train.json", "adversarial.json")])]
    folder = {"bundle_root": str(BUNDLE), "output_dir": str(out), "ckpt_dir": str(out), "device": "cpu"}
    for key, value in {**folder, **settings}.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value).replace("true", "True")]
    return command


@pytest.mark.slow
def test_adversarial_training_that_is_killed_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(adversarial_training(data, tmp_path / "whole"), timeout=300, check=False, **run)
    assert done.returncode == 0, done.stderr[-3000:]
    whole = loss_curve(tmp_path / "whole")
    process = subprocess.Popen(adversarial_training(data, tmp_path / "killed"), **run)
    log = tmp_path / "killed/loss.csv"
    while (
        not log.exists() or log.read_text().count("\n") < 11
    ):  # in the third epoch, the judge at work since the second
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(loss_curve(tmp_path / "killed")) < len(whole)
    state = torch.load(sorted((tmp_path / "killed/checkpoints").glob("*.pt"))[-1], weights_only=True)["objects"]
    assert {
        "discriminator_band",
        "discriminator_band_optimizer",
        "generator_optimizer",
        "scheduler",
        "judge_scheduler",
    } <= set(state)
    again = subprocess.run(adversarial_training(data, tmp_path / "killed"), timeout=300, check=False, **run)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (tmp_path / "killed/loss.csv").read_text().splitlines()[0] == (
        tmp_path / "whole/loss.csv"
    ).read_text().splitlines()[0]
    assert loss_curve(tmp_path / "killed") == whole


def test_a_page_shows_what_was_found_beside_the_truth(data: Path, weights: Path, tmp_path: Path) -> None:
    settings = {**tiny.NETWORK, "weights": str(weights), "bands": True, "dataset_dir": str(data / "mr/head_0.nii.gz")}
    run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(tmp_path), **settings)
    page = tmp_path / "page.png"
    draw_page(data, tmp_path, page, scale=1)
    assert Image.open(page).size == (5 * tiny.SIZE, 2 * tiny.SIZE)  # one case has results
    with pytest.raises(ScanError, match=r"no scan of .*/mr has its CT and, in .*/nothing, its results with bands"):
        draw_page(data, tmp_path / "nothing", page)


def test_errors_are_red_where_too_dense_and_blue_where_not_dense_enough() -> None:
    flat = np.zeros((1, 1, 3), dtype=np.float32)
    found = np.array([[[300.0, 0.0, -600.0]]], dtype=np.float32)
    error = panels(flat, found, flat, flat, window_hu=(-300, 300), error_hu=600)[3]
    assert error[0, 0].tolist() == [[255, 128, 128], [255, 255, 255], [0, 0, 255]]
