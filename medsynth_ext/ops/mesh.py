"""Closed surfaces to voxels, with gradients to their vertices."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_label, check_out, check_same, one_of, use_kernel
from medsynth_ext.ops._precision import float32_inside

__all__ = ["finite_difference_shape_grad", "voxelize_mesh"]

_MOST_ORDERED = 256
_open_mesh_told = False


@float32_inside("verts")
def voxelize_mesh(
    verts: Tensor,  # (B, V, 3) voxels, along the axes of the grid
    faces: Tensor,  # (F, 3) integers, the same for the whole batch
    *,
    shape: Sequence[int],
    part: Tensor | None = None,  # (F,) integers
    n_parts: int = 1,
    priority: Sequence[int] | None = None,
    slice_index: int | Tensor | None = None,  # or (B,)
    grad: str = "surface",
    validate: bool = True,
    return_open: bool = False,
    out: Tensor | None = None,
) -> Any:  # (B, n_parts, *shape), of slices (B, n_parts, shape[0], shape[1]); and (B, n_parts) int64
    """Which voxels lie inside a closed triangle mesh, 1 or 0; differentiable in the vertices.

    Voxel centres are at integers. A voxel is inside a part when the column of voxels along the last axis has crossed
    the part's faces an odd number of times up to its centre; columns are moved by 1.3e-4 and 2.1e-4 voxels, so that
    they miss the edges of regular meshes. Parts may be nested, touch and overlap.

    The occupancy jumps, so its gradient is that of the exact volume (Hadamard's formula): ``dL/dv = sum over the faces
    at v, sum over three points x of (1/3) phi_v(x) G(x) n``, n the outward area vector and G the gradient of the
    occupancy, read linearly, constant for half a voxel beyond the grid and 0 from there. The sign of a part's volume
    says which side is outside, so its faces must be oriented alike, either way. There is no second derivative.

    Args:
        verts: float32 or float64.
        faces: corners of the triangles.
        shape: the grid.
        part: which part each face belongs to; all to part 0 by default. Every part must be closed.
        n_parts: number of parts.
        priority: all parts in order: a voxel belongs to the first part that has it, and to no other; then
            ``result.sum(1)`` is the union, also for gradients. At most 256 parts. Without it parts may overlap.
        slice_index: makes only this slice of the last axis, one for all or one per sample: ``result[..., index]``.
        grad: ``surface`` gives the dtype of ``verts``, ``none`` gives uint8 without gradient.
        validate: refuse vertices that are not finite and indices that are out of range, and say once when a mesh is
            not closed. On CUDA this waits for the result. Without it such faces are left out.
        return_open: return also how many columns of each part cross its faces an odd number of times: 0 if closed.
        out: a tensor that receives the result; no gradient then.

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape, no faces, vertices that are not finite, or numbers out of range.
        RuntimeError: for ``out`` where a gradient is wanted.

    >>> verts = torch.tensor([[[0.5, 0.5, 0.5], [6.5, 0.5, 0.5], [0.5, 6.5, 0.5], [0.5, 0.5, 6.5]]])
    >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> voxelize_mesh(verts, faces, shape=(8, 8, 8)).sum((0, 1, 3, 4)).tolist()
    [0.0, 15.0, 10.0, 6.0, 3.0, 1.0, 0.0, 0.0]
    """
    size, order = _check_mesh(verts, faces, shape, part, n_parts, priority)
    one_of("grad", grad, ("surface", "none"))
    slices = None if slice_index is None else _check_slices(slice_index, verts, size[2])
    values = validate and verts.device.type != "meta" and not torch.compiler.is_compiling()
    if values:
        _check_values(verts, faces, part, n_parts, slices, size[2])
    integer = grad == "none"
    if out is not None:
        wanted = (verts.shape[0], n_parts, *(size if slices is None else size[:2]))
        dtype = torch.uint8 if integer else verts.dtype
        check_out(out, wanted, dtype, verts.device, () if integer else (verts,))
    if use_kernel(verts):
        arguments = (faces.long(), None if part is None else part.long(), n_parts, size, order, slices)
        source = verts.detach() if integer else verts
        if out is None:
            out, odd = torch.ops.medsynth_ext.voxelize_mesh(source, *arguments, integer)
        else:
            odd = torch.ops.medsynth_ext.voxelize_mesh_out(source, *arguments, out)
    else:
        out, odd = reference.voxelize_mesh(
            verts,
            faces,
            shape=size,
            part=part,
            n_parts=n_parts,
            priority=order,
            slice_index=slices,
            grad=grad,
            return_open=True,
            out=out,
        )
    if return_open:
        return out, odd
    if values:
        _tell_open(odd)
    return out


def _check_mesh(
    verts: Tensor,
    faces: Tensor,
    shape: Sequence[int],
    part: Tensor | None,
    n_parts: int,
    priority: Sequence[int] | None,
) -> tuple[tuple[int, int, int], list[int]]:
    """The grid and the order of the parts, after checks that need no values of tensors."""
    check_float("verts", verts)
    if verts.ndim != 3 or verts.shape[2] != 3:
        raise ValueError(f"verts must be (B, V, 3), got {tuple(verts.shape)}")
    check_label("faces", faces)
    check_same("faces", faces, "verts", verts, dtype=False)
    if faces.ndim != 2 or faces.shape[1] != 3 or not faces.shape[0]:
        raise ValueError(f"faces must be (F, 3) with F > 0, got {tuple(faces.shape)}")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be three positive sizes, got {tuple(shape)}")
    if n_parts < 1:
        raise ValueError(f"n_parts must be at least 1, got {n_parts}")
    if part is not None:
        check_label("part", part)
        check_same("part", part, "verts", verts, dtype=False)
        if part.shape != faces.shape[:1]:
            raise ValueError(f"part must be ({faces.shape[0]},), one number a face, got {tuple(part.shape)}")
    order = [] if priority is None else [int(p) for p in priority]
    if priority is not None and (sorted(order) != list(range(n_parts)) or n_parts > _MOST_ORDERED):
        raise ValueError(
            f"priority must name each of the parts 0 to {n_parts - 1} once (at most {_MOST_ORDERED}), got {order}"
        )
    return (int(shape[0]), int(shape[1]), int(shape[2])), order


def _check_slices(slice_index: int | Tensor, verts: Tensor, depth: int) -> Tensor:  # (B,) int64
    if not isinstance(slice_index, Tensor):
        if not hasattr(slice_index, "__index__"):
            raise TypeError(f"slice_index must be an integer or a tensor of integers, got {type(slice_index).__name__}")
        if not 0 <= slice_index < depth:
            raise ValueError(f"slice_index must be in 0..{depth - 1}, got {slice_index}")
        return torch.full(verts.shape[:1], slice_index, dtype=torch.int64, device=verts.device)
    check_label("slice_index", slice_index)
    if slice_index.shape != verts.shape[:1]:
        raise ValueError(
            f"slice_index must be an integer or ({verts.shape[0]},), one a sample, got {tuple(slice_index.shape)}"
        )
    return slice_index.to(verts.device, torch.int64)


def _check_values(
    verts: Tensor, faces: Tensor, part: Tensor | None, n_parts: int, slices: Tensor | None, depth: int
) -> None:
    finite = verts.detach().isfinite()
    if not bool(finite.all()):
        sample, vertex = (~finite).any(2).nonzero()[0].tolist()
        wrong = verts.detach()[sample, vertex].tolist()
        raise ValueError(f"verts must be finite, got {wrong} for vertex {vertex} of sample {sample}")
    indices = (("faces", faces, verts.shape[1]), ("part", part, n_parts), ("slice_index", slices, depth))
    for name, value, count in indices:
        if value is None or not value.numel():
            continue
        low, high = (int(v) for v in value.aminmax())
        if low < 0 or high >= count:
            raise ValueError(f"{name} must be in 0..{count - 1}, got {low if low < 0 else high}")


def _tell_open(odd: Tensor) -> None:
    global _open_mesh_told
    count = 0 if _open_mesh_told else int(odd.sum())
    if count:
        _open_mesh_told = True
        warnings.warn(
            f"the mesh is not closed: {count} columns of voxels cross its faces an odd number of times and stay full "
            "to the end of the grid; return_open=True gives their number per sample and part (said only once)",
            RuntimeWarning,
            stacklevel=4,
        )


@float32_inside("parameters", "grad")
def finite_difference_shape_grad(
    voxelize: Callable[[Tensor], Tensor],  # (..., N) -> (..., *any)
    parameters: Tensor,  # (..., N)
    eps: float | Tensor,  # or (N,)
    grad: Tensor,  # (..., *any), dL/d occupancy
) -> Tensor:  # (..., N)
    """dL/dt of parameters t whose occupancy jumps: ``sum_x G(x) (Y(t + eps e)(x) - Y(t - eps e)(x)) / (2 eps)``.

    Two voxelisations a parameter; :func:`voxelize_mesh` itself needs one pass over the faces. Steps that move the
    surface less than half a voxel give mostly noise.

    Args:
        voxelize: the occupancy of given parameters; called without gradient.
        parameters: where; leading axes are a batch.
        eps: step, or one per parameter.
        grad: gradient of the loss to ``voxelize(parameters)``.

    Raises:
        TypeError: for another dtype.
        ValueError: for a step that is not positive, or shapes that do not fit.

    >>> grad = torch.ones(4)
    >>> finite_difference_shape_grad(lambda t: (torch.arange(4) < t).float(), torch.tensor([2.0]), 1.0, grad)
    tensor([1.])
    """
    check_float("parameters", parameters)
    check_float("grad", grad)
    count, lead = parameters.shape[-1], parameters.ndim - 1
    steps = torch.as_tensor(eps, dtype=parameters.dtype, device=parameters.device)
    if steps.shape not in ((), (count,)) or not bool((steps > 0).all()):
        raise ValueError(f"eps must be positive, a number or ({count},), got {eps}")
    if grad.shape[:lead] != parameters.shape[:-1]:
        raise ValueError(
            f"grad must begin with {tuple(parameters.shape[:-1])} like parameters, got {tuple(grad.shape)}"
        )
    gains = []
    with torch.no_grad():
        for n, step in enumerate(steps.expand(count)):
            move = torch.zeros_like(parameters)
            move[..., n] = step
            more, less = (voxelize(parameters + sign * move).to(grad.dtype) for sign in (1, -1))
            if more.shape != grad.shape:
                raise ValueError(
                    f"grad must have the shape of voxelize(parameters) {tuple(more.shape)}, got {grad.shape}"
                )
            gain = (grad * (more - less)).flatten(lead).sum(-1)
            gains.append((gain / (2 * step)).to(parameters.dtype))
    return torch.stack(gains, -1) if gains else torch.empty_like(parameters)


if use_kernel(torch.empty(0)):

    def _shape(verts: Tensor, n_parts: int, shape: Sequence[int], slices: Tensor | None) -> tuple[int, ...]:
        return verts.shape[0], n_parts, *(shape if slices is None else shape[:2])

    @torch.library.register_fake("medsynth_ext::voxelize_mesh")
    def _voxelize_fake(
        verts: Tensor,
        faces: Tensor,
        part: Tensor | None,
        n_parts: int,
        shape: Sequence[int],
        priority: Sequence[int],
        slices: Tensor | None,
        integer: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.uint8 if integer else verts.dtype
        odd = verts.new_empty((verts.shape[0], n_parts), dtype=torch.int64)
        return verts.new_empty(_shape(verts, n_parts, shape, slices), dtype=dtype), odd

    @torch.library.register_fake("medsynth_ext::voxelize_mesh_out")
    def _out_fake(verts: Tensor, faces: Tensor, part: Tensor | None, n_parts: int, *rest: Any) -> Tensor:
        return verts.new_empty((verts.shape[0], n_parts), dtype=torch.int64)

    @torch.library.register_fake("medsynth_ext::voxelize_mesh_backward")
    def _backward_fake(grad: Tensor, verts: Tensor, *rest: Any) -> Tensor:
        return torch.empty_like(verts, memory_format=torch.contiguous_format)

    def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        verts, faces, part, ctx.n_parts, ctx.shape, ctx.priority, slices, _ = inputs
        ctx.save_for_backward(verts, faces, part, slices)

    def _voxelize_grad(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
        verts, faces, part, slices = ctx.saved_tensors
        arguments = (verts, faces, part, ctx.n_parts, ctx.shape, ctx.priority, slices)
        return torch.ops.medsynth_ext.voxelize_mesh_backward(grad, *arguments), *[None] * 7

    def _no_second_gradient(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError("voxelize_mesh has no second derivative")

    torch.library.register_autograd("medsynth_ext::voxelize_mesh", _voxelize_grad, setup_context=_setup)
    torch.library.register_autograd("medsynth_ext::voxelize_mesh_backward", _no_second_gradient)
