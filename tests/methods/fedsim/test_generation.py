"""New patients: repeatable, complete files, and a manifest that tells how to make each again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from medsynth_ext.data.scans import ScanError
from medsynth_ext.engines import LatentGaussian
from medsynth_ext.handlers import WeightsError, half_state_dict, load_weights
from medsynth_ext.methods.fedsim.cases import find_site_cases, find_training_pairs
from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.fixed_material import FixedMaterial
from medsynth_ext.methods.fedsim.generation import HeartSimulator
from medsynth_ext.methods.fedsim.model import HeartModel
from medsynth_ext.methods.fedsim.rerendering import rerender, rerender_cases
from medsynth_ext.methods.fedsim.spade import SpadeGenerator
from medsynth_ext.methods.fedsim.weights import SimulatorWeights
from medsynth_ext.methods.fedsim.writer import file_hash, generate_cases
from medsynth_ext.networks import xavier_init


@pytest.fixture
def parts(make_model: Callable[..., HeartModel]) -> tuple[HeartModel, torch.nn.Module]:
    model = make_model()
    return model, xavier_init(SpadeGenerator(size=32, features=2, hidden=4), gain=1.0)


def gaussian(scale: float = 1.0) -> LatentGaussian:
    return LatentGaussian(torch.zeros(8).double(), scale * torch.eye(8).double(), 9)


def simulator(parts: tuple[HeartModel, torch.nn.Module], **options: Any) -> HeartSimulator:
    return HeartSimulator(*parts, gaussian(), **options)


def test_a_case_is_a_function_of_seed_and_number(parts) -> None:
    first, again = simulator(parts).generate(3, seed=5), simulator(parts, slices_at_once=5).generate(3, seed=5)
    assert torch.equal(first.z, again.z)
    assert torch.equal(first.parts, again.parts)
    assert torch.allclose(first.image, again.image, atol=2e-3)  # convolutions differ with the batch
    assert torch.equal(first.image, simulator(parts).generate(3, seed=5).image)
    other = simulator(parts).generate(4, seed=5)
    assert not torch.equal(first.z, other.z)
    assert first.image.shape == (1, 32, 32, 32)
    assert first.image.abs().max() <= 1
    assert first.material.shape == (1, 8, 8, 8)


def test_random_shapes_fill_their_box_and_differ_from_learned_ones(parts) -> None:
    drawn = torch.stack([simulator(parts, random_shapes=True).generate(n, seed=1).shape_parameters for n in range(6)])
    assert drawn.abs().max() <= 1
    assert drawn.std() > 0.4
    assert drawn.std() > 2 * simulator(parts).generate(0, seed=1).shape_parameters.abs().mean()


def test_shapes_that_leave_the_field_of_view_are_drawn_again(parts) -> None:
    model, generator = parts
    model.shape_model.shift = 0.6
    found = [HeartSimulator(model, generator, gaussian(), random_shapes=True).generate(n, seed=0) for n in range(4)]
    model.shape_model.shift = 0.15
    assert any(case.attempts > 1 for case in found)
    assert all(case.attempts == 10 or case.inside for case in found)


@pytest.mark.parametrize("blend", ["alpha", "poisson"])
def test_blends_put_the_fixed_materials_heart_into_the_image(parts, blend: str) -> None:
    fixed = FixedMaterial(CTSimulator(32, views=16, pitch=1.0))
    plain = simulator(parts, fixed_material=fixed).generate(0)
    blended = simulator(parts, fixed_material=fixed, blend=blend).generate(0)
    heart = plain.parts > 0
    assert torch.equal(plain.image[~heart], blended.image[~heart])
    assert not torch.allclose(plain.image[heart], blended.image[heart])
    if blend == "alpha":
        assert torch.equal(blended.image[heart], fixed(plain.parts[None])[0][heart])
    # A heart of fixed material in an image of the learned one.
    learned, pasted = simulator(parts).generate(0), simulator(parts, blend=blend, blend_material=fixed).generate(0)
    assert torch.equal(learned.image[~heart], pasted.image[~heart])
    assert torch.equal(learned.material, pasted.material)
    with pytest.raises(ValueError, match="needs a fixed material"):
        simulator(parts, blend=blend)


def test_files_and_manifest(parts, tmp_path: Path) -> None:
    weights = SimulatorWeights(*parts, gaussian(0.5))
    torch.save(half_state_dict(weights), tmp_path / "simulator.pt")
    out = tmp_path / "out"
    options: dict[str, Any] = {"weights": tmp_path / "simulator.pt", "seed": 2, "site": "B"}
    names = generate_cases(simulator(parts), out, count=1, save_mesh=True, **options)
    generate_cases(simulator(parts), out, count=1, first=1, save_parts=False, **options)
    assert names == ["B_0002_00000"]
    image, label, parts_map, material = (
        nib.load(out / f"{names[0]}_{kind}.nii.gz") for kind in ("ct", "label", "parts", "material")
    )
    assert image.get_data_dtype() == np.int16
    assert label.get_data_dtype() == parts_map.get_data_dtype() == np.uint8
    assert material.shape == (8, 8, 8)
    assert image.shape == (32, 32, 32)
    assert np.allclose(image.affine, label.affine)
    # The middle of both grids is the same point.
    assert np.allclose(image.affine @ [15.5, 15.5, 15.5, 1], material.affine @ [3.5, 3.5, 3.5, 1])
    values = np.asarray(image.dataobj)
    assert values.min() >= -1000
    assert values.max() <= 1000
    assert np.array_equal(np.asarray(label.dataobj) > 0, np.asarray(parts_map.dataobj) > 0)
    stl = (out / f"{names[0]}_mesh.stl").read_bytes()
    (faces,) = struct.unpack("<I", stl[80:84])
    assert faces == len(parts[0].shape_model.faces)
    assert len(stl) == 84 + 50 * faces
    cases = json.loads((out / "manifest.json").read_text())["cases"]
    assert list(cases) == ["B_0002_00000", "B_0002_00001"]
    entry = cases[names[0]]
    assert entry["checkpoint"] == file_hash(tmp_path / "simulator.pt")
    assert (entry["seed"], entry["index"], entry["site"]) == (2, 0, "B")
    want = simulator(parts).generate(0, seed=2)
    assert np.allclose(entry["z"], want.z, atol=1e-5)
    assert np.allclose(entry["shape_parameters"], want.shape_parameters, atol=1e-5)
    pairs = find_training_pairs(out)
    assert [Path(pair["image"]).name for pair in pairs] == ["B_0002_00000_ct.nii.gz", "B_0002_00001_ct.nii.gz"]
    assert not (out / "B_0002_00001_parts.nii.gz").exists()


def test_a_foreign_manifest_is_not_overwritten(parts, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="no manifest of generated cases"):
        generate_cases(simulator(parts), tmp_path, count=1, weights=tmp_path / "w.pt")
    assert (tmp_path / "manifest.json").read_text() == "[]"


def test_weights_hold_networks_and_gaussian(parts, tmp_path: Path, make_model) -> None:
    weights = SimulatorWeights(*parts, LatentGaussian.fit(torch.randn(5, 8), shrinkage=0.3))
    torch.save(half_state_dict(weights), tmp_path / "simulator.pt")
    fresh = SimulatorWeights(make_model(), SpadeGenerator(size=32, features=2, hidden=4))
    load_weights(fresh, tmp_path / "simulator.pt")
    assert (fresh.gaussian.count, fresh.gaussian.shrinkage) == (5, pytest.approx(0.3))
    assert torch.allclose(fresh.gaussian.covariance, weights.gaussian.covariance)
    image = HeartSimulator(fresh.model, fresh.generator, fresh.gaussian).generate(0).image
    want = HeartSimulator(*parts, weights.gaussian).generate(0).image
    assert (image - want).abs().mean() < 0.02


def test_a_mean_background_travels_with_the_weights(parts, tmp_path: Path, make_model) -> None:
    def fixed() -> FixedMaterial:
        return FixedMaterial(CTSimulator(32, views=16, pitch=1.0), background="mean")

    known, fresh = fixed(), fixed()
    known.learn_background(torch.rand(1, 1, 32, 32, 32) - 0.5, torch.zeros(1, 1, 32, 32, 32, dtype=torch.uint8))
    torch.save(half_state_dict(SimulatorWeights(*parts, gaussian(), known)), tmp_path / "simulator.pt")
    generator = SpadeGenerator(size=32, features=2, hidden=4)
    load_weights(SimulatorWeights(make_model(), generator, fixed_material=fresh), tmp_path / "simulator.pt")
    assert torch.equal(fresh.background, known.background)
    image = simulator(parts, fixed_material=fresh, blend="alpha").generate(0).image
    assert torch.equal(image, simulator(parts, fixed_material=known, blend="alpha").generate(0).image)
    with pytest.raises(WeightsError, match=r"fixed_material\.background"):
        load_weights(SimulatorWeights(make_model(), generator), tmp_path / "simulator.pt")


def test_patients_are_shown_by_another_generator(parts) -> None:
    _, generator = parts
    hearts = (torch.rand(2, 1, 32, 32, 32) > 0.7).float()
    material = torch.zeros(2, 1, 8, 8, 8)
    shown = rerender(generator, material, hearts)
    assert shown.shape == (2, 1, 32, 32, 32)
    assert not torch.allclose(shown[0], shown[1])


def test_rerendered_patients_keep_labels_names_and_grid(parts, tmp_path: Path, caplog) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 5.0
    label = torch.zeros(1, 32, 32, 32)
    label[0, 8:20, 8:20, 8:20] = 3

    for folder, value in (("images", 0.5), ("labels", label[0].numpy())):
        (tmp_path / folder).mkdir()
        for name, sign in (("one", 1), ("two", -1)):
            data = (np.full((32, 32, 32), sign * value) if folder == "images" else value).astype(np.float32)
            nib.save(nib.Nifti1Image(data, affine), tmp_path / folder / f"{name}.nii.gz")
    transform = Compose([LoadImaged(("image", "label")), EnsureChannelFirstd(("image", "label"))])
    cases = find_site_cases(tmp_path)
    cases.append({"image": "three.nii.gz"})
    out = tmp_path / "out"
    assert rerender_cases(cases, transform, parts[1], out, coarse=8) == ["one.nii.gz", "two.nii.gz"]
    assert "three.nii.gz has no label" in caplog.text
    pairs = find_training_pairs(out)
    assert [Path(pair["label"]).name for pair in pairs] == ["one.nii.gz", "two.nii.gz"]
    found = nib.load(pairs[0]["label"])
    assert np.allclose(found.affine, affine)
    assert np.array_equal(np.asarray(found.dataobj), label[0].numpy())
    image = nib.load(pairs[0]["image"])
    want = rerender(parts[1], torch.full((1, 1, 8, 8, 8), 0.5), (label[None] > 0).float())
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), (1000 * want[0, 0]).round().numpy())
    with pytest.raises(ValueError, match="no labelled patient among 1"):
        rerender_cases(cases[2:], transform, parts[1], out, coarse=8)
    damaged = tmp_path / "images/one.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(ScanError, match=r"images/one\.nii\.gz and .*labels/one\.nii\.gz cannot be read: Compressed"):
        rerender_cases(cases, transform, parts[1], out, coarse=8)
