"""What operators and their twins do with half precision and under autocast: one rule, in one place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from medsynth_ext.ops._checks import check_out, check_same

__all__ = ["float32_inside", "widened"]

P = ParamSpec("P")
R = TypeVar("R")

_LOW = (torch.float16, torch.bfloat16)


def widened(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32: for operators whose results, such as coordinates, half precision cannot hold."""
    return x.float() if isinstance(x, Tensor) and x.dtype in _LOW else x


def _refuse_mixture(tensors: dict[str, Tensor]) -> None:
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    first = next(iter(floats))
    for name, tensor in floats.items():
        check_same(name, tensor, first, floats[first])


def _lowered(result: Any, dtype: torch.dtype) -> Any:
    """The float tensors of a result in ``dtype``; masks stay as they are."""
    if isinstance(result, tuple):
        return tuple(_lowered(part, dtype) for part in result)
    return result.to(dtype) if result.is_floating_point() else result


def float32_inside(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate an operator so that it computes in float32 where its arguments ``names`` are float16 or bfloat16.

    The result comes back in their dtype, and ``out`` must have it, but integers stay integers; they may not be mixed
    with other float dtypes. Under ``torch.autocast`` the rule is that of
    ``torch.amp.custom_fwd(cast_inputs=torch.float32)``: autocast is off inside, half arguments count as float32, mixed
    or not, and the result is float32. Gradients pass in both cases.

    Args:
        names: tensor arguments; the result takes its dtype from the first, so integer labels there stay untouched.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        order = list(inspect.signature(function).parameters)
        places = [(name, order.index(name)) for name in names]

        @functools.wraps(function)
        def door(*args: P.args, **kwargs: P.kwargs) -> R:
            tensors: dict[str, Any] = {}
            low = {}  # name -> position
            for name, i in places:
                value = args[i] if i < len(args) else kwargs.get(name)
                if isinstance(value, Tensor):
                    tensors[name] = value
                    if value.dtype in _LOW:
                        low[name] = i
            kind = next((tensor.device.type for tensor in tensors.values()), "meta")
            autocast = kind != "meta" and torch.is_autocast_enabled(kind)  # autocast does not know meta tensors
            if not low and not autocast:
                return function(*args, **kwargs)

            wide: list[Any] = list(args)
            options: dict[str, Any] = dict(kwargs)
            for name, i in low.items():
                if i < len(args):
                    wide[i] = tensors[name].float()
                else:
                    options[name] = tensors[name].float()
            if autocast:
                with torch.autocast(kind, enabled=False):
                    return function(*wide, **options)
            _refuse_mixture(tensors)
            if names[0] not in low:
                return function(*wide, **options)
            dtype, out = tensors[names[0]].dtype, options.get("out")
            if not isinstance(out, Tensor) or not out.is_floating_point():
                return cast(R, _lowered(function(*wide, **options), dtype))
            check_out(out, out.shape, dtype, out.device, list(tensors.values()))
            options["out"] = torch.empty_like(out, dtype=torch.float32)
            result: Any = function(*wide, **options)
            out.copy_(options["out"])
            return cast(R, (out, *result[1:]) if isinstance(result, tuple) else out)

        return door

    return decorate
