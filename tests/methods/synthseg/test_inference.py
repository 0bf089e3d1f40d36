from __future__ import annotations

import csv
import json
import resource
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from torch import nn

from medsynth_ext.methods.synthseg import LabelTable, SynthSegUNet
from medsynth_ext.methods.synthseg.inferer import BrainWindowInferer, FlipInferer
from medsynth_ext.methods.synthseg.postprocessing import CleanPosteriors, SoftVolumes
from medsynth_ext.methods.synthseg.preprocessing import CheckScan, ClipCT

BUNDLE = Path(__file__).parents[3] / "bundles" / "synthseg_brain_segmentation"
TABLE = LabelTable.from_json(BUNDLE / "configs" / "labels.json")
HIPPOCAMPUS = TABLE.target_values.index(17)
TINY = {"in_channels": 1, "out_channels": 33, "features": [2, 2], "levels": 2}


class Threshold(nn.Module):
    """A network that calls bright voxels left hippocampus and the rest background."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.full((image.shape[0], 33, *image.shape[2:]), -30.0)
        logits[:, :1] = 40 * (0.5 - image)
        logits[:, HIPPOCAMPUS : HIPPOCAMPUS + 1] = 40 * (image - 0.5)
        return logits


def workflow(bundle=BUNDLE, **options) -> ConfigWorkflow:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "inference.json"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="infer",
            bundle_root=str(bundle),
            device="cpu",
            **{key.replace("__", "#"): value for key, value in options.items()},
        )
    flow.initialize()
    return flow


def segment(scans, out, *, network=None, **options) -> None:
    """Run the bundle with a tiny network of random weights, or the given one."""
    options = {"network_def": TINY_DEF, "spacing_mm": 6.0, "save_overlay": False, "load_pretrain": False} | options
    if network is not None:
        options["network"] = "$" + f"{network.__module__}.{network.__name__}()"
        own = json.loads((BUNDLE / "configs" / "inference.json").read_text())["imports"]
        options["imports"] = [*own, f"$import {network.__module__}"]
    workflow(dataset_dir=str(scans), output_dir=str(out), **options).run()


TINY_DEF = {"_target_": "medsynth_ext.methods.synthseg.network.SynthSegUNet", **TINY}


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def ellipsoid(affine, shape, *, centre_mm=(14.0, -9.0, 6.0), radii_mm=(17.0, 24.0, 20.0)):
    """A bright ellipsoid on a dark, slightly noisy ground, at a place in space."""
    voxel = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    mm = voxel @ affine[:3, :3].T + affine[:3, 3]
    inside = (((mm - centre_mm) / radii_mm) ** 2).sum(-1) <= 1
    return inside, (1000.0 * inside + 5 * noise(shape)).astype(np.float32)


def head_affine(axcodes, spacing, shape, tilt_deg=0.0):
    """Affine of a scan in the given orientation whose middle is near the scanner's origin."""
    to_ras = nib.orientations.axcodes2ornt(axcodes)
    rotation = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(to_ras):
        rotation[int(world_axis), voxel_axis] = sign
    angle = np.deg2rad(tilt_deg)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ rotation @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2) + [1.3, -2.1, 0.4]
    return affine


SCANS = {
    "ras_2mm": ("RAS", (2.0, 2.0, 2.0), (48, 52, 44), 0.0, ".nii.gz"),
    "lia_1.5mm": ("LIA", (1.5, 1.5, 1.5), (64, 60, 66), 0.0, ".mgz"),
    "psr_thick": ("PSR", (1.4, 5.5, 1.4), (70, 16, 66), 0.0, ".nii"),
    "las_tilted": ("LAS", (1.7, 1.7, 4.0), (56, 60, 22), 12.0, ".nii.gz"),
    "coarse": ("RPI", (5.0, 4.0, 7.0), (20, 25, 14), -7.0, ".nii"),
}


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Folder of odd scans of the same ellipsoid and the folder of their results."""
    folder = tmp_path_factory.mktemp("scans")
    truth = {}
    for case, (axcodes, spacing, shape, tilt, suffix) in SCANS.items():
        affine = head_affine(axcodes, spacing, shape, tilt)
        truth[case], image = ellipsoid(affine, shape)
        kind = nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image
        nib.save(kind(image, affine), folder / (case + suffix))
    out = folder / "results"
    options = {"save_overlay": True, "save_posteriors": True, "save_resampled": True}
    segment(folder, out, network=Threshold, flip=False, spacing_mm=3.0, **options)
    return folder, out, truth


@pytest.mark.parametrize("case", SCANS)
def test_output_has_the_grid_of_the_scan(segmented, case):
    folder, out, _ = segmented
    scan, labels = nib.load(next(folder.glob(case + ".*"))), nib.load(out / f"{case}_seg.nii.gz")
    assert labels.shape == scan.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-3)
    assert labels.get_data_dtype() == np.int32


@pytest.mark.parametrize("case", SCANS)
def test_structure_goes_back_to_its_place_within_a_voxel(segmented, case):
    _, out, truth = segmented
    labels = np.asarray(nib.load(out / f"{case}_seg.nii.gz").dataobj)
    assert set(np.unique(labels)) == {0, 17}
    found, wanted = labels == 17, truth[case]
    shift = np.argwhere(found).mean(0) - np.argwhere(wanted).mean(0)
    assert np.abs(shift).max() < 0.5
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.9
    for axis in range(3):
        extents = [
            np.flatnonzero(m.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for m in (found, wanted)
        ]
        margin = max(1, 3.0 / SCANS[case][1][axis])  # a voxel of the scan or of the network
        assert np.abs(extents[0] - extents[1]).max() <= margin + 0.5


@pytest.mark.parametrize("case", SCANS)
def test_volume_is_that_of_the_structure(segmented, case):
    _, out, _ = segmented
    with (out / "volumes.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(SCANS)
    volumes = {key: float(value) for key, value in rows[case].items() if key != "case"}
    wanted = 4 / 3 * np.pi * 17 * 24 * 20
    rim = 0.15 if case == "coarse" else 0.08  # half of the voxels of the coarse scan are partly outside
    assert volumes.pop("left hippocampus [mm3]") == pytest.approx(wanted, rel=rim)
    assert len(volumes) == 31
    assert max(volumes.values()) < 0.01 * wanted


def test_posteriors_and_resampled_scan_share_the_network_grid(segmented):
    _, out, _ = segmented
    post, scan = nib.load(out / "psr_thick_post.nii.gz"), nib.load(out / "psr_thick_resampled.nii.gz")
    assert nib.aff2axcodes(post.affine) == ("R", "A", "S")
    np.testing.assert_allclose(post.header.get_zooms()[:3], 3.0, atol=1e-5)
    assert post.shape[3] == 33
    np.testing.assert_allclose(np.asarray(post.dataobj).sum(-1), 1, atol=1e-4)
    assert scan.shape == post.shape[:3]
    np.testing.assert_allclose(scan.affine, post.affine, atol=1e-4)


def test_every_scan_has_a_picture(segmented):
    _, out, _ = segmented
    for case in SCANS:
        assert (out / f"{case}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not list(out.glob(".part*"))


def test_network_space_is_isotropic_and_without_padding(tmp_path):
    affine = head_affine("LPS", (1.0, 1.0, 3.0), (50, 60, 20))
    _, image = ellipsoid(affine, (50, 60, 20))
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "a.nii")
    segment(tmp_path, tmp_path / "out", network=Threshold, flip=False, spacing_mm=2.0, space="network")
    labels = nib.load(tmp_path / "out" / "a_seg.nii.gz")
    assert labels.shape == (25, 30, 30)
    np.testing.assert_allclose(labels.header.get_zooms(), 2.0, atol=1e-5)
    assert nib.aff2axcodes(labels.affine) == ("R", "A", "S")


def test_segmentation_of_the_mirrored_scan_is_the_mirrored_segmentation(tmp_path):
    image = noise((30, 28, 26))
    affine = np.diag([2.0, 2, 2, 1])
    for case, data in (("a", image), ("b", image[::-1].copy())):
        (tmp_path / case).mkdir()
        nib.save(nib.Nifti1Image(data, affine), tmp_path / case / f"{case}.nii")
    torch.manual_seed(0)
    weights = tmp_path / "tiny.pt"
    torch.save(SynthSegUNet(**TINY).state_dict(), weights)
    posts = []
    for case in "ab":
        options = {"spacing_mm": 2.0, "load_pretrain": True, "weights": str(weights), "save_posteriors": True}
        options |= {"largest_component": False, "topological_components": False}
        segment(tmp_path / case, tmp_path / "out", **options)
        posts.append(np.asarray(nib.load(tmp_path / "out" / f"{case}_post.nii.gz").dataobj))
    # 30 voxels are padded to 32, evenly, so the mirror image is padded as the image is
    np.testing.assert_allclose(posts[1], posts[0][::-1][..., TABLE.target_flip], atol=1e-5)


def test_bundle_works_when_its_folder_is_copied_away(tmp_path):
    bundle = tmp_path / "elsewhere" / "synthseg_brain_segmentation"
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("models", "eval"))
    nib.save(nib.Nifti1Image(noise((20, 20, 20)), np.diag([6.0, 6, 6, 1])), tmp_path / "a.nii")
    flow = workflow(
        bundle,
        network_def=TINY_DEF,
        dataset_dir=str(tmp_path / "a.nii"),
        output_dir=str(tmp_path / "out"),
        load_pretrain=False,
        spacing_mm=6.0,
    )
    assert flow.check_properties() == []
    flow.run()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a_seg.nii.gz", "a.png", "volumes.csv"}


BAD = {
    "constant": (np.full((8, 8, 8), 3, np.float32), "constant: all 512 voxels are 3"),
    "zeros": (np.zeros((8, 8, 8), np.float32), "constant: all 512 voxels are 0"),
    "nan": (np.full((8, 8, 8), np.nan, np.float32), "no finite voxel: all 512"),
    "nearly": (np.eye(1, 16**3, dtype=np.float32).reshape(16, 16, 16), "nearly constant: only 0.0244 %"),
    "movie": (noise((8, 8, 8, 2)), "must be one 3-D scan, got 4 axes"),
}


def test_bad_scans_are_named_and_the_good_ones_segmented(tmp_path, capsys):
    affine = np.diag([6.0, 6, 6, 1])
    for case, (data, _) in BAD.items():
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{case}.nii.gz")
    for case in ("aaa_good", "zzz_good"):
        nib.save(nib.Nifti1Image(noise((18, 18, 18)), affine), tmp_path / f"{case}.nii.gz")
    nib.save(nib.Nifti1Image(noise((16, 16, 16)), affine), tmp_path / "truncated.nii.gz")
    whole = (tmp_path / "truncated.nii.gz").read_bytes()
    (tmp_path / "truncated.nii.gz").write_bytes(whole[:-3000])
    with pytest.raises(SystemExit) as stop:
        segment(tmp_path, tmp_path / "out")
    message = str(stop.value)
    assert message.startswith("error: 6 of 8 scans could not be segmented:\n")
    for case, (_, reason) in {**BAD, "truncated": (None, "cannot be read")}.items():
        lines = [line for line in message.splitlines() if f"{case}.nii.gz" in line]
        assert len(lines) == 1
        assert reason in lines[0]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "aaa_good_seg.nii.gz",
        "zzz_good_seg.nii.gz",
        "volumes.csv",
    }
    shown = capsys.readouterr()
    assert "2 of 8 scans segmented in" in shown.out
    assert shown.err.count("skipped: ") == 6


def test_only_bad_scans_leave_no_output(tmp_path):
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), tmp_path / "scans" / "a.nii")
    with pytest.raises(SystemExit, match=r"(?s)1 of 1 scans could not be segmented.*a\.nii is constant"):
        segment(tmp_path / "scans", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_missing_folder_ends_in_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r"^error: the folder of scans \S+nowhere does not exist$"):
        segment(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def scan(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    nib.save(nib.Nifti1Image(noise((40, 40, 40)), np.diag([3.0, 3, 3, 1])), folder / "a.nii")
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"weights file \S+model\.pt does not exist"),
        (b"", r"weights file \S+model\.pt is damaged or is not a file of tensors \(0 bytes\)"),
        (b"half", r"weights file \S+model\.pt is damaged"),
        ({"epoch": 3}, r"must hold a state dict of tensors, got \['epoch'\]"),
        ("foreign", r"is for another network than SynthSegUNet: 18 tensors are missing"),
        ("wider", r"have another shape, down\.0\.conv1\.weight is \(3, 1, 3, 3, 3\) where \(2, 1, 3, 3, 3\) is wanted"),
        ("nan", r"holds values that are not finite, the first tensor is head\.bias"),
    ],
)
def test_bad_weights_end_in_one_sentence(tmp_path, scan, content, message):
    path = tmp_path / "model.pt"
    state = SynthSegUNet(**TINY).state_dict()
    if content == b"half":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "nan":
        torch.save(state | {"head.bias": torch.full((33,), float("nan"))}, path)
    elif content == "wider":
        torch.save(SynthSegUNet(**TINY | {"features": [3, 2]}).state_dict(), path)
    elif content == "foreign":
        torch.save({f"net.{k}": v for k, v in list(state.items())[:7]} | dict(list(state.items())[18:]), path)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(SystemExit, match=message) as stop:
        segment(scan, tmp_path / "out", load_pretrain=True, weights=str(path))
    assert "\n" not in str(stop.value)
    assert not (tmp_path / "out").exists()


def test_half_precision_weights_are_loaded_in_float32(tmp_path, scan):
    torch.save(
        {k: v.half() if v.is_floating_point() else v for k, v in SynthSegUNet(**TINY).state_dict().items()},
        tmp_path / "m.pt",
    )
    segment(scan, tmp_path / "out", load_pretrain=True, weights=str(tmp_path / "m.pt"))
    assert (tmp_path / "out" / "a_seg.nii.gz").exists()


def test_output_folder_that_cannot_be_written_ends_in_one_sentence(tmp_path, scan):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"^error: the folder \S+file/out cannot be written: Not a directory$"):
        segment(scan, tmp_path / "file" / "out")


def test_full_disk_leaves_no_partial_file(tmp_path, scan):
    """A limit on the size of files stands for the full disk; the posteriors do not fit, the labels do."""
    untouched = {"largest_component": False, "topological_components": False}  # so that the posteriors pack badly
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, old[1]))
        with pytest.raises(SystemExit, match=r"^error: \S+a_post\.nii\.gz cannot be written: File too large$"):
            segment(scan, tmp_path / "out", save_posteriors=True, **untouched)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_seg.nii.gz"]
    nib.load(tmp_path / "out" / "a_seg.nii.gz").get_fdata()


class Tilted(nn.Module):
    """A network that is not symmetric: its logits depend on the place along the first axis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(-1, 1, image.shape[2]).view(1, 1, -1, 1, 1)
        weight = torch.arange(self.channels).view(1, -1, 1, 1, 1) / self.channels
        return 3 * weight * image + weight * place


def test_mirrored_image_gives_mirrored_posterior():
    flip = [0, 2, 1, 3]
    image = torch.rand(1, 1, 8, 6, 4)
    inferer = FlipInferer(flip, sigma=0.5)
    posterior = inferer(image, Tilted(4))
    torch.testing.assert_close(inferer(image.flip(2), Tilted(4)), posterior.flip(2)[:, flip])
    plain = FlipInferer(flip, flip=False, sigma=0.5)
    assert not torch.allclose(plain(image.flip(2), Tilted(4)), plain(image, Tilted(4)).flip(2)[:, flip], atol=1e-3)
    torch.testing.assert_close(posterior.sum(1), torch.ones(1, 8, 6, 4))


def test_posterior_without_flip_and_smoothing_is_the_softmax():
    image = torch.rand(2, 1, 4, 4, 4)
    posterior = FlipInferer(range(5), flip=False, sigma=0.0)(image, Tilted(5))
    torch.testing.assert_close(posterior, Tilted(5)(image).softmax(1))


def test_inferer_refuses_wrong_channels_and_options():
    with pytest.raises(ValueError, match="every channel once"):
        FlipInferer([0, 1, 1])
    with pytest.raises(ValueError, match="gives 4 channels, but target_flip has 3"):
        FlipInferer([0, 1, 2])(torch.rand(1, 1, 4, 4, 4), Tilted(4))


class Bright(nn.Module):
    """Two classes, bright or not; the brighter half of the surroundings, the surer."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        sure = 10 + image.mean((1, 2, 3, 4), keepdim=True)
        return torch.cat([torch.zeros_like(image), sure * (image - 0.5)], 1)


def _brain(place: tuple[int, int, int], *, shape: tuple[int, int, int] = (32, 48, 40)) -> torch.Tensor:
    """An image with a bright box of 8 x 6 x 10 voxels at a place."""
    image = torch.zeros(1, 1, *shape)
    image[0, 0, place[0] : place[0] + 8, place[1] : place[1] + 6, place[2] : place[2] + 10] = 1
    return image


@pytest.mark.parametrize("place", [(12, 20, 14), (0, 42, 30), (24, 0, 0)])
def test_window_holds_the_brain_and_is_seen_as_if_it_were_alone(place):
    image = _brain(place)
    image[0, 0, 2, 2, 2] = 1  # stray voxels must not move the window
    image[0, 0, 30, 46, 38] = 1
    inferer = BrainWindowInferer(FlipInferer([0, 1], flip=False, sigma=0.0), window=(16, 16, 16))
    posterior, coarse = inferer(image, Bright()), Bright()(image).softmax(1)
    changed = (posterior != coarse)[0, 0].nonzero()
    low, high = changed.amin(0), changed.amax(0) + 1
    assert (high - low).tolist() == [16, 16, 16]
    assert (low <= torch.tensor(place)).all()
    assert (high >= torch.tensor(place) + torch.tensor([8, 6, 10])).all()
    window = (slice(None), slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
    torch.testing.assert_close(posterior[window], Bright()(image[window]).softmax(1))


def test_window_is_not_used_where_it_holds_the_whole_image():
    image = _brain((4, 5, 3), shape=(16, 16, 16))
    inner = FlipInferer([0, 1], flip=False, sigma=0.0)
    posterior = BrainWindowInferer(inner, window=(16, 32, 16))(image, Bright())
    torch.testing.assert_close(posterior, inner(image, Bright()))


def test_image_without_any_brain_gets_a_window_all_the_same():
    image = torch.zeros(2, 1, 32, 16, 32)
    posterior = BrainWindowInferer(FlipInferer([0, 1], sigma=0.0), window=(16, 16, 16))(image, Bright())
    assert posterior.shape == (2, 2, 32, 16, 32)
    assert (posterior[:, 0] > 0.9).all()


@pytest.mark.parametrize("window", [(16, 16), (16, 0, 16)])
def test_wrong_window_is_refused(window):
    with pytest.raises(ValueError, match="window must"):
        BrainWindowInferer(FlipInferer([0, 1]), window=window)(torch.zeros(1, 1, 16, 16, 32), Bright())


def test_small_piece_of_the_whole_and_of_a_class_is_removed():
    x = torch.zeros(4, 12, 3, 3)
    x[1, 0:5], x[2, 5:8] = 0.8, 0.7  # the brain: class 1, then class 2
    x[1, 7] = 0.3  # a stray piece of class 1 inside the brain
    x[2, 10] = 1.0  # a piece apart from the brain
    x[0] = 1 - x[1:].sum(0)
    x[0, 7] = 0.0
    result = CleanPosteriors([0, 1, 2, 0])(x)
    torch.testing.assert_close(result.sum(0), torch.ones(12, 3, 3))
    assert (result[1, :5] > 0.5).all()
    assert (result[1, 7] == 0).all()
    assert (result[2, 7] == 1).all()
    assert (result[:, 10] == torch.tensor([1.0, 0, 0, 0]).view(4, 1, 1)).all()
    only_whole = CleanPosteriors([0, 1, 2, 0], classes=False)(x)
    assert (only_whole[1, 7] > 0).all()
    assert torch.equal(CleanPosteriors([0, 1, 2, 0], whole=False, classes=False)(x), x)


def test_channels_of_one_topological_class_hold_together():
    x = torch.zeros(3, 9, 2, 2)
    x[1, 0:4], x[2, 4:6], x[2, 8] = 1.0, 1.0, 1.0
    x[0] = 1 - x[1:].sum(0)
    together = CleanPosteriors([0, 1, 1], whole=False)(x)
    assert (together[2, 4:6] == 1).all()
    assert (together[2, 8] == 0).all()


def test_volume_counts_posteriors_in_cubic_millimetres():
    affine = torch.diag(torch.tensor([2.0, -1.5, 3.0, 1.0], dtype=torch.float64))
    x = torch.zeros(2, 4, 4, 4)
    x[1, 0, 0, :3] = torch.tensor([1.0, 0.5, 0.25])
    assert SoftVolumes()(MetaTensor(x, affine=affine)).tolist() == pytest.approx([0.0, 1.75 * 9.0])


def test_ct_is_told_by_whole_numbers_below_minus_500():
    hu = torch.tensor([-1000.0, -20.0, 30.0, 900.0]).view(1, 4, 1, 1)
    with pytest.warns(UserWarning, match="looks like CT and is clipped to 0 to 80 HU"):
        assert ClipCT()(hu).flatten().tolist() == [0, 0, 30, 80]
    assert torch.equal(ClipCT()(hu + 0.5), hu + 0.5)
    assert torch.equal(ClipCT()(hu.clamp(-500)), hu.clamp(-500))
    assert torch.equal(ClipCT(False)(hu), hu)
    assert ClipCT(True)(hu + 0.5).flatten().tolist() == [0, 0, 30.5, 80]
    with pytest.raises(ValueError, match='true, false or "auto"'):
        ClipCT("yes")


def test_single_bad_voxels_are_read_as_zero_with_a_warning():
    image = MetaTensor(torch.rand(1, 6, 6, 6) + 1, meta={"filename_or_obj": "x.nii"})
    image[0, 0, 0, 0], image[0, 1, 1, 1] = float("nan"), float("inf")
    with pytest.warns(UserWarning, match=r"x\.nii: 2 voxels are NaN or infinite"):
        checked = CheckScan()(image)
    assert torch.isfinite(checked).all()
    assert checked[0, 1, 1, 1] == 0
