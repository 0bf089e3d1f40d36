"""warp_labels: label maps pulled back by a displacement."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medsynth_ext import ops
from medsynth_ext._extension import use_instruction_set
from medsynth_ext.ops import reference

BORDERS = ["clamp", "zeros", "reflect"]
DTYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]
SHAPES = [
    ((5, 6, 7), (5, 6, 7)),
    ((9, 17, 30), (4, 5, 71)),
    ((11, 13), (9, 40)),
    ((1, 2, 1), (3, 2, 5)),
    ((19,), (50,)),
    ((3, 20, 130), (2, 21, 200)),  # several stretches of a row, and a tail
    ((40, 70), (33, 129)),
]


def make(size: tuple[int, ...], out_size: tuple[int, ...], dtype: torch.dtype = torch.int64):
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 5, (2, 1, *size), generator=generator).to(dtype)
    return labels, 3 * torch.randn(2, len(size), *out_size, generator=generator)


def test_hand_worked_values(device: torch.device) -> None:
    labels = torch.tensor([[[7, 3, 9]]], device=device)
    disp = torch.tensor([[[0.5, 0.75, -4.0]]], device=device)  # locations 0.5, 1.75, -2
    assert ops.warp_labels(labels, disp).tolist() == [[[7, 9, 7]]]
    assert ops.warp_labels(labels, disp, border="zeros", fill=5).tolist() == [[[7, 9, 5]]]
    assert ops.warp_labels(labels, disp, mode="vote").tolist() == [[[3, 9, 7]]]  # a tie goes to the smaller label
    assert ops.warp_labels(labels, disp, border="reflect").tolist() == [[[7, 9, 9]]]


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("mode", ["nearest", "vote"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("size", "out_size"), SHAPES)
def test_equals_the_twin_in_every_dtype(size, out_size, border: str, mode: str, name: str) -> None:
    for dtype in DTYPES:
        labels, disp = make(size, out_size, dtype)
        want = reference.warp_labels(labels, disp.double(), mode=mode, border=border, fill=3)
        with use_instruction_set(name):
            for real in (torch.float32, torch.float64):
                got = ops.warp_labels(labels, disp.to(real), mode=mode, border=border, fill=3)
                assert got.dtype == dtype
                assert torch.equal(got, want)


def test_vote_is_the_argmax_of_the_warped_one_hot(device: torch.device) -> None:
    labels, disp = make((7, 8, 9), (7, 8, 9))
    one_hot = F.one_hot(labels[:, 0], 5).movedim(-1, 1).double()
    want = reference.warp(one_hot, disp.double()).argmax(1, keepdim=True)
    got = ops.warp_labels(labels.to(device), disp.double().to(device), mode="vote")
    assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("border", BORDERS)
def test_vote_on_regions_equals_the_twin(border: str, name: str) -> None:
    labels, disp = make((3, 4, 6), (20, 21, 90))
    regions = F.interpolate(labels.double(), size=(20, 21, 90)).to(torch.int16)  # most cells have one label only
    want = reference.warp_labels(regions, disp.double(), mode="vote", border=border, fill=7)
    with use_instruction_set(name):
        assert torch.equal(ops.warp_labels(regions, disp, mode="vote", border=border, fill=7), want)


@pytest.mark.parametrize("mode", ["nearest", "vote"])
def test_wild_displacements_take_the_border(mode: str) -> None:
    labels, disp = make((5, 6, 40), (5, 6, 40))
    for value in (float("nan"), 1e30, -3e9):
        disp[:, :, ..., ::2] = value
        zeros = ops.warp_labels(labels, disp, mode=mode, border="zeros", fill=99)
        assert (zeros[..., ::2] == 99).all()
        corner = labels[:, :, -1:, -1:, -1:] if value > 0 else labels[:, :, :1, :1, :1]
        clamped = ops.warp_labels(labels, disp, mode=mode)[..., ::2]
        assert torch.equal(clamped, corner.expand_as(clamped))


def test_large_labels_survive_exactly() -> None:
    labels = torch.tensor([[[2**62 + 1, -(2**61) - 1]]])
    assert ops.warp_labels(labels, torch.zeros(1, 1, 2)).tolist() == labels.tolist()


def test_result_does_not_depend_on_threads_or_batch_split() -> None:
    labels, disp = make((9, 17, 40), (9, 17, 40))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = ops.warp_labels(labels, disp)
    torch.set_num_threads(2)
    two = ops.warp_labels(labels, disp)
    torch.set_num_threads(threads)
    assert torch.equal(one, two)
    assert torch.equal(one, torch.cat([ops.warp_labels(labels[b : b + 1], disp[b : b + 1]) for b in range(2)]))


def test_opcheck_meta_empty_and_out() -> None:
    labels, disp = make((4, 5), (3, 4))
    op = torch.ops.medsynth_ext
    torch.library.opcheck(op.warp_labels.default, (labels, disp, 1, 0, 0))
    torch.library.opcheck(
        op.warp_labels_out.default, (labels, disp, 2, 1, 0, torch.empty(2, 1, 3, 4, dtype=torch.int64))
    )
    assert ops.warp_labels(labels.to("meta"), disp.to("meta")).shape == (2, 1, 3, 4)
    assert ops.warp_labels(labels[:0], disp[:0]).shape == (0, 1, 3, 4)
    out = torch.empty(2, 1, 3, 4, dtype=torch.int64)
    assert ops.warp_labels(labels, disp, out=out) is out
    assert torch.equal(ops.warp_labels(labels.transpose(2, 3).contiguous().transpose(2, 3), disp), out)


def test_errors_name_the_argument() -> None:
    labels, disp = make((4, 5), (3, 4))
    with pytest.raises(TypeError, match="labels must be"):
        ops.warp_labels(labels.float(), disp)
    with pytest.raises(ValueError, match="mode must be one of"):
        ops.warp_labels(labels, disp, mode="linear")
    with pytest.raises(NotImplementedError, match="labels cannot be differentiated"):
        ops.warp_labels(labels, disp.requires_grad_())
