"""Splitting labels by intensity."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.methods.synthseg.sub_labels import fit_mixture, split_labels, sub_label_table


def three_layers(noise: float = 4.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A cube with three layers of background, 60 apart, and an organ of one intensity."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(24, 24, 24)
    image[8:16], image[16:] = 60.0, 120.0
    labels = torch.zeros(24, 24, 24, dtype=torch.uint8)
    labels[4:12, 6:18, 6:18] = 3
    image[labels == 3] = 180.0
    return image + noise * torch.randn(image.shape, generator=generator), labels


def test_mixture_finds_the_gaussians_of_its_data():
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(40, 4, 6000), rng.normal(120, 9, 3000), rng.normal(200, 6, 1000)])
    counts, edges = np.histogram(data, bins=1024, range=(0, 255))
    mixture = fit_mixture((edges[1:] + edges[:-1]) / 2, counts, 3, rng=np.random.default_rng(1))
    assert mixture.means == pytest.approx([40, 120, 200], abs=1.0)
    assert np.sqrt(mixture.variances) == pytest.approx([4, 9, 6], rel=0.08)
    assert mixture.weights == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


def test_expectation_maximisation_never_lowers_the_likelihood():
    rng = np.random.default_rng(2)
    values, counts = np.arange(0.0, 255.0, 0.5), rng.integers(0, 40, 510)
    likelihoods = []
    for iterations in (1, 2, 4, 8, 16, 64):
        mixture = fit_mixture(values, counts, 5, rng=np.random.default_rng(3), iterations=iterations)
        joint = mixture.log_joint(values)
        likelihoods.append(float((np.logaddexp.reduce(joint, axis=0) * counts).sum()))
    assert all(b >= a - 1e-6 for a, b in pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0]


def test_variance_has_a_floor():
    mixture = fit_mixture(np.array([10.0, 50.0]), np.array([5, 5]), 2, rng=np.random.default_rng(0))
    assert mixture.means == pytest.approx([10, 50])
    assert mixture.variances.tolist() == [1.0, 1.0]


def test_there_are_no_more_components_than_values():
    mixture = fit_mixture(np.array([10.0, 50.0, 90.0]), np.array([5, 0, 5]), 4, rng=np.random.default_rng(0))
    assert mixture.means.tolist() == [10.0, 90.0]


def test_layers_become_sub_labels_in_the_order_of_their_intensity():
    image, labels = three_layers()
    result, records = split_labels(image, labels, background=3, foreground=1)
    for k, rows in enumerate((slice(0, 4), slice(12, 16), slice(16, 24))):
        layer = result[rows][labels[rows] == 0]
        assert float((layer == 1000 * k).float().mean()) > 0.999
    assert bool((result[labels == 3] == 3).all())
    assert [r.value for r in records] == [0, 1000, 2000, 3]
    assert sum(r.voxels for r in records) == labels.numel()


def test_every_voxel_keeps_its_label():
    image, labels = three_layers(noise=30.0)
    for background in (2, 5, 10):
        result, _ = split_labels(image, labels, background=background, foreground=2)
        assert torch.equal(result % 1000, labels.int())
        assert int(result[labels == 0].max()) < 1000 * background


def test_majority_removes_salt_and_pepper():
    image, labels = three_layers(noise=14.0)
    rough, _ = split_labels(image, labels, background=3, foreground=1, smooth=False)
    smooth, _ = split_labels(image, labels, background=3, foreground=1)
    truth = torch.zeros_like(rough)
    truth[8:16], truth[16:] = 1000, 2000
    wrong = [float((r != truth)[labels == 0].float().mean()) for r in (rough, smooth)]
    assert wrong[1] < 0.5 * wrong[0]


def test_small_sub_labels_go_to_their_neighbour_in_intensity():
    image = torch.zeros(24, 24, 24)
    image[12:] = 120.0
    image += torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    image[20, 2, 2:] = 250.0  # 22 voxels in a row
    options = {"background": 3, "smooth": False, "percentiles": (0.0, 100.0)}
    labels = torch.zeros(24, 24, 24, dtype=torch.uint8)
    kept, _ = split_labels(image, labels, least_voxels=20, **options)
    assert kept[20, 2, 2:].unique().tolist() == [2000]
    dropped, records = split_labels(image, labels, **options)
    assert [r.voxels for r in records] == [12 * 24 * 24, 12 * 24 * 24]
    assert dropped[12:].unique().tolist() == [1000]  # with the brighter layer


def test_a_label_of_few_voxels_is_not_split():
    image, labels = three_layers()
    labels[0, 0, :5] = 7
    result, _ = split_labels(image, labels, background=3, foreground=2)
    assert result[labels == 7].unique().tolist() == [7]


def test_splitting_follows_its_seed_and_no_scale():
    image, labels = three_layers(noise=20.0)
    first, _ = split_labels(image, labels, background=8, seed=1)
    assert torch.equal(first, split_labels(image, labels, background=8, seed=1)[0])
    assert torch.equal(first, split_labels(7 * image - 300, labels, background=8, seed=1)[0])
    assert not torch.equal(first, split_labels(image, labels, background=8, seed=2)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(3, 3, 4)}, r"one shape, got \(3, 3, 4\) and \(3, 3, 3\)"),
        ({"image": torch.ones(3, 3, 3)}, "must have contrast"),
        ({"image": torch.full((3, 3, 3), torch.nan)}, "must be finite"),
        ({"labels": torch.full((3, 3, 3), 1000)}, "labels must be from 0 to 999, got 1000 to 1000"),
        ({"background": 0}, "at least 1, got 0, 2 and 50"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {
        "image": torch.arange(27.0).reshape(3, 3, 3),
        "labels": torch.zeros(3, 3, 3, dtype=torch.int64),
        "background": 2,
    }
    arguments |= change
    with pytest.raises(ValueError, match=message):
        split_labels(arguments.pop("image"), arguments.pop("labels"), **arguments)


def test_table_predicts_every_sub_label_as_its_label():
    table = LabelTable.from_dict(sub_label_table({1: "left", 4: "right"}, background=3, foreground=2))
    assert table.generation_labels == [0, 1000, 2000, 1, 1001, 4, 1004]
    assert table.target_values == [0, 1, 4]
    assert table.n_classes == 7  # every one has a Gaussian of its own
    assert table.target_flip == [0, 1, 2]  # nothing is mirrored
    assert table.target_names == ["background", "left", "right"]
    with pytest.raises(ValueError, match="names must have values from 1 to 999, got 1000"):
        sub_label_table({1000: "far"})
