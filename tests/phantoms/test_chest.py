"""The chest phantom and its scans under several kernels."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.phantoms.chest import KERNELS, chest_slice, scan_slice

SMALL = {"size": 96, "spacing_mm": 3.3}


def test_a_seed_gives_one_person_and_another_seed_another() -> None:
    first, again, other = chest_slice(4, **SMALL), chest_slice(4, **SMALL), chest_slice(5, **SMALL)
    assert torch.equal(first.fine_hu, again.fine_hu)
    assert torch.equal(first.lesions, again.lesions)
    assert not torch.equal(first.fine_hu, other.fine_hu)


@pytest.mark.parametrize("seed", range(6))
def test_anatomy_is_plausible(seed: int) -> None:
    chest = chest_slice(seed, lesions=3, **SMALL)
    hu = chest.fine_hu
    assert hu.shape == (192, 192)
    assert hu[[0, -1]].max() == -1000  # air around the body
    assert 0.1 < chest.lungs.float().mean() < 0.3
    assert chest.lesions.any()
    assert not (chest.lesions & ~chest.lungs).sum() > 0.1 * chest.lesions.sum()
    inside = torch.nn.functional.avg_pool2d(hu[None], 2)[0]
    assert -900 < inside[chest.lungs & ~chest.lesions].median() < -780
    assert -720 < inside[chest.lesions].median() < 60
    assert (hu > 200).float().mean() > 0.004  # bone


def test_number_of_lesions_is_obeyed() -> None:
    assert not chest_slice(3, lesions=0, **SMALL).lesions.any()
    drawn = [bool(chest_slice(seed, size=48, spacing_mm=6.6).lesions.any()) for seed in range(30)]
    assert 15 < sum(drawn) < 30


def test_kernels_keep_hu_and_differ_in_noise() -> None:
    fine = torch.full((192, 192), -1000.0)
    at = torch.arange(192) - 95.5
    fine[at[:, None] ** 2 + at**2 < 80**2] = 0.0
    scans = scan_slice(fine, spacing_mm=3.3, photons=2e5)
    spread = {}
    for name in KERNELS:
        middle = scans[name][36:60, 36:60]
        assert abs(middle.mean()) < 8
        spread[name] = middle.std().item()
    assert max(spread["soft"], spread["soft2"]) < 0.3 * min(spread["sharp"], spread["sharp2"])


def test_noise_depends_on_photons_and_seed_alone() -> None:
    fine = chest_slice(1, size=48, spacing_mm=6.6).fine_hu
    options = {"spacing_mm": 6.6, "views": 60, "kernels": ["soft"]}
    first, again, other = (scan_slice(fine, seed=s, **options)["soft"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    gap = (first - other).std()
    assert gap > 0
    few = (
        scan_slice(fine, seed=1, photons=1e4, **options)["soft"]
        - scan_slice(fine, seed=2, photons=1e4, **options)["soft"]
    )
    assert few.std() > 5 * gap


def test_wrong_kernels_and_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="kernels must be among soft, soft2, sharp, sharp2, got 'bone'"):
        scan_slice(torch.zeros(8, 8), spacing_mm=1.0, kernels=["bone"])
    with pytest.raises(ValueError, match=r"fine_hu must be \(2 N, 2 N\), got \(7, 7\)"):
        scan_slice(torch.zeros(7, 7), spacing_mm=1.0)
