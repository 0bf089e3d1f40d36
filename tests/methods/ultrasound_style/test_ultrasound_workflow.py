"""Files in, styles from four places, files out; steps of all stages and the baseline."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from medsynth_ext.data.scans import ScanError
from medsynth_ext.handlers import WeightsError
from medsynth_ext.methods.ultrasound_style import StyleTransferNetwork
from medsynth_ext.methods.ultrasound_style.bank import write_bank
from medsynth_ext.methods.ultrasound_style.baseline import AdaINStep, AdaINTransfer
from medsynth_ext.methods.ultrasound_style.evaluation import SpeckleDistance, TransferLossMetric, speckle_figures
from medsynth_ext.methods.ultrasound_style.features import with_classes
from medsynth_ext.methods.ultrasound_style.frames import (
    LoadGreyFramed,
    find_frames,
    find_items,
    find_training_frames,
    label_beside,
    read_grey,
)
from medsynth_ext.methods.ultrasound_style.inferer import StyleInferer
from medsynth_ext.methods.ultrasound_style.losses import StyleTransferLoss
from medsynth_ext.methods.ultrasound_style.pairs import PairedStyles, StylePairs
from medsynth_ext.methods.ultrasound_style.step import StyleTransferStep
from medsynth_ext.methods.ultrasound_style.styles import StyleSource, load_bank
from medsynth_ext.methods.ultrasound_style.writer import StyledFrameWriter
from medsynth_ext.networks import FeatureNetwork
from medsynth_ext.phantoms.ultrasound import taking_turns, ultrasound_frame, write_frames
from medsynth_ext.phantoms.ultrasound_anatomy import CONTENTS
from medsynth_ext.phantoms.ultrasound_machines import MACHINES, OBSERVED

FEATURES = (4, 6, 8, 8, 8)
WIDTHS = (4, 8, 16, 32, 32)  # of a feature network of a sixteenth


def network(seed: int = 0) -> StyleTransferNetwork:
    torch.manual_seed(seed)
    return StyleTransferNetwork(1, FEATURES).eval()


def frames(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))


def source(mode: str, **options) -> StyleSource:
    net = network()
    images = [(f"s{i}", lambda i=i: frames(4)[i]) for i in range(4)]
    bank = torch.randn(20, sum(FEATURES), generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    return StyleSource(net, mode, **{"images": images, "bank": bank, **options})


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.codes, b.codes, strict=True))


# Files


def test_frames_of_all_formats_are_the_same_picture(tmp_path):
    levels = (ultrasound_frame(0, content="pig", machine=0, size=(24, 32)).image[0] * 255).round().numpy()
    Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((levels * 257).astype(np.uint16)).save(tmp_path / "b.png")
    nib.save(nib.Nifti1Image(levels.T[..., None].astype(np.uint8), np.eye(4)), tmp_path / "c.nii.gz")
    nib.save(nib.Nifti1Image((levels.T / 255).astype(np.float32), np.eye(4)), tmp_path / "d.nii")
    Image.fromarray(np.stack([levels] * 3, -1).astype(np.uint8)).save(tmp_path / "e.png")
    wanted = torch.from_numpy(levels)[None] / 255
    found = find_frames(tmp_path)
    assert [path.name for path in found] == ["a.png", "b.png", "c.nii.gz", "d.nii", "e.png"]
    assert all(torch.allclose(read_grey(path), wanted, atol=0.005) for path in found)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("small.png", np.ones((8, 40), np.uint8), "at least 16 rows and columns, got (8, 40)"),
        ("flat.png", np.full((20, 20), 7, np.uint8), "shows nothing"),
        ("hu.nii.gz", np.linspace(-1000, 500, 400).reshape(20, 20), "real numbers in [0, 1], got -1000 to 500"),
        ("volume.nii.gz", np.zeros((20, 20, 3)), "one slice, got sizes (20, 20, 3)"),
        ("dark.png", np.arange(400, dtype=np.uint16).reshape(20, 20) // 2, "none exceeds 199: store 8-bit frames in 8"),
        ("dark.nii.gz", np.arange(400, dtype=np.int16).reshape(20, 20) // 2, "none exceeds 199: store 8-bit frames"),
        ("text.png", None, "cannot be read as a frame"),
    ],
)
def test_a_frame_that_cannot_be_used_is_one_sentence(tmp_path, name, values, sentence):
    path = tmp_path / name
    if values is None:
        path.write_text("no picture")
    elif name.endswith(".png"):
        Image.fromarray(values).save(path)
    else:
        nib.save(nib.Nifti1Image(values if values.dtype == np.int16 else values.astype(np.float32), np.eye(4)), path)
    with pytest.raises(ScanError) as caught:
        read_grey(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_folders_with_too_little_are_refused(tmp_path):
    assert find_items(tmp_path / "none") == find_training_frames(tmp_path / "none") == []
    with pytest.raises(ScanError, match="does not exist"):
        find_frames(tmp_path / "none")
    with pytest.raises(ScanError, match="no frame in"):
        find_frames(tmp_path)
    write_frames(tmp_path, count=1, size=(16, 16))
    with pytest.raises(ScanError, match="at least 4 frames for training and validation, got 1"):
        find_training_frames(tmp_path)
    Image.new("L", (16, 16)).save(tmp_path / "images" / "x.png")
    Image.new("L", (16, 16)).save(tmp_path / "images" / "x.jpg")
    with pytest.raises(ScanError, match="results of the same name"):
        find_frames(tmp_path)


def test_training_and_validation_share_no_frame_and_mix_kinds(tmp_path):
    write_frames(tmp_path, count=24, size=(16, 16))
    train, aside = (find_training_frames(tmp_path, held_out=0.2, validation=v) for v in (False, True))
    assert len(aside) == 5
    assert len(train) == 19
    assert not {item["image"] for item in train} & {item["image"] for item in aside}
    classes = with_classes(tmp_path, train, ["machine", "content"])
    assert {item["machine"] for item in classes} == set(range(6))
    assert {item["content"] for item in classes} == set(range(4))
    with pytest.raises(ScanError, match="columns file and probe"):
        with_classes(tmp_path, train, ["probe"])


def test_masks_are_found_beside_their_frames(tmp_path):
    (path,) = write_frames(tmp_path, count=1, size=(16, 16))
    assert label_beside(path) == tmp_path / "labels" / path.name
    (tmp_path / "labels" / path.name).unlink()
    assert label_beside(path) is None


def test_pairs_are_every_frame_with_every_other():
    data = [{"image": i} for i in range(3)]
    pairs = StylePairs(data)
    assert {(p["a"], p["b"]) for p in (pairs[i] for i in range(len(pairs)))} == {
        (i, j) for i in range(3) for j in range(3)
    }


def test_fixed_pairs_are_of_different_frames_and_mostly_of_different_machines():
    names = sorted("{}_machine{}_{}".format(*taking_turns(n, list(CONTENTS), OBSERVED), n) for n in range(48))
    data = [{"image": name} for name in names]
    pairs = [(item["image"], item["style"]) for item in (PairedStyles(data)[i] for i in range(len(data)))]
    assert [content for content, _ in pairs] == names
    assert sorted(style for _, style in pairs) == names
    assert all(content != style for content, style in pairs)
    same = sum(a.split("_")[1] == b.split("_")[1] for a, b in pairs)
    assert same <= len(pairs) // 3  # a sixth by chance
    assert pairs == [(item["image"], item["style"]) for item in (PairedStyles(data)[i] for i in range(len(data)))]
    assert len(PairedStyles([])) == 0


# Styles


@pytest.mark.parametrize("mode", ["reference", "prior", "posterior_mix", "interpolate"])
def test_styles_depend_on_seed_and_number_alone(mode):
    first, again = source(mode, count=3, seed=5), source(mode, count=3, seed=5)
    late = again(4)
    assert all(same(a, b) for a, b in zip(first(4), late, strict=True))
    assert not same(first(4)[1], first(5)[1])
    assert not same(first(4)[0], first(4)[2])
    assert all(style.origin["style_mode"] == mode for style in late)
    json.dumps([style.origin for style in late])


def test_references_are_drawn_from_the_code_of_the_image():
    net = network()
    means, deviations = net.style_encoder(frames(4)[2:3])
    (exact,) = StyleSource(net, "reference", images=[("s", lambda: frames(4)[2])], deterministic=True)(0)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(exact.codes, means, strict=True))
    drawn = StyleSource(net, "reference", images=[("s", lambda: frames(4)[2])], count=400)(0)
    spread = torch.cat([style.codes[0] for style in drawn])
    assert torch.allclose(spread.mean(0), means[0][0], atol=0.15)
    assert torch.allclose(spread.std(0), deviations[0][0], atol=0.1)
    assert len(source("reference", styles_per_image=None, count=2)(0)) == 8


def test_temperature_scales_the_distance_from_the_mean():
    cold, one, hot = (source("posterior_mix", temperature=t)(3)[0] for t in (0.0, 1.0, 2.0))
    for a, b, c in zip(cold.codes, one.codes, hot.codes, strict=True):
        assert torch.allclose(c - a, 2 * (b - a), atol=1e-5)
    net = network()
    drawn = torch.cat([net.join(style.codes) for style in source("posterior_mix", count=3000)(0)])
    bank = torch.randn(20, sum(FEATURES), generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    assert torch.allclose(drawn.mean(0), bank.mean(0), atol=0.06)


def test_an_interpolation_goes_from_one_style_to_the_other_in_even_steps():
    steps = source("interpolate", count=5)(1)
    vectors = torch.cat([network().join(style.codes) for style in steps])
    assert torch.allclose(vectors.diff(dim=0), vectors.diff(dim=0)[:1].expand(4, -1), atol=1e-5)
    assert [style.origin["share"] for style in steps] == [0, 0.25, 0.5, 0.75, 1]
    assert steps[0].origin["from"] != steps[0].origin["to"]
    without = source("interpolate", images=(), count=2)(1)
    assert without[0].origin["codes"] == [2, 3]


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="style_mode must be one of reference, prior"):
        source("mixture")
    with pytest.raises(ValueError, match="needs style images"):
        source("reference", images=())
    with pytest.raises(ValueError, match="needs a bank"):
        source("posterior_mix", bank=None)
    with pytest.raises(ValueError, match="at least 2 outputs per image, got 1"):
        source("interpolate", count=1)
    with pytest.raises(ValueError, match="temperature must not be negative"):
        source("prior", temperature=-1.0)


def test_a_bank_is_written_and_one_of_another_network_refused(tmp_path):
    write_frames(tmp_path, count=6, size=(32, 32))
    net, load = network(), LoadGreyFramed("image")
    assert write_bank(tmp_path / "styles.pt", net, tmp_path, load, most=4, batch_size=3) == 4
    bank = load_bank(tmp_path / "styles.pt", sum(FEATURES))
    first = net.join(net.style_encoder(read_grey(find_frames(tmp_path)[0])[None])[0])
    assert torch.allclose(bank[:1], first, atol=1e-3)
    with pytest.raises(WeightsError, match=r"at least 2, 99\) of this network, got \(4, 34\)"):
        load_bank(tmp_path / "styles.pt", 99)
    with pytest.raises(WeightsError, match=r"configs/styles.json"):
        load_bank(tmp_path / "none.pt", 9)


# Writing


def test_outputs_keep_size_format_place_and_masks(tmp_path):
    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/labels").mkdir()
    frame = ultrasound_frame(0, content="leg", machine=0, size=(40, 24))
    affine = np.diag([0.2, 0.3, 1.0, 1.0])
    levels = (frame.image[0] * 255).round().numpy().astype(np.uint8)
    nib.save(nib.Nifti1Image(levels.T[..., None], affine), tmp_path / "in/images/one.nii.gz")
    nib.save(nib.Nifti1Image(frame.labels[0].numpy().T[..., None], affine), tmp_path / "in/labels/one.nii.gz")
    inferer = StyleInferer("prior", load=LoadGreyFramed("image"), count=2)
    dataset = SimpleNamespace(failures=[])
    loaded = LoadGreyFramed("image")({"image": str(tmp_path / "in/images/one.nii.gz")})["image"]
    small = torch.nn.functional.interpolate(loaded[None].as_subclass(torch.Tensor), size=(32, 32))
    pred = inferer(small, network())
    assert pred.shape == (1, 2, 32, 32)
    engine = Engine(lambda *_: [{"image": MetaTensor(small[0], meta=loaded.meta), "pred": pred[0]}])
    StyledFrameWriter(tmp_path / "out", inferer=inferer, dataset=dataset, strip=True).attach(engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine.run([0])
    record = json.loads((tmp_path / "out/one_styles.json").read_text())
    assert [o["file"] for o in record["outputs"]] == ["one_style0.nii.gz", "one_style1.nii.gz"]
    assert [o["code"] for o in record["outputs"]] == [0, 1]
    made = nib.load(tmp_path / "out/one_style0.nii.gz")
    assert made.shape == (24, 40, 1)
    assert np.allclose(made.affine, affine)
    mask = (tmp_path / "in/labels/one.nii.gz").read_bytes()
    assert (tmp_path / "out/labels/one_style1.nii.gz").read_bytes() == mask
    assert Image.open(tmp_path / "out/one_strip.png").size == (3 * 24, 40)
    assert json.loads((tmp_path / "out/summary.json").read_text())["labelled"] == 2
    wanted = torch.nn.functional.interpolate(pred, size=(40, 24), mode="bilinear", antialias=True)[0, 0]
    assert np.abs(np.asarray(made.dataobj)[..., 0].T - wanted.numpy() * 255).max() <= 0.51


# Steps


class EngineForSteps:
    def __init__(self) -> None:
        self.state = SimpleNamespace(iteration=1, epoch=1, device=torch.device("cpu"))

    def autocast(self):
        return torch.autocast("cpu", enabled=False)

    def update(self, loss, optimizer):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_transfer_learns_and_leaves_the_features_alone():
    torch.manual_seed(0)
    net, features = network().train(), FeatureNetwork(width=1 / 16)
    before = [p.clone() for p in features.parameters()]
    loss = StyleTransferLoss(features, content_weights=[0, 0, 0, 0, 1], style_weights=[10] * 5, kl_weight=0.1)
    step = StyleTransferStep(net, loss, torch.optim.Adam(net.parameters(), 0.01), seed=1)
    engine, totals = EngineForSteps(), []
    for _ in range(25):
        out = step(engine, {"a": frames(4), "b": frames(4).flip(0) ** 3})
        totals.append(float(out["loss"]))
        engine.state.iteration += 1
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])
    assert {"content", "style", "kl", "kl_1", "kl_5", "used_codes"} <= set(out)
    assert out["loss"] == pytest.approx(float(out["content"] + out["style"] + out["kl"]), rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, features.parameters(), strict=True))


def test_the_baseline_learns_its_decoder_and_takes_no_code():
    torch.manual_seed(0)
    net = AdaINTransfer(FeatureNetwork(width=1 / 16), WIDTHS)
    step = AdaINStep(net, torch.optim.Adam(net.decoder.parameters(), 0.01))
    engine = EngineForSteps()
    totals = [float(step(engine, {"a": frames(4), "b": frames(4).flip(0) ** 3})["loss"]) for _ in range(25)]
    assert sum(totals[-5:]) < 0.8 * sum(totals[:5])
    net.eval()
    assert torch.equal(net(frames(), frames() ** 2), net(frames(), frames() ** 2))
    assert not torch.equal(net(frames(), frames() ** 2), net(frames()))


# Figures


def test_speckle_figures_of_known_pictures():
    rayleigh = torch.rand(1, 1, 400, 400, generator=torch.Generator().manual_seed(0)).log().neg().sqrt()
    found = speckle_figures(rayleigh)
    assert found["nakagami_shape"].item() == pytest.approx(1.0, rel=0.03)
    assert found["nakagami_scale"].item() == pytest.approx(1.0, rel=0.03)
    wide, narrow = (
        speckle_figures(ultrasound_frame(0, content="leg", machine=MACHINES[m], size=(96, 96)).image[None])
        for m in (5, 0)
    )
    assert wide["lateral_lag"] > 1.5 * narrow["lateral_lag"]
    assert wide["axial_lag"] > 1.3 * narrow["axial_lag"]


def test_metrics_are_means_over_pairs_and_zero_for_the_style_itself():
    loss = StyleTransferLoss(FeatureNetwork(width=1 / 16), content_weights=[1] * 5, style_weights=[1] * 5)
    metric, image = TransferLossMetric(loss), frames(2)
    metric(image, torch.cat([image, image], 1))
    assert metric.aggregate().item() == pytest.approx(0, abs=1e-10)
    speckle = SpeckleDistance("mean")
    speckle(0.5 * image, torch.cat([image, image], 1))
    assert speckle.aggregate().item() == pytest.approx(0.5)
