"""The SynthSeg generator: what a sample is made of, and that (seed, index) addresses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext import ops
from medsynth_ext.generators import SynthSegGenerator, SynthSegRanges
from medsynth_ext.methods.synthseg.labels import LabelTable

# background, skull, CSF | left WM, left cortex, left lesion | the same on the right
TABLE = LabelTable(
    generation_labels=[0, 515, 24, 2, 3, 25, 41, 42, 57],
    n_neutral=3,
    generation_classes=[0, 1, 2, 3, 4, 5, 6, 7, 8],
    segmentation_labels=[0, 0, 24, 2, 3, 2, 41, 42, 41],
    lesion_labels={25: 2, 57: 41},
    extra_cerebral_labels=[515],
    csf_label=24,
)
STILL = {
    "rotation_deg": 0.0,
    "scaling": 0.0,
    "shearing": 0.0,
    "svf_std": 0.0,
    "flip_prob": 0.0,
    "strip_prob": 0.0,
    "bias_prob": 0.0,
    "gamma_std": 0.0,
    "randomise_resolution": False,
}


def head(size: int = 24) -> torch.Tensor:
    """A box head: skull around CSF around a left half (small axis-0 indices) and a right half, with lesions."""
    labels = torch.zeros(1, 1, size, size, size, dtype=torch.int16)
    labels[..., 2:-2, 2:-2, 2:-2] = 515
    labels[..., 4:-4, 4:-4, 4:-4] = 24
    half = size // 2
    labels[..., 5:half, 5:-5, 5:-5] = 3
    labels[..., half:-5, 5:-5, 5:-5] = 42
    labels[..., 7:half, 7:-7, 7:-7] = 2
    labels[..., half:-7, 7:-7, 7:-7] = 41
    labels[..., 8:10, 9:12, 9:12] = 25
    return labels


def generator(**changes: object) -> SynthSegGenerator:
    return SynthSegGenerator(TABLE, **{"crop_size": (24, 24, 24), **changes})


def test_without_deformation_the_target_is_the_mapped_label_map():
    _, target = generator(**STILL)(head(), seed=1)
    values = torch.tensor(TABLE.target_values)[target]
    want = head().long()
    want[want == 515] = 0
    want[want == 25] = 2
    assert torch.equal(values, want)


def test_image_is_float_in_unit_range_and_target_in_channel_range():
    image, target = generator()(head().expand(3, -1, -1, -1, -1), seed=3)
    assert image.shape == target.shape == (3, 1, 24, 24, 24)
    assert image.dtype == torch.float32
    assert target.dtype == torch.int64
    assert image.min() >= 0
    assert image.max() <= 1
    assert set(target.unique().tolist()) <= set(range(TABLE.n_targets))


def test_sample_depends_only_on_seed_and_index():
    labels = head().expand(4, -1, -1, -1, -1)
    make = generator()
    together = [t.clone() for t in make(labels, seed=11, index=5)]
    for b in range(4):
        alone = make(labels[:1], seed=11, index=5 + b)
        for one, many in zip(alone, together, strict=True):
            assert torch.equal(one[0], many[b])
    assert not torch.equal(make(labels[:1], seed=12, index=5)[0][0], together[0][0])


def test_sample_is_bit_identical_for_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            results.append([t.clone() for t in generator(crop_size=(20, 24, 17))(head(), seed=2, index=9)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_recorded_parameters_make_the_same_image_again():
    make = generator()
    parameters = make.draw(head().shape, seed=4, index=7)
    again = make.apply(head(), parameters, seed=4, index=7)
    assert torch.equal(make(head(), seed=4, index=7)[0], again[0])


def test_out_is_written_and_returned():
    make = generator()
    out = (torch.empty(1, 1, 24, 24, 24), torch.empty(1, 1, 24, 24, 24, dtype=torch.int64))
    image, target = make(head(), seed=1, out=out)
    assert image.data_ptr() == out[0].data_ptr()
    assert target.data_ptr() == out[1].data_ptr()


def test_flip_mirrors_the_map_and_swaps_the_sides():
    changes = {**STILL, "flip_prob": 1.0, "lesion_prob": 1.0}
    labels = head()
    _, target = generator(**changes)(labels, seed=1)
    values = torch.tensor(TABLE.target_values)[target].flip(2)
    swap = {0: 0, 515: 0, 24: 24, 2: 41, 3: 42, 25: 41, 41: 2, 42: 3, 57: 2}
    want = torch.tensor([swap[int(v)] for v in labels.flatten()]).reshape(labels.shape)
    assert torch.equal(values, want)


def test_stripping_removes_skull_and_sometimes_csf_from_image_and_target():
    parameters = generator(**{**STILL, "strip_prob": 1.0}).draw((64, 1, 24, 24, 24), seed=0)
    skull, csf = 1, 2
    assert (parameters.source[:, skull] == 0).all()
    gone = (parameters.source[:, csf] == 0).float().mean()
    assert 0.25 < gone < 0.75
    assert torch.equal(parameters.means[:, skull], parameters.means[:, 0])


def test_lesions_look_like_their_tissue_when_switched_off():
    parameters = generator(**{**STILL, "lesion_prob": 0.0}).draw((8, 1, 24, 24, 24), seed=0)
    assert torch.equal(parameters.means[:, 5], parameters.means[:, 3])
    kept = generator(**{**STILL, "lesion_prob": 1.0}).draw((8, 1, 24, 24, 24), seed=0)
    assert not torch.equal(kept.means[:, 5], kept.means[:, 3])


def test_drawn_values_fill_their_ranges():
    ranges = SynthSegRanges(rotation_deg=10, scaling=0.1, bias_prob=1.0, strip_prob=0.0)
    parameters = SynthSegGenerator(TABLE, crop_size=(32, 32, 32), ranges=ranges).draw((2000, 1, 64, 64, 64), seed=0)
    assert parameters.means.max() <= 255
    assert parameters.means[:, 1:].mean().item() == pytest.approx(127.5, abs=2.5)
    assert parameters.stds.max() <= 35
    assert (parameters.means[:, 0] == 0).float().mean().item() == pytest.approx(0.05, abs=0.02)
    assert (parameters.means[:, 0] <= 15).float().mean().item() == pytest.approx(0.05 + 0.25 + 0.7 * 15 / 255, abs=0.04)
    assert parameters.flip.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert parameters.gamma.std().item() == pytest.approx(0.5, abs=0.03)
    linear = parameters.matrix[:, :, :3] * torch.where(parameters.flip, -1.0, 1.0)[:, None, None] ** torch.tensor(
        [1.0, 0.0, 0.0]
    )
    volume = torch.linalg.det(linear)
    assert volume.min() > 0.9**3 * 0.98
    assert volume.max() < 1.1**3 * 1.02


def test_crop_corners_are_uniform_inside_the_map():
    make = generator(**STILL, crop_size=(16, 16, 16))
    shift = make.draw((3000, 1, 24, 24, 24), seed=0).matrix[:, :, 3]
    assert shift.min() >= -1e-9
    assert shift.max() <= 8 + 1e-9
    histogram = torch.histc(shift.float(), bins=8, min=0, max=8)
    assert (histogram / histogram.sum() - 1 / 8).abs().max() < 0.02


def test_given_centre_puts_the_crop_there():
    make = SynthSegGenerator(TABLE, crop_size=(9, 9, 9), **{**STILL, "crop_jitter_mm": 0.0})
    parameters = make.draw((1, 1, 24, 24, 24), seed=0, center=torch.tensor([[7.0, 11.0, 15.0]]))
    middle = parameters.matrix[0, :, :3] @ torch.full((3,), 4.0, dtype=torch.float64) + parameters.matrix[0, :, 3]
    assert middle.tolist() == pytest.approx([7.0, 11.0, 15.0])


def test_coarser_voxels_cover_the_same_anatomy():
    fine = generator(**STILL)(head(), seed=1)[1]
    coarse = generator(**STILL, crop_size=(12, 12, 12), spacing_mm=2.0)(head(), seed=1)[1]
    volume = [(fine == c).sum().item() for c in range(TABLE.n_targets)]
    volume_coarse = [8 * (coarse == c).sum().item() for c in range(TABLE.n_targets)]
    assert volume_coarse == pytest.approx(volume, rel=0.35)


def test_intensities_follow_the_drawn_gaussians():
    make = generator(**STILL, crop_size=(48, 48, 48))
    labels = head(48)
    parameters = make.draw(labels.shape, seed=6)
    image, target = make.apply(labels, parameters, seed=6)
    means, stds = parameters.means[0, :, 0], parameters.stds[0, :, 0]
    # min-max scaling is affine: the classes' sample means must lie on one line over the drawn means
    unclipped = [3, 4, 6, 7]
    unclipped = [k for k in unclipped if 3 * stds[k] < means[k] < 300 - 3 * stds[k]]
    assert len(unclipped) >= 2
    values = [image[target == int(TABLE.target_of[k])].mean().item() for k in unclipped]
    slope = np.polyfit(means[unclipped].numpy(), values, 1)
    assert np.allclose(np.polyval(slope, means[unclipped].numpy()), values, atol=0.01)


def test_several_channels_differ_in_contrast_and_share_anatomy():
    image, target = generator(channels=3)(head(), seed=1)
    assert image.shape == (1, 3, 24, 24, 24)
    assert target.shape == (1, 1, 24, 24, 24)
    assert not torch.equal(image[:, 0], image[:, 1])


def test_unknown_label_is_refused_with_its_value():
    labels = head()
    labels[0, 0, 12, 12, 12] = 99
    with pytest.raises(ValueError, match="99"):
        generator(**STILL)(labels, seed=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": (24, 24)}, "crop_size must be three sizes"),
        ({"spacing_mm": 0.0}, "spacing_mm and map_spacing_mm must be positive"),
        ({"flip_prob": 1.5}, r"flip_prob must be a probability in \[0, 1\], got 1.5"),
        ({"svf_std": -1.0}, "svf_std must be finite and not negative"),
        ({"mean_range": (5, 1)}, r"mean_range must be \(low, high\)"),
        ({"scaling": 1.0}, r"scaling must be in \[0, 1\)"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        generator(**changes)


def test_wrong_map_shape_is_refused():
    with pytest.raises(ValueError, match=r"labels must be \(B, 1, D, H, W\), got \(24, 24, 24\)"):
        generator()(head()[0, 0], seed=1)


@pytest.mark.gpu
def test_cuda_makes_the_same_sample():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    make = generator()
    image, target = make(head(), seed=8, index=3)
    image_gpu, target_gpu = make(head().cuda(), seed=8, index=3)
    assert (image_gpu.cpu() - image).abs().max() < 1e-5
    assert (target_gpu.cpu() != target).float().mean() < 1e-4


def test_default_fields_do_not_fold():
    make = SynthSegGenerator(TABLE, crop_size=(64, 64, 64))
    parameters = make.draw((3, 1, 96, 96, 96), seed=0)
    velocity = ops.resize_field(parameters.velocity, (32, 32, 32), rule="corner", rescale=False)
    displacement = ops.resize_field(ops.integrate_svf(velocity), (64, 64, 64), rule="corner", rescale=False)
    assert ops.jacobian_determinant(displacement).min() > 0.1
