"""Tables that are made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

__all__ = ["cached_outside_graphs"]

P = ParamSpec("P")
R = TypeVar("R")


def cached_outside_graphs(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """``functools.lru_cache``, except in graphs: tensors that are traced have no values and must not stay."""

    def decorate(make: Callable[P, R]) -> Callable[P, R]:
        kept = cast("Callable[P, R]", functools.lru_cache(maxsize)(make))

        @functools.wraps(make)
        def door(*args: P.args, **kwargs: P.kwargs) -> R:
            return make(*args, **kwargs) if torch.compiler.is_compiling() else kept(*args, **kwargs)

        return door

    return decorate
