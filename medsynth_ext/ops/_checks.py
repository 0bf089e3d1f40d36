"""Argument checks shared by the operator families, and the choice between kernel and twin."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from medsynth_ext._extension import has_cuda_kernels, has_operators

__all__ = [
    "check_float",
    "check_label",
    "check_out",
    "check_same",
    "check_seed",
    "in_graph",
    "numbers_tensor",
    "one_of",
    "refuse_grad",
    "use_kernel",
]

_FLOATS = (torch.float32, torch.float64)
_LABELS = (torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64)


@cache
def _warn_no_kernel(device_type: str) -> None:
    warnings.warn(
        f"medsynth_ext has no compiled kernels for {device_type} tensors here; they run as plain PyTorch",
        RuntimeWarning,
        stacklevel=4,
    )


def use_kernel(tensor: Tensor) -> bool:
    """Whether a compiled (or fake) kernel serves this tensor's device; says once when none does."""
    if not has_operators():
        return False  # the import has warned
    kind = tensor.device.type
    if kind in ("cpu", "meta") or (kind == "cuda" and has_cuda_kernels()):
        return True
    _warn_no_kernel(kind)
    return False


def in_graph() -> bool:
    """Whether the call becomes part of a graph (compiled, exported or traced), where no value may decide anything."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def check_float(name: str, value: Tensor) -> None:
    """Raise ``TypeError`` unless ``value`` is a float32 or float64 tensor; half precision was promoted at the door."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in _FLOATS:
        raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {value.dtype}")


def check_label(name: str, value: Tensor) -> None:
    """Raise ``TypeError`` unless ``value`` is a tensor of an integer label type."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in _LABELS:
        raise TypeError(f"{name} must be bool, uint8, int16, int32 or int64, got {value.dtype}")


def check_same(name: str, value: Tensor, like_name: str, like: Tensor, *, dtype: bool = True) -> None:
    """Raise unless ``value`` has the device (``RuntimeError``) and, if asked, the dtype (``TypeError``) of ``like``."""
    if value.device != like.device:
        raise RuntimeError(f"{name} is on {value.device}, but {like_name} is on {like.device}; move one of them")
    if dtype and value.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name} ({like.dtype}), got {value.dtype}")


def check_seed(seed: int, sample_offset: int = 0, stream: int = 0) -> None:
    """Raise ``ValueError`` for a seed outside int64, a negative sample offset or a stream outside 24 bits."""
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed must fit in a signed 64-bit integer, got {seed}")
    if not 0 <= sample_offset < 2**32:
        raise ValueError(f"sample_offset must be in [0, 2**32), got {sample_offset}")
    if not 0 <= stream < 2**24:
        raise ValueError(f"stream must be in [0, 2**24), got {stream}")


def check_out(
    out: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device, inputs: Sequence[Tensor]
) -> None:
    """Raise unless ``out`` can hold the result: shape, dtype, device, contiguous, and no gradient wanted."""
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    if out.dtype != dtype:
        raise TypeError(f"out must be {dtype}, got {out.dtype}")
    if out.device != device:
        raise RuntimeError(f"out is on {out.device}, but the inputs are on {device}")
    if not out.is_contiguous():
        raise ValueError("out must be contiguous")
    if torch.is_grad_enabled() and (out.requires_grad or any(t.requires_grad for t in inputs)):
        raise RuntimeError("out= cannot be used when a gradient is required; call without out or under torch.no_grad()")


def refuse_grad(operator: str, hint: str, **tensors: Tensor | None) -> None:
    """Raise ``NotImplementedError`` when one of the tensors requires a gradient that ``operator`` does not have."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError(f"{operator} has no gradient to {name}; {hint}")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def numbers_tensor(name: str, values: float | Sequence[float] | Tensor, like: Tensor) -> Tensor:
    """``values`` as a float tensor on ``like``'s device (its dtype if it is a float type), all finite.

    Raises:
        ValueError: when a Python number is not finite (tensors are checked by the operator).
    """
    dtype = like.dtype if like.dtype in _FLOATS else torch.float32
    if isinstance(values, Tensor):
        return values.to(device=like.device, dtype=dtype)
    numbers = [float(v) for v in values] if isinstance(values, Sequence) else [float(values)]
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{name} must be finite, got {values}")
    return torch.tensor(numbers if isinstance(values, Sequence) else numbers[0], dtype=dtype, device=like.device)
