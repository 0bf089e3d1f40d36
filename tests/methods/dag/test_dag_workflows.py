"""Few-shot DAG from files to files: reading, fitting, both training stages, results, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, loss_curve, run_workflow
from check_bundles import REPOSITORY
from monai.bundle import ConfigParser
from monai.transforms import Compose
from PIL import Image

from medsynth_ext.data.chest_projections import ChestProjections
from medsynth_ext.data.landmark_files import read_landmarks, write_landmarks
from medsynth_ext.data.landmark_tables import read_landmark_table
from medsynth_ext.data.landmarks import LandmarkFileError, Landmarks
from medsynth_ext.data.markups import read_markups
from medsynth_ext.data.scans import ScanError
from medsynth_ext.handlers import load_weights
from medsynth_ext.methods.dag.baselines import EnsembleStep, PiStep
from medsynth_ext.methods.dag.cases import find_labelled, find_unlabelled, mean_shape
from medsynth_ext.methods.dag.evaluation import NotConvergedError
from medsynth_ext.methods.dag.heatmap_baseline import HeatmapLoss, SpatialConfigurationNet
from medsynth_ext.methods.dag.inferer import LandmarkInferer
from medsynth_ext.methods.dag.phantom_cases import write_projections
from medsynth_ext.methods.dag.placing import FitToSquared, PlaceLandmarksd, to_original
from medsynth_ext.methods.dag.radiographs import LoadRadiographd, find_radiographs, read_radiograph

BUNDLE = REPOSITORY / "bundles/fewshot_dag_landmark_localization"
NAMES = ("a", "b", "c")


def gradient(height=48, width=40) -> np.ndarray:
    return np.add.outer(np.arange(height) * 3.0, np.arange(width)).astype(np.float32)


def picture(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode).save(path)
    return path


def case(folder: Path, points, *, values=None, names=NAMES, **options) -> dict[str, str]:
    values = gradient() if values is None else values
    image = picture(folder / "images/one.png", values.astype(np.uint8))
    write_landmarks(folder / "landmarks/one.json", Landmarks(names, np.array(points, dtype=float), **options))
    return {"image": str(image), "label": str(folder / "landmarks/one.json")}


# Reading


def test_bit_depths_and_colours_give_the_same_picture(tmp_path) -> None:
    grey = gradient().astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, 2)
    opaque = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], 2)
    files = [
        picture(tmp_path / "8.png", grey),
        picture(tmp_path / "16.png", grey.astype(np.uint16)),
        picture(tmp_path / "rgb.png", rgb),
        picture(tmp_path / "rgba.png", opaque),
        picture(tmp_path / "float.tif", grey.astype(np.float32)),
    ]
    for path in files:
        found = read_radiograph(path)
        assert np.allclose(found.pixels, gradient(), atol=1e-3), path.name
        assert found.spacing_mm is None
    large = picture(tmp_path / "large.png", (gradient() * 300).astype(np.uint16))
    assert read_radiograph(large).pixels.max() == gradient().max() * 300
    opaque[:, :20, 3] = 0
    assert (read_radiograph(picture(tmp_path / "hole.png", opaque)).pixels[:, :20] == 0).all()


def test_nifti_has_rows_and_columns_of_the_tensor_and_its_place_in_the_world(tmp_path) -> None:
    affine = np.array([[0, 0, 1, 5], [-0.4, 0, 0, 6], [0, -0.7, 0, 7], [0, 0, 0, 1.0]])  # a side view
    nib.save(nib.Nifti1Image(gradient().T[..., None], affine), tmp_path / "a.nii.gz")
    found = read_radiograph(tmp_path / "a.nii.gz", spacing_mm=(9, 9))
    assert np.array_equal(found.pixels, gradient())
    assert found.spacing_mm == pytest.approx((0.7, 0.4))
    assert found.world @ [10, 20, 0, 1] == pytest.approx([5, 6 - 0.4 * 20, 7 - 0.7 * 10, 1], abs=1e-5)


def test_pictures_lie_where_viewers_put_them(tmp_path) -> None:
    path = picture(tmp_path / "a.png", gradient().astype(np.uint8))
    assert read_radiograph(path).world @ [10, 20, 0, 1] == pytest.approx([-20, -10, 0, 1])
    assert read_radiograph(path, spacing_mm=(0.5, 0.25)).world @ [10, 20, 0, 1] == pytest.approx([-5, -5, 0, 1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.with_suffix(".png").write_bytes(b""), "the file is empty"),
        (lambda p: p.with_suffix(".png").write_bytes(b"no picture"), "cannot be read as a radiograph"),
        (lambda p: picture(p.with_suffix(".png"), np.zeros((20, 64), np.uint8)), "at least 32 pixels a side, got 20 x"),
        (lambda p: picture(p.with_suffix(".png"), np.full((64, 64), 7, np.uint8)), "the value 7 everywhere"),
        (
            lambda p: picture(p.with_suffix(".tif"), np.full((64, 64), np.nan, np.float32)),
            "4096 pixels that are not fin",
        ),
        (
            lambda p: nib.save(nib.Nifti1Image(np.zeros((40, 40, 3), np.float32), np.eye(4)), p.with_suffix(".nii")),
            r"must be one 2D image, got 3 axes of sizes \(40, 40, 3\)",
        ),
    ],
)
def test_an_image_that_is_no_good_is_refused_in_one_sentence(tmp_path, make, said) -> None:
    make(tmp_path / "bad")
    (path,) = tmp_path.iterdir()
    with pytest.raises(ScanError, match=said) as error:
        read_radiograph(path)
    assert str(path) in str(error.value)


def test_folders_without_images_or_with_equal_names_are_refused(tmp_path) -> None:
    with pytest.raises(ScanError, match="no radiograph in"):
        find_radiographs(tmp_path)
    with pytest.raises(ScanError, match="does not exist"):
        find_radiographs(tmp_path / "none")
    picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    picture(tmp_path / "a_overlay.png", np.zeros((4, 4), np.uint8))
    assert [p.name for p in find_radiographs(tmp_path)] == ["a.png"]
    picture(tmp_path / "a.jpg", np.zeros((4, 4), np.uint8))
    with pytest.raises(ScanError, match=r"a.jpg and a.png in .* would give results of the same name"):
        find_radiographs(tmp_path)


# Placing


@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("spacing", [None, (0.5, 0.5), (1.0, 0.25)])
def test_a_landmark_keeps_its_place_on_the_square_and_comes_back(tmp_path, size, spacing) -> None:
    points = [[30.0, 12.0], [5.5, 33.25], [np.nan, np.nan]]
    y, x = np.mgrid[:90, :70]
    values = 20 + 200 * np.exp(-((y - 60) ** 2 + (x - 24) ** 2) / (2 * 6.0**2))
    points[0] = [60.0, 24.0]
    item = case(tmp_path, points, values=values, spacing_mm=spacing, size=(90, 70))
    transforms = [
        LoadRadiographd("image", landmarks_key="label"),
        FitToSquared("image", size),
        PlaceLandmarksd("label", NAMES),
    ]
    found = Compose(transforms)(item)
    image, label = found["image"], found["label"]
    assert image.shape == (1, size, size)
    assert label.isnan().any(1).tolist() == [False, False, True]
    back = to_original(label, image)
    assert torch.allclose(back[:2], torch.tensor(points[:2], dtype=torch.float64), atol=1e-3)
    weight = (image[0].as_subclass(torch.Tensor) - 20).clamp(min=0)
    weight = weight * (weight > 0.5 * weight.max())
    grid = torch.arange(size, dtype=torch.float32)
    seen = [(weight.sum(1) * grid).sum() / weight.sum(), (weight.sum(0) * grid).sum() / weight.sum()]
    assert [float(v) for v in seen] == pytest.approx(label[0].tolist(), abs=0.15 if size > 32 else 0.25)
    extent = np.array([90, 70]) * (spacing or (1, 1))
    sides = (image[0] != 0).any(1).sum().item(), (image[0] != 0).any(0).sum().item()
    assert sides == tuple(max(1, round(size * e / extent.max())) for e in extent)


@pytest.mark.parametrize(
    ("points", "options", "said"),
    [
        ([[1, 2], [3, 4], [60, 4]], {}, r"'c' lies at y, x = \[60.0, 4.0\], outside of the image of 48 x 40"),
        ([[1, 2], [3, 4], [3, 4]], {}, "'b' and 'c' lie at one place"),
        ([[1, 2], [3, 4]], {"names": ("a", "b")}, "must hold the 3 landmarks a, b, c; it has 2, without c"),
        ([[1, 2], [3, 4], [5, 6]], {"size": (50, 50)}, "is for an image of 50 x 50, its image has 48 x 40"),
        ([[1, 2, 3], [3, 4, 5], [5, 6, 7]], {}, r"must hold points \(y, x\), got 3 axes"),
        ([[np.nan, np.nan]] * 3, {}, "has no visible landmark"),
    ],
)
def test_landmarks_that_do_not_fit_their_image_are_refused(tmp_path, points, options, said) -> None:
    item = LoadRadiographd("image")(case(tmp_path, points, **options))
    with pytest.raises(LandmarkFileError, match=said):
        PlaceLandmarksd("label", NAMES)(item)


def test_an_image_without_landmarks_is_named_and_unlabelled_ones_have_a_folder(tmp_path) -> None:
    assert find_labelled(tmp_path) == find_unlabelled(tmp_path) == []
    picture(tmp_path / "unlabelled/u.png", np.zeros((4, 4), np.uint8))
    assert [Path(c["image"]).name for c in find_unlabelled(tmp_path)] == ["u.png"]
    picture(tmp_path / "images/i.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(LandmarkFileError, match=r"i.png has no landmarks: wanted .*landmarks/i.json"):
        find_labelled(tmp_path)


def test_mean_shape_is_over_the_images_that_show_a_point() -> None:
    image, nan = torch.zeros(1, 10, 10), torch.nan
    samples = [
        {"image": image, "label": torch.tensor([[1.0, 1.0], [nan, nan]])},
        {"image": image, "label": torch.tensor([[3.0, 5.0], [4.5, 4.5]])},
    ]
    assert torch.allclose(mean_shape(samples), torch.tensor([[-0.5, -0.3], [0.0, 0.0]]), atol=1e-6)
    with pytest.raises(ValueError, match=r"landmark 1 .* is visible in none of the 1 images"):
        mean_shape(samples[:1])
    with pytest.raises(ValueError, match="there is no labelled image"):
        mean_shape([])


# Inference


def test_shifted_views_agree_for_a_network_that_follows_the_image_and_spread_for_one_that_does_not() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., 30, 20] = 1.0

    def centroid(x: torch.Tensor) -> torch.Tensor:
        grid = torch.arange(64.0)
        mass = x.sum((1, 2, 3))
        return torch.stack([(x.sum(3)[:, 0] @ grid) / mass, (x.sum(2)[:, 0] @ grid) / mass], -1)[:, None]

    found = LandmarkInferer(views=8, shift=0.1)(image, centroid)
    assert torch.allclose(found, torch.tensor([[[30.0, 20.0, 0.0]]]), atol=1e-2)
    fixed = LandmarkInferer(views=8, shift=0.1)(image, lambda x: torch.full((1, 1, 2), 5.0))
    assert fixed[0, 0, 2] > 3.0
    assert LandmarkInferer()(image, centroid).shape == (1, 1, 2)


@pytest.fixture(scope="module")
def workflows(tmp_path_factory):
    """Both stages on tiny data."""
    tiny = load_tiny(BUNDLE.name)
    folder = tmp_path_factory.mktemp("dag")
    settings = tiny.train(folder / "data") | {"epochs": 2, "write_weights": "latest"}
    picture(folder / "data/unlabelled/u.png", gradient(64, 64).astype(np.uint8))
    one = folder / "one"
    run_workflow(BUNDLE, "train.json", output_dir=str(one), ckpt_dir=str(one), **settings)
    return tiny, folder, settings


def second_stage(workflows, out: Path, **options):
    _, folder, settings = workflows
    semi = {**settings, "init_weights": str(folder / "one/model.pt"), "unlabelled_ratio": 2, "samples_per_epoch": 24}
    return run_workflow(
        BUNDLE, "train.json", "train_semi.json", output_dir=str(out), ckpt_dir=str(out), **(semi | options)
    )


def test_second_stage_goes_on_from_the_first_with_unlabelled_batches(workflows, tmp_path) -> None:
    workflow = second_stage(workflows, tmp_path, max_initial_error=1.0)
    header, *rows = (tmp_path / "loss.csv").read_text().splitlines()
    assert {"unlabelled_global", "unlabelled_local", "unlabelled_features"} <= set(header.split(","))
    assert len(rows) == 2 * 6
    assert [i for i, _ in loss_curve(tmp_path)] == list(range(1, 13))
    ema = workflow.parser.get_parsed_content("ema")
    assert ema.updates == 12
    first = torch.load(workflows[1] / "one/model.pt", weights_only=True)
    assert torch.equal(ema.network.mean_shape, first["mean_shape"])  # frozen after the first stage


def test_second_stage_refuses_a_first_one_that_did_not_converge(workflows, tmp_path) -> None:
    with pytest.raises(RuntimeError) as error:
        second_stage(workflows, tmp_path, max_initial_error=1e-4)
    cause: BaseException = error.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, NotConvergedError)
    assert "stage 1 did not converge: its mean error on the validation images is" in str(cause)
    assert not list(tmp_path.glob("**/*.pt"))


def test_inference_writes_pixels_millimetres_and_the_world_for_viewers(workflows, tmp_path, capsys) -> None:
    tiny, folder, _ = workflows
    settings = tiny.infer(tmp_path / "data", folder / "one/model.pt")
    (tmp_path / "data/images/bad.png").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"1 of 2 radiographs could not be located:\n.*bad.png is not a radiograph"):
        run_workflow(
            BUNDLE, "inference.json", kind="infer", output_dir=str(tmp_path / "o"), spacing_mm=[0.5, 0.5], **settings
        )
    found = read_landmarks(tmp_path / "o/one.json")
    assert len(found.names) == 25
    assert found.size == (64, 64)
    assert found.spacing_mm == (0.5, 0.5)
    assert np.isfinite(found.index).all()
    assert (found.spread >= 0).all()
    names, world = read_markups(tmp_path / "o/one.mrk.json")
    assert names == found.names
    expected = np.column_stack([-found.index[:, 1] * 0.5, -found.index[:, 0] * 0.5, np.zeros(25)])
    assert np.allclose(world, expected, atol=1e-3)
    table = read_landmark_table(tmp_path / "o/landmarks.csv")
    assert np.allclose(table["one"].index, found.index, atol=1e-3)
    assert Image.open(tmp_path / "o/one_overlay.png").size == (1024, 1024)
    assert list(json.loads((tmp_path / "o/failed.json").read_text())) == [str(tmp_path / "data/images/bad.png")]
    assert "1 of 2 radiographs located" in capsys.readouterr().out


def test_label_and_deploy_can_run_the_parts_one_after_another(workflows, tmp_path) -> None:
    """They take preprocessing, network, inferer and postprocessing, and never the evaluator."""
    tiny, folder, _ = workflows
    settings = tiny.infer(tmp_path / "data", folder / "one/model.pt")
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs/inference.json"))
    parser.update({**settings, "output_dir": str(tmp_path / "o"), "device": "cpu"})
    parts = [parser.get_parsed_content(k) for k in ("preprocessing", "inferer", "network_def", "postprocessing")]
    preprocessing, inferer, network, postprocessing = parts
    load_weights(network, folder / "one/model.pt")
    data = preprocessing({"image": str(tmp_path / "data/images/one.png")})
    with torch.no_grad():
        data["pred"] = inferer(data["image"][None], network.eval())[0]
    done = postprocessing(data)
    landmarks = done["landmarks"]
    assert landmarks.names == read_markups(tmp_path / "o/one.mrk.json")[0]
    assert np.allclose(landmarks.world_mm, read_markups(tmp_path / "o/one.mrk.json")[1], atol=1e-3)
    assert tuple(done["image"].meta["spatial_shape"]) == done["pred"].shape[1:]  # so Label resizes nothing
    discs = np.asarray(done["pred"])[0]
    for number, place in enumerate(landmarks.world_mm, start=1):
        if (discs == number).sum() < 5:  # hidden by a later one, or at the border
            continue
        centre = np.argwhere(discs == number).mean(0)
        assert np.linalg.norm(done["pred"].affine.numpy()[:3] @ [*centre, 1] - place) < 1.5
    answer = json.loads(json.dumps(done["result"], allow_nan=False))  # what Label sends
    assert answer["markups"] == json.loads((tmp_path / "o/one.mrk.json").read_text())
    assert answer["landmarks"] == json.loads((tmp_path / "o/one.json").read_text())


def test_projections_of_a_ct_are_a_training_set(tmp_path) -> None:
    hu, numbers = np.full((40, 40, 40), -1000, dtype=np.int16), np.zeros((40, 40, 40), dtype=np.uint8)
    for number, place in ((1, (10, 20, 12)), (2, (28, 18, 26))):
        box = tuple(slice(n - 3, n + 4) for n in place)
        hu[box], numbers[box] = 800, number
    for name, values in (("ct", hu), ("labels", numbers)):
        nib.save(nib.Nifti1Image(values, np.diag([8.0, 8.0, 8.0, 1.0])), tmp_path / f"{name}.nii.gz")
    (tmp_path / "structures.csv").write_text("id,structure\n1,rib_left_1\n2,vertebrae_T5\n")
    files = (tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz")
    names = write_projections(tmp_path / "data", *files, labelled=2, unlabelled=1, size=64)
    assert names == ("rib_left_1", "vertebrae_T5")
    cases = find_labelled(tmp_path / "data")
    assert len(cases) == 2
    assert len(find_unlabelled(tmp_path / "data")) == 1
    chest = ChestProjections(*files)
    for seed, case in enumerate(cases):
        found = read_landmarks(case["label"])
        assert found.names == names
        assert np.allclose(found.index, chest.radiograph(seed, size=64).points, atol=1e-3)


def test_second_stage_with_a_turned_student(workflows, tmp_path) -> None:
    second_stage(workflows, tmp_path, max_initial_error=1.0, equivariance=True, epochs=1)
    assert all(np.isfinite(loss) for _, loss in loss_curve(tmp_path))


def test_evaluation_measures_in_pixels_of_the_file(workflows, tmp_path) -> None:
    tiny, folder, _ = workflows
    settings = tiny.evaluate(tmp_path / "data", folder / "one/model.pt")
    workflow = run_workflow(BUNDLE, "evaluate.json", kind=None, output_dir=str(tmp_path / "o"), **settings)
    summary = json.loads((tmp_path / "o/summary.json").read_text())
    share = workflow.parser.get_parsed_content("validate#evaluator").state.metrics["val_mean_error"]
    assert summary["px"]["mean"] == pytest.approx(64 * share, rel=1e-4)
    spacing = read_landmarks(tmp_path / "data/landmarks/one.json").spacing_mm
    assert summary["mm"]["mean"] == pytest.approx(summary["px"]["mean"] * spacing[0], rel=1e-4)
    rows = (tmp_path / "o/errors.csv").read_text().splitlines()
    assert rows[0] == "case,landmark,error_px,error_width,error_mm"
    errors = [float(row.split(",")[3]) for row in rows[1:]]
    assert summary["failure_rate"] == pytest.approx(np.mean(np.array(errors) > 0.05))


# Baselines


def test_heatmap_network_looks_at_the_others_only_and_multiplies(tmp_path) -> None:
    torch.manual_seed(0)
    network = SpatialConfigurationNet(3, channels=4, kernel=3)
    x = torch.randn(1, 3, 8, 8)
    torch.nn.init.normal_(network.configuration.conv.weight)
    changed = x.clone()
    changed[:, 1] += 1
    before, after = network.configuration(x), network.configuration(changed)
    assert torch.equal(before[:, 1], after[:, 1])
    assert not torch.allclose(before[:, 0], after[:, 0])
    image = torch.randn(2, 1, 32, 32)
    assert network(image).shape == (2, 3, 32, 32)
    assert network.points(image).shape == (2, 3, 2)


def test_heatmap_network_learns_one_image() -> None:
    torch.manual_seed(0)
    network = SpatialConfigurationNet(2, channels=8, kernel=3)
    image = torch.zeros(1, 1, 32, 32)
    image[..., 10, 20], image[..., 22, 6] = 5.0, -5.0
    points = torch.tensor([[[10.0, 20.0], [22.0, 6.0]]])
    optimizer, loss = torch.optim.Adam(network.parameters(), 0.01), HeatmapLoss(2.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(image), points).backward()
        optimizer.step()
    assert (network.points(image) - points).norm(dim=-1).max() < 1.0


@pytest.mark.parametrize("memory", [1.0, 0.5])
def test_ensemble_keeps_its_targets_for_the_image_as_it_is(memory) -> None:
    step = _baseline(EnsembleStep, memory=memory)
    images = torch.rand(3, 1, 32, 32)
    step.remember(images)
    start = step.table.clone()
    index = torch.tensor([2, 0])
    step.run({"image": images[index], "index": index}, 0, torch.device("cpu"))
    assert torch.equal(step.table[1], start[1])
    assert torch.equal(step.table[index], start[index]) == (memory == 1.0)
    # The last layers are zero, so that every prediction is the mean shape where the augmented image has it.
    assert (step.table - start).abs().max() < 0.3
    fresh = _baseline(EnsembleStep, memory=memory)
    fresh.load_state_dict(step.state_dict())
    assert torch.equal(fresh.table, step.table)


def test_pi_model_compares_two_disturbed_copies() -> None:
    step = _baseline(PiStep)
    torch.nn.init.normal_(step.student.global_gcn.last.weight, std=0.1)
    output = step.run({"image": torch.rand(2, 1, 32, 32)}, 0, torch.device("cpu"))
    assert output["unlabelled_local"] > 0
    assert torch.isfinite(output["loss"])


def _baseline(kind, **options):
    from medsynth_ext.handlers import EMA
    from medsynth_ext.methods.dag.augmentation import RadiographAugmentation
    from medsynth_ext.methods.dag.losses import DAGLoss
    from medsynth_ext.methods.dag.network import DAGNet
    from medsynth_ext.methods.dag.task import DAGTask

    torch.manual_seed(0)
    network = DAGNet(3, width=2, stem_channels=4, modules=(1, 1, 1), blocks=(1, 1, 1, 1), features=8)
    network.set_mean_shape(torch.rand(3, 2) - 0.5)
    task = DAGTask(RadiographAugmentation(), DAGLoss(feature_weight=0.0, margin=0.0))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    return kind(task, network, EMA(network, decay=0.0, warm_up=1.0), optimizer, **options)
