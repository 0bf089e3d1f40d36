"""FBPAug's network, the draw of slices, the augmentations and the step's random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext.engines import sample_states
from medsynth_ext.methods.fbpaug import ResidualUNet2D
from medsynth_ext.methods.fbpaug.augmentation import SliceAugmentation
from medsynth_ext.methods.fbpaug.slices import SliceSampler, SliceSet
from medsynth_ext.transforms import RandFBPAug


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (5, 3)])
def test_logits_have_the_size_of_the_slice(size: tuple[int, int]) -> None:
    network = ResidualUNet2D(1, 2, features=(4, 8, 8))
    assert network(torch.rand(2, 1, *size)).shape == (2, 2, *size)


def test_paper_network_has_the_blocks_of_the_table() -> None:
    network = ResidualUNet2D(features=(8, 16, 32, 64, 128, 256))
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    wanted = [8]
    for a, b in ((8, 16), (16, 32), (32, 64), (64, 128), (128, 256)):
        wanted += [a, a, b, b]
    wanted += [512, 512, 256, 256]
    for a in (128, 64, 32, 16, 8):
        wanted += [a, a, a, a]
    assert [c.out_channels for c in convolutions] == [*wanted, 8, 8]
    assert all(c.bias is None for c in convolutions)


def test_every_parameter_gets_a_gradient() -> None:
    network = ResidualUNet2D(features=(4, 8, 8))
    (network(torch.rand(2, 1, 16, 16)) ** 2).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two numbers"):
        ResidualUNet2D(features=(8,))


def slices(depths: tuple[int, ...] = (5, 9)) -> SliceSet:
    """Case c, slice k holds the value 100 c + k; only slice 2 of every case has lesion."""

    def read(case: dict[str, int]) -> dict[str, torch.Tensor]:
        depth = depths[case["number"]]
        image = (100.0 * case["number"] + torch.arange(depth)).expand(1, 8, 6, depth)
        label = torch.zeros(1, 8, 6, depth)
        label[:, 3, 3, 2] = 1
        return {"image": image, "label": label}

    return SliceSet([{"number": i, "image": f"case {i}"} for i in range(len(depths))], read)


def test_slices_are_numbered_through_the_cases() -> None:
    data = slices()
    data.load()
    assert len(data) == 14
    assert [data[i]["image"][0, 0, 0].item() for i in (0, 4, 5, 13)] == [0, 4, 100, 108]
    assert data[7]["label"].sum() == 1
    assert [list(found) for found in data.lesion_slices()] == [[2], [2]]


def test_half_of_the_draws_hold_lesion_and_processes_share_them() -> None:
    data = slices()
    data.load()
    sampler = SliceSampler(data, samples_per_epoch=2000, batch_size=4, seed=1)
    drawn = np.array(list(sampler))
    share = np.isin(drawn, [2, 7]).mean()
    assert share == pytest.approx(0.5 + 0.25 * (1 / 5 + 1 / 9), abs=0.03)
    assert (drawn < 5).mean() == pytest.approx(0.5, abs=0.04)
    halves = [
        np.array(list(SliceSampler(data, samples_per_epoch=2000, batch_size=2, seed=1, num_replicas=2, rank=r)))
        for r in (0, 1)
    ]
    both = np.concatenate([half.reshape(-1, 1, 2) for half in halves], 1).reshape(-1)
    assert (both == drawn).all()
    sampler.set_epoch(1)
    assert (np.array(list(sampler)) != drawn).any()


def test_no_case_and_cases_of_differing_size_are_named() -> None:
    with pytest.raises(ValueError, match="there is no case to train with"):
        SliceSet([], dict).load()
    sizes = iter([(1, 8, 8, 2), (1, 9, 8, 2)])

    def read(case: dict) -> dict:
        size = next(sizes)
        return {"image": torch.zeros(size), "label": torch.zeros(size)}

    with pytest.raises(ValueError, match=r"b\.nii has slices of \(9, 8, 2\)"):
        SliceSet([{"image": "a.nii"}, {"image": "b.nii"}], read).load()


def chest(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.full((count, 1, 24, 24), -1000.0)
    image[:, :, 4:20, 3:21] = 40.0
    image[:, :, 6:18, 5:10] = -850.0
    return image, (image == -850.0).float()


@pytest.mark.parametrize("kind", ["none", "fbpaug", "gamma", "noise", "windowing"])
def test_every_kind_gives_network_inputs_that_depend_on_the_sample_alone(kind: str) -> None:
    kernel = RandFBPAug(0.5, check_units=False)
    augment = SliceAugmentation(kind, fbpaug=kernel)
    image, label = chest(6)
    x, y = augment(image, label, sample_states(3, 10, 6))
    assert x.shape == image.shape
    assert x.min() >= 0
    assert x.max() <= 1
    assert y.sum() == label.sum()
    part, _ = augment(image[2:4], label[2:4], sample_states(3, 12, 2))
    assert torch.allclose(part, x[2:4], atol=1e-5)
    assert not torch.equal(x, augment(image, label, sample_states(4, 10, 6))[0])


def test_label_turns_with_its_image() -> None:
    image, label = chest(20)
    x, y = SliceAugmentation("none")(image, label, sample_states(0, 0, 20))
    lung = (x - (-850 + 1350) / 1500).abs() < 1e-6
    assert torch.equal(lung, y > 0)
    assert len({tuple(part.flatten().tolist()) for part in y}) > 3


def test_no_act_is_the_plain_window() -> None:
    image, label = chest(2)
    for kind in ("none", "gamma", "noise", "windowing"):
        x, _ = SliceAugmentation(kind, prob=0.0, spatial_prob=0.0)(image, label, sample_states(0, 0, 2))
        assert torch.allclose(x, ((image + 1350) / 1500).clamp(0, 1))


def test_wrong_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of none, fbpaug"):
        SliceAugmentation("radon")
    with pytest.raises(ValueError, match="needs the random kernel"):
        SliceAugmentation("fbpaug")
