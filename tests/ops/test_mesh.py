"""voxelize_mesh: closed surfaces to voxels."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from meshes import ball, box, hearts, joined, winding_number
from skimage.measure import marching_cubes
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import mesh, reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")
SCHEMA = ("test_schema", "test_faketensor")
SHAPES = [(20, 21, 22), (33, 1, 70), (1, 30, 129), (16, 16, 64), (1, 1, 1)]


def both(grad: Tensor, verts: Tensor, *arguments: Any, **options: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Occupancy, open columns and gradient of the operator and of the twin."""
    results = []
    for module in (ops, reference):
        leaf = verts.clone().requires_grad_()
        found, odd = module.voxelize_mesh(leaf, *arguments, return_open=True, **options)
        results.append((found.detach(), odd, *torch.autograd.grad(found, leaf, grad)))
    return results


def test_hand_worked_box(device: torch.device) -> None:
    verts, faces = box((1.5, 2.2, 0.2), (4.5, 5.0, 3.0))
    want = torch.zeros(6, 7, 5, dtype=torch.float64)
    want[2:5, 3:5, 1:3] = 1  # the column at 5.00021 misses; the voxel at the height of the upper face is outside
    found = ops.voxelize_mesh(verts[None].to(device), faces.to(device), shape=(6, 7, 5))
    assert torch.equal(found.cpu()[0, 0], want)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_twin(shape: tuple[int, int, int], isa: str) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        verts, faces, part = hearts(dtype)
        for priority in (None, [1, 0]):
            for index in (None, shape[2] // 2, torch.tensor([shape[2] - 1, 0])):
                options = {"part": part, "n_parts": 2, "priority": priority, "slice_index": index}
                size = shape if index is None else shape[:2]
                grad = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)
                with use_instruction_set(isa):
                    (got, odd, back), (want, want_odd, want_back) = both(grad, verts, faces, shape=shape, **options)
                    integer = ops.voxelize_mesh(verts, faces, shape=shape, grad="none", **options)
                assert torch.equal(got, want)
                assert integer.dtype == torch.uint8
                assert torch.equal(integer.to(dtype), want)
                assert torch.equal(odd, want_odd)
                assert (back - want_back).abs().max() <= tolerance * want_back.abs().max()


def test_gpu_agrees_with_cpu(device: torch.device) -> None:
    verts, faces, part = hearts(torch.float32)
    for shape in SHAPES:
        for index in (None, shape[2] // 2):
            grad = torch.randn(2, 2, *(shape if index is None else shape[:2]))
            options = {"shape": shape, "n_parts": 2, "priority": [1, 0], "slice_index": index}
            results = []
            for place in (torch.device("cpu"), device):
                leaf = verts.to(place).requires_grad_()
                found = ops.voxelize_mesh(leaf, faces.to(place), part=part.to(place), **options)
                results.append((found.detach().cpu(), torch.autograd.grad(found, leaf, grad.to(place))[0].cpu()))
            (want, want_back), (got, back) = results
            assert torch.equal(got, want)
            assert (back - want_back).abs().max() <= 1e-6 * want_back.abs().max()


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_winding_numbers(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    verts, faces = ball((6.03, 6.41, 5.62), 4.2, around=13, rings=8)
    verts = verts + 0.6 * torch.randn(verts.shape, generator=generator, dtype=torch.float64)  # folds over itself
    shape = (12, 13, 12)
    times = winding_number(verts, faces, shape)
    sure = (times - times.round()).abs() < 1e-6
    found = ops.voxelize_mesh(verts[None], faces, shape=shape)[0, 0]
    # The columns are moved by 2e-4 voxels, so a centre that is closer to the surface may fall to the other side.
    assert (found != times.round() % 2)[sure].sum() <= 1
    assert sure.float().mean() > 0.99
    assert found.sum() > 200


def test_label_map_comes_back_from_its_marching_cubes() -> None:
    noise = torch.rand(1, 1, 24, 25, 26, generator=torch.Generator().manual_seed(0))
    blobs = torch.nn.functional.pad(ops.gaussian_blur(noise, 2.0) > 0.5, [2] * 6)[0, 0]
    verts, faces, _, _ = marching_cubes(blobs.float().numpy(), 0.5)
    surface = torch.from_numpy(verts.copy())[None], torch.from_numpy(faces.copy())
    found = ops.voxelize_mesh(*surface, shape=blobs.shape, grad="none")
    assert torch.equal(found[0, 0].bool(), blobs)
    assert 0.2 < blobs.float().mean() < 0.8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_closed_mesh_never_leaves_a_column_open(seed: int, dtype: torch.dtype, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = 12 * torch.rand(40, 3, generator=generator, dtype=torch.float64) - 2
    corners[:20] = corners[:20].round()
    corners[10:20, :2] += torch.tensor([1.3e-4, 2.1e-4])  # right on the columns
    tetrahedra = torch.randint(0, 40, (60, 4), generator=generator)  # with corners twice, flat ones too
    faces = tetrahedra[:, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]].reshape(-1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, odd = ops.voxelize_mesh(
            corners[None].to(device, dtype), faces.to(device), shape=(8, 9, 7), return_open=True
        )
    assert odd.tolist() == [[0]]
    assert 0 < found.mean() < 1


def test_first_of_the_parts_keeps_a_voxel() -> None:
    verts, faces, part = joined(ball((9, 9, 9), 7.3), ball((9, 9, 9), 5.1), ball((14, 9, 9), 4.2))
    options = {"shape": (20, 20, 20), "part": part, "n_parts": 3}
    free = ops.voxelize_mesh(verts[None], faces, **options)[0].bool()
    alone = [ops.voxelize_mesh(verts[None], faces[part == p], shape=(20, 20, 20))[0, 0].bool() for p in range(3)]
    assert torch.equal(free, torch.stack(alone))
    owned = ops.voxelize_mesh(verts[None], faces, priority=(2, 1, 0), **options)[0].bool()
    assert torch.equal(owned[2], free[2])
    assert torch.equal(owned[1], free[1] & ~free[2])
    assert torch.equal(owned[0], free[0] & ~free[1] & ~free[2])
    assert torch.equal(owned.sum(0), free.any(0).long())
    grad = torch.randn(1, 3, 20, 20, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (_, _, back), (_, _, want_back) = both(grad, verts[None], faces, priority=(2, 0, 1), **options)
    assert torch.allclose(back, want_back, rtol=1e-9, atol=1e-12)


@needs_kernels
def test_batch_is_its_samples_and_slices_are_those_of_the_volume(device: torch.device) -> None:
    verts, faces, part = (t.to(device) for t in hearts())
    options = {"shape": (20, 21, 22), "part": part, "n_parts": 2, "priority": (0, 1)}
    leaf = verts.clone().requires_grad_()
    volume = ops.voxelize_mesh(leaf, faces, **options)
    singles = torch.cat([ops.voxelize_mesh(v[None], faces, **options) for v in verts])
    assert torch.equal(volume.detach(), singles)
    index = torch.tensor([11, 7], device=device)
    slices = ops.voxelize_mesh(leaf, faces, slice_index=index, **options)
    wanted = torch.stack([volume[0, ..., 11], volume[1, ..., 7]])
    assert torch.equal(slices, wanted)
    grad = torch.randn_like(wanted)
    of_slices, of_volume = (torch.autograd.grad(t, leaf, grad, retain_graph=True)[0] for t in (slices, wanted))
    assert torch.allclose(of_slices, of_volume, atol=1e-9)
    assert torch.equal(ops.voxelize_mesh(verts, faces, slice_index=11, **options)[0], slices[0].detach())


def test_open_mesh_is_named_once_with_its_count(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    monkeypatch.setattr(mesh, "_open_mesh_told", False)
    verts, faces = box((1.5, 1.5, 1.5), (4.5, 5.5, 3.5))
    upper = faces[(verts[faces][..., 2] < 3).any(1)]  # without its upper lid
    arguments = (verts[None].to(device), upper.to(device))
    with pytest.warns(RuntimeWarning, match="the mesh is not closed: 12 columns"):
        found = ops.voxelize_mesh(*arguments, shape=(8, 8, 8))
    assert found[0, 0, 2, 2].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.voxelize_mesh(*arguments, shape=(8, 8, 8))
        assert ops.voxelize_mesh(*arguments, shape=(8, 8, 8), return_open=True)[1].tolist() == [[12]]


def test_degenerate_faces_change_nothing() -> None:
    verts, faces = ball((8, 8, 8), 5.0)
    verts = torch.cat([verts, (verts[faces[0, 0]] + verts[faces[0, 1]])[None] / 2])
    line = torch.tensor([[int(faces[0, 0]), int(faces[0, 1]), len(verts) - 1]])  # flat, and closed with its other side
    more = torch.cat([faces, line, line.flip(1), torch.tensor([[3, 3, 3], [4, 4, 5]])])
    first, second = (ops.voxelize_mesh(verts[None], f, shape=(16, 16, 16), return_open=True) for f in (faces, more))
    assert torch.equal(first[0], second[0])
    assert second[1].tolist() == [[0]]


@needs_kernels
def test_strided_input_and_index_types_change_nothing(device: torch.device) -> None:
    verts, faces, part = (t.to(device) for t in hearts(torch.float32))
    want = ops.voxelize_mesh(verts, faces, shape=(20, 21, 22), part=part, n_parts=2)
    strided = verts.permute(2, 0, 1).contiguous().permute(1, 2, 0), faces.int().T.contiguous().T
    found = ops.voxelize_mesh(*strided, shape=(20, 21, 22), part=part.to(torch.uint8), n_parts=2)
    assert torch.equal(found, want)


def test_an_empty_batch_stays_empty(device: torch.device) -> None:
    verts = torch.zeros(0, 4, 3, device=device, requires_grad=True)
    found = ops.voxelize_mesh(verts, torch.zeros(1, 3, dtype=torch.int64, device=device), shape=(3, 4, 5))
    assert found.shape == (0, 1, 3, 4, 5)
    assert torch.autograd.grad(found.sum(), verts)[0].shape == (0, 4, 3)


@needs_kernels
def test_threads_do_not_change_the_result() -> None:
    verts, faces, part = hearts(torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            leaf = verts.clone().requires_grad_()
            found = ops.voxelize_mesh(leaf, faces, shape=(40, 21, 22), part=part, n_parts=2, priority=(0, 1))
            weights = torch.linspace(-1, 1, found.numel()).view_as(found)
            results.append((found.detach(), torch.autograd.grad(found, leaf, weights)[0]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_kernels
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30, -3e9])
def test_wild_numbers_do_no_harm_without_validation(value: float, device: torch.device) -> None:
    verts, faces = ball((8, 8, 8), 5.0)
    verts = verts[None].clone()
    verts[0, 5, 1], verts[0, 9, 0], verts[0, 20, 2] = value, value, -value
    wild = faces.clone()
    wild[3, 1], wild[7, 0] = 2**40, -1
    part = torch.zeros(len(faces), dtype=torch.int64)
    part[11] = 7
    for source in (verts, verts.float()):
        leaf = source.to(device).requires_grad_()
        for index in (None, torch.tensor([2**40], device=device)):
            found = ops.voxelize_mesh(
                leaf, wild.to(device), shape=(16, 9, 70), part=part.to(device), slice_index=index, validate=False
            )
            assert ((found == 0) | (found == 1)).all()
            (grad,) = torch.autograd.grad(found.sum(), leaf)
            assert grad.shape == leaf.shape


def test_slice_of_a_grid_beyond_32_bits() -> None:
    depth = 2**24 - 1
    verts, faces = box((1.5, 1.5, 1.4e7), (600.5, 3.5, 1.5e7))
    options = {"shape": (700, 5, depth), "grad": "none"}
    found = [
        ops.voxelize_mesh(verts[None], faces, slice_index=k, **options).sum() for k in (13900000, 14500000, 15100000)
    ]
    assert found == [0, 599 * 2, 0]


@needs_kernels
def test_opcheck() -> None:
    operators, slices = torch.ops.medsynth_ext, torch.tensor([3, 4])
    whole, ordered = (1, [6, 7, 8], [], None), (2, [6, 7, 8], [1, 0], slices)
    for dtype, options, size in ((torch.float32, whole, (1, 6, 7, 8)), (torch.float64, ordered, (2, 6, 7))):
        verts, faces, part = hearts(dtype)
        given = (verts, faces, part if options is ordered else None, *options)
        grad = torch.rand(2, *size, dtype=dtype)
        torch.library.opcheck(operators.voxelize_mesh.default, (verts.clone().requires_grad_(), *given[1:], False))
        torch.library.opcheck(operators.voxelize_mesh.default, (*given, True), test_utils=SCHEMA)
        torch.library.opcheck(operators.voxelize_mesh_backward.default, (grad, *given), test_utils=SCHEMA)
        torch.library.opcheck(operators.voxelize_mesh_out.default, (*given, torch.empty_like(grad)), test_utils=SCHEMA)


TETRAHEDRON = (
    torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(0)),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verts": torch.rand(4, 3)}, r"verts must be \(B, V, 3\), got \(4, 3\)"),
        ({"faces": torch.zeros(0, 3, dtype=torch.int64)}, r"faces must be \(F, 3\) with F > 0, got \(0, 3\)"),
        ({"faces": torch.zeros(3, dtype=torch.int64)}, r"faces must be \(F, 3\)"),
        ({"faces": torch.tensor([[0, 1, 4]])}, r"faces must be in 0\.\.3, got 4"),
        ({"faces": torch.tensor([[0, 1, -2]])}, r"faces must be in 0\.\.3, got -2"),
        ({"verts": torch.full((1, 4, 3), math.nan)}, "verts must be finite, got .*nan.* for vertex 0 of sample 0"),
        ({"shape": (4, 4)}, r"shape must be three positive sizes, got \(4, 4\)"),
        ({"shape": (4, 0, 4)}, "shape must be three positive sizes"),
        ({"n_parts": 0}, "n_parts must be at least 1, got 0"),
        ({"part": torch.tensor([0, 0])}, r"part must be \(4,\), one number a face, got \(2,\)"),
        ({"part": torch.tensor([0, 0, 1, 0])}, r"part must be in 0\.\.0, got 1"),
        ({"priority": (1,)}, r"priority must name each of the parts 0 to 0 once .*got \[1\]"),
        ({"priority": (0, 0), "n_parts": 2}, "priority must name each of the parts 0 to 1 once"),
        ({"slice_index": 4}, r"slice_index must be in 0\.\.3, got 4"),
        ({"slice_index": torch.tensor([-1])}, r"slice_index must be in 0\.\.3, got -1"),
        ({"slice_index": torch.tensor([0, 1])}, r"slice_index must be an integer or \(1,\)"),
        ({"grad": "exact"}, "grad must be one of surface, none, got 'exact'"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    given = {"verts": TETRAHEDRON[0], "faces": TETRAHEDRON[1], "shape": (4, 4, 4)} | change
    with pytest.raises(ValueError, match=message):
        ops.voxelize_mesh(**given)


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match="verts must be float16, bfloat16, float32 or float64"):
        ops.voxelize_mesh(TETRAHEDRON[0].long(), TETRAHEDRON[1], shape=(4, 4, 4))
    with pytest.raises(TypeError, match="faces must be bool, uint8"):
        ops.voxelize_mesh(TETRAHEDRON[0], TETRAHEDRON[1].float(), shape=(4, 4, 4))
    with pytest.raises(TypeError, match="slice_index must be an integer or a tensor of integers, got float"):
        ops.voxelize_mesh(*TETRAHEDRON, shape=(4, 4, 4), slice_index=1.5)
    with pytest.raises(TypeError, match=r"out must be torch\.uint8"):
        ops.voxelize_mesh(*TETRAHEDRON, shape=(4, 4, 4), grad="none", out=torch.empty(1, 1, 4, 4, 4))


def test_result_goes_to_out() -> None:
    for grad, dtype in (("none", torch.uint8), ("surface", torch.float32)):
        out = torch.full((1, 1, 4, 4, 4), 7, dtype=dtype)
        want = ops.voxelize_mesh(*TETRAHEDRON, shape=(4, 4, 4), grad=grad)
        assert ops.voxelize_mesh(*TETRAHEDRON, shape=(4, 4, 4), grad=grad, out=out) is out
        assert torch.equal(out, want)


def test_bytes_from_half_precision_are_those_of_float32() -> None:
    verts = (4 * TETRAHEDRON[0]).half()
    want = ops.voxelize_mesh(verts.float(), TETRAHEDRON[1], shape=(4, 4, 4), grad="none")
    out = torch.empty_like(want)
    assert ops.voxelize_mesh(verts, TETRAHEDRON[1], shape=(4, 4, 4), grad="none", out=out) is out
    assert torch.equal(out, want)


@needs_kernels
def test_cpp_door_refuses_what_would_read_out_of_bounds() -> None:
    op, (verts, faces) = torch.ops.medsynth_ext.voxelize_mesh, TETRAHEDRON
    for given, message in (
        ((verts[0], faces, None, 1, [4, 4, 4], [], None, True), "verts must be"),
        ((verts, faces.int(), None, 1, [4, 4, 4], [], None, True), "faces must be int64"),
        ((verts, faces, faces[:2, 0], 1, [4, 4, 4], [], None, True), "part must have shape"),
        ((verts, faces, None, 1, [4, 4], [], None, True), "shape must have 3 entries"),
        ((verts, faces, None, 2, [4, 4, 4], [0, 2], None, True), "priority must name"),
        ((verts, faces, None, 1, [4, 4, 4], [], torch.tensor([1, 2]), True), "slices must have shape"),
    ):
        with pytest.raises(RuntimeError, match=message):
            op(*given)
