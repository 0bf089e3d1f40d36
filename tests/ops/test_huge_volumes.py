"""Element counts beyond 2**31: indices are 64-bit everywhere."""

from __future__ import annotations

import pytest
import torch
from meshes import box

from medsynth_ext import ops
from medsynth_ext.ops import reference

HUGE = 2**31 + 4097


@pytest.mark.slow
def test_map_labels_reaches_the_last_of_more_than_two_to_the_31_voxels():
    labels = torch.zeros(1, HUGE, dtype=torch.uint8)
    labels[0, 2**31 - 1 :] = 2
    labels[0, -1] = 1
    mapped = ops.map_labels(labels, torch.tensor([5, 7, 9], dtype=torch.uint8), out=labels)
    assert mapped[0, [0, 2**31 - 2, 2**31 - 1, 2**31, HUGE - 2, HUGE - 1]].tolist() == [5, 5, 9, 9, 9, 7]


@pytest.mark.slow
def test_voxelize_mesh_reaches_the_last_of_more_than_two_to_the_31_voxels():
    verts, faces = box((1297.5, 1296.5, 1280.5), (1400.0, 1400.0, 1284.5))
    found = ops.voxelize_mesh(verts[None], faces, shape=(1300, 1300, 1290), grad="none")[0, 0]
    assert found.numel() > 2**31
    assert found[1290:].sum() == 2 * 3 * 4
    assert found[1298:, 1297:, 1281:1285].all()


@pytest.mark.parametrize("make", ["rand_normal", "rand_uniform"])
def test_random_numbers_of_a_crop_from_a_huge_volume_equal_the_twin(make):
    where = {"index_shape": (2048, 2048, 2048), "index_origin": (2040, 2045, 2039)}
    got = getattr(ops, make)((1, 1, 8, 3, 9), 5, **where)
    assert torch.allclose(got, getattr(reference, make)((1, 1, 8, 3, 9), 5, **where), atol=1e-5)
    assert got.unique().numel() == got.numel()
