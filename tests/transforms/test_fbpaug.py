"""Random and given reconstruction kernels as MONAI transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ScaleIntensityRanged

from medsynth_ext import ops
from medsynth_ext.transforms import FBPAug, FBPAugd, RandFBPAug, RandFBPAugd


def chest(*size: int, seed: int = 0) -> torch.Tensor:
    """(1, *size) HU: a body with lung and texture; axes after the first two are slices."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
    image = torch.where((x / 0.85) ** 2 + (y / 0.7) ** 2 < 1, 40.0, -1000.0)
    image[((x - 0.4) / 0.3) ** 2 + (y / 0.4) ** 2 < 1] = -850.0
    image = image.reshape(*size[:2], *[1] * (len(size) - 2)).expand(*size)
    return (image + 15 * torch.randn(size, generator=torch.Generator().manual_seed(seed)))[None]


def test_random_kernel_is_the_given_kernel_of_its_draw() -> None:
    image = chest(40, 36)
    transform = RandFBPAug(1.0).set_random_state(seed=3)
    result = transform(image)
    again = FBPAug(float(transform.a[0]), float(transform.b[0]), views=0.5)(image)
    assert torch.equal(result, again)
    want = ops.kernel_augment(image, torch.tensor(transform.a), torch.tensor(transform.b), views=20)
    assert torch.allclose(result, want, atol=1e-3)


def test_same_state_gives_same_result_and_another_state_another() -> None:
    image, transform = chest(32, 32), RandFBPAug(1.0)
    first, again, other = (transform.set_random_state(seed=s)(image) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_of_the_images_are_touched_half_of_them_sharpened() -> None:
    transform = RandFBPAug().set_random_state(seed=0)
    draws = []
    for _ in range(2000):
        transform.randomize((8, 8))
        draws.append((transform._do_transform, transform.a[0] if transform._do_transform else 0, transform.b))
    acted = [(a, b[0]) for acts, a, b in draws if acts]
    sharp = np.array([(a, b) for a, b in acted if a > 0])
    smooth = np.array([(a, b) for a, b in acted if a <= 0])
    assert len(acted) / 2000 == pytest.approx(0.5, abs=0.04)
    assert len(sharp) / len(acted) == pytest.approx(0.5, abs=0.05)
    for values, ranges in ((sharp, ((10, 40), (1, 4))), (smooth, ((-1, 0), (0.1, 1)))):
        for column, (low, high) in zip(values.T, ranges, strict=True):
            assert low <= column.min() < low + 0.05 * (high - low)
            assert high - 0.05 * (high - low) < column.max() <= high
            assert column.mean() == pytest.approx((low + high) / 2, abs=0.1 * (high - low))


def test_sharpening_adds_noise_and_smoothing_takes_it() -> None:
    image = chest(48, 48)
    muscle = (slice(None), slice(20, 28), slice(6, 14))
    only = {"views": 1.0, "preserve_hu": True, "prob": 1.0}
    sharp = RandFBPAug(sharpen_prob=1.0, **only).set_random_state(seed=0)(image)
    smooth = RandFBPAug(sharpen_prob=0.0, **only).set_random_state(seed=0)(image)
    assert smooth[muscle].std() < image[muscle].std() < sharp[muscle].std()


@pytest.mark.parametrize("mode", ["rotate_bilinear", "joseph", "fft2"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_a_volume_is_its_slices(mode: str, axis: int) -> None:
    volume = chest(24, 24, 5)[0].movedim(-1, axis)[None]
    result = FBPAug(20.0, 2.0, mode=mode, slice_axis=axis)(volume)
    alone = [FBPAug(20.0, 2.0, mode=mode)(slice_) for slice_ in volume.unbind(axis + 1 if axis >= 0 else -1)]
    assert result.shape == volume.shape
    assert torch.allclose(result, torch.stack(alone, axis + 1 if axis >= 0 else -1), atol=1e-2)


def test_a_volume_has_one_kernel_or_a_draw_per_slice() -> None:
    volume = chest(24, 24, 40)
    whole = RandFBPAug(1.0).set_random_state(seed=0)
    whole(volume)
    assert len(set(whole.a)) == 1
    each = RandFBPAug(0.5, per_slice=True).set_random_state(seed=0)
    result = each(volume)
    same = torch.tensor([torch.equal(result[..., i], volume[..., i]) for i in range(40)])
    assert same.tolist() == np.isnan(each.a).tolist()
    assert 8 < same.sum() < 32
    assert torch.equal(each.set_random_state(seed=0)(volume), result)


def test_a_batch_draws_for_each_sample(device: torch.device) -> None:
    images = torch.stack([chest(24, 20, seed=i) for i in range(12)]).to(device)
    transform = RandFBPAug(0.5).set_random_state(seed=4)
    result = transform.batch(images)
    assert result.shape == images.shape
    assert result.device == images.device
    for i, (a, b) in enumerate(zip(transform.a, transform.b, strict=True)):
        want = images[i] if np.isnan(a) else FBPAug(float(a), float(b), views=0.5)(images[i])
        assert torch.allclose(result[i], want, atol=0.05)
    assert torch.equal(transform.set_random_state(seed=4).batch(images), result)


def test_keys_share_one_kernel_and_the_rest_stays() -> None:
    image = chest(24, 24)
    label = torch.ones(1, 24, 24)
    pipeline = Compose(
        [
            RandFBPAugd(["image", "other"], 1.0),
            ScaleIntensityRanged("image", a_min=-1350, a_max=150, b_min=0, b_max=1, clip=True),
        ]
    ).set_random_state(seed=0)
    result = pipeline({"image": image, "other": image.clone(), "label": label})
    assert torch.equal(result["label"], label)
    scaled = ((result["other"] + 1350) / 1500).clamp(0, 1)
    assert torch.allclose(scaled, result["image"], atol=1e-6)
    given = FBPAugd("image", -1.0, 0.7)({"image": image})
    assert not torch.equal(given["image"], image)


def test_metadata_stay_and_the_affine_gives_the_pixel_size() -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0], dtype=torch.float64))
    volume = MetaTensor(chest(24, 24, 2), affine=affine)
    result = FBPAug(30.0, 3.0)(volume)
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, affine)
    assert torch.allclose(result.as_tensor(), FBPAug(30.0, 3.0, spacing_mm=2.0)(chest(24, 24, 2)).as_tensor())
    assert not torch.allclose(result.as_tensor(), FBPAug(30.0, 3.0)(chest(24, 24, 2)).as_tensor(), atol=20)
    with pytest.raises(ValueError, match="slices must have square pixels, got 2 x 5 mm"):
        FBPAug(30.0, 3.0, slice_axis=0)(volume)


def test_probability_zero_and_whole_numbers() -> None:
    image = chest(16, 16)
    assert torch.equal(RandFBPAug(0.0)(image), image)
    whole = FBPAug(-0.5, 0.7)(image.round().to(torch.int16))
    assert whole.dtype == torch.float32
    assert FBPAug(-0.5, 0.7)(image.half()).dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x + 1350) / 1500, "scaled or constant; put the transform before scaling"),
        (lambda x: x.clamp_min(-160), "got values from -160 to .*: MR, a window without air"),
        (lambda x: x + 1024, "values without rescale intercept"),
        (lambda x: x * 100, "apply the rescale slope and intercept first"),
        (lambda x: x.clone().index_fill_(1, torch.tensor([3]), float("nan")), "image must be finite"),
    ],
)
@pytest.mark.parametrize("transform", [FBPAug(-1.0, 0.7), RandFBPAug(1.0)], ids=["given", "random"])
def test_what_is_no_ct_in_hu_is_refused(transform, change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform(change(chest(24, 24)))


def test_a_crop_without_air_can_be_allowed() -> None:
    soft = chest(24, 24).clamp_min(-100)
    assert FBPAug(-1.0, 1.0, check_units=False)(soft).shape == soft.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandFBPAug(2.0), "prob"),
        (lambda: RandFBPAug(sharpen_prob=-1), r"sharpen_prob must be in \[0, 1\], got -1"),
        (lambda: RandFBPAug(smooth_a=(0.0, -1.0)), "smooth_a must be a range"),
        (lambda: RandFBPAug(sharpen_b=(0.0, 1.0)), "sharpen_b must be positive"),
        (lambda: RandFBPAug(mode="radon"), "mode must be rotate_bilinear, joseph or fft2"),
        (lambda: FBPAug(1.0, 0.0), "b must be positive"),
        (lambda: FBPAug(1.0, 1.0, views=0), "views must be positive"),
        (lambda: FBPAug(1.0, 1.0, slice_axis=3), "slice_axis must be one of three"),
        (lambda: FBPAug(1.0, 1.0)(torch.zeros(4, 4)), r"image must be \(C, H, W\)"),
        (lambda: RandFBPAug(1.0).batch(torch.zeros(3, 4, 4)), r"images must be \(B, C, H, W\)"),
    ],
)
def test_bad_settings_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
