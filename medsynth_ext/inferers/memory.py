"""How much memory a call takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["peak_bytes"]


class _LiveStorages(TorchDispatchMode):
    """Adds up the storages that operators make while they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                if storage._cdata not in before and storage._cdata not in self.known:
                    self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        self.known.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)

        def gone() -> None:
            self.known.discard(place)
            self.live -= size

        weakref.finalize(storage, gone)


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most bytes that tensors made by ``call()`` hold at one time, on whatever device, without gradients.

    Scratch memory inside of single operators is not seen.

    >>> peak_bytes(lambda: torch.ones(256) + 1)
    2048
    """
    with torch.no_grad(), _LiveStorages() as storages:
        call()
    return storages.peak
