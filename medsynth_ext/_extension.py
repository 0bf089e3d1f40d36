"""Loads the compiled operators, once, and says what was built."""

from __future__ import annotations

import importlib
import json
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch  # the operator library resolves its symbols in torch's libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["build_info", "has_cuda_kernels", "has_operators", "operator_library", "use_instruction_set"]

_LIBRARY = Path(__file__).parent / "libmedsynth_ops.so"
_OLDEST_TORCH = "2.11"  # TORCH_TARGET in setup.py
_INSTRUCTION_SETS = ("base", "avx2", "avx512")


def _load() -> Any | None:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < tuple(map(int, _OLDEST_TORCH.split("."))):
        raise ImportError(f"medsynth_ext needs torch {_OLDEST_TORCH} or newer, found {torch.__version__}")
    try:
        module = importlib.import_module("medsynth_ext._C")
    except ImportError as error:
        warnings.warn(
            f"medsynth_ext has no compiled operators ({error}); every operator runs as its plain PyTorch twin, many "
            "times slower. Build them with: pip install --no-build-isolation .",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    try:
        module.load_operators(str(_LIBRARY))
    except RuntimeError as error:
        raise ImportError(
            f"medsynth_ext cannot load its compiled operators: {error}. Build them anew for torch {torch.__version__} "
            "with: pip install --no-build-isolation ."
        ) from None
    return module


_module = _load()
_cuda_kernels = _module is not None and bool(json.loads(_module.build_info())["cuda"])


def has_operators() -> bool:
    """Whether the compiled operators are loaded."""
    return _module is not None


def has_cuda_kernels() -> bool:
    """Whether the operators were compiled for CUDA too."""
    return _cuda_kernels


def operator_library() -> Path:
    """The file of the compiled operators, which C++ programs load.

    Raises:
        RuntimeError: when it was not built.
    """
    if _module is None:
        raise RuntimeError(
            "medsynth_ext has no compiled operators; build them with: pip install --no-build-isolation ."
        )
    return _LIBRARY


def build_info() -> dict[str, Any]:
    """What was built and what this machine can use.

    Returns:
        ``version``, ``compiler``, ``torch_target`` (oldest torch the library loads in), ``torch`` (the one in use),
        ``cuda`` (kernels compiled), ``nvcc``, ``cuda_archs``, ``cuda_device`` (name of the first device or ``None``),
        ``sanitizers``, ``cpu_best`` and ``cpu_in_use`` (instruction set: base, avx2, avx512), ``threads``. Without
        compiled operators only ``version``, ``torch`` and ``cuda_device`` hold something.
    """
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    if _module is None:
        return {"version": None, "torch": torch.__version__, "cuda": False, "cuda_device": device}
    return {**json.loads(_module.build_info()), "torch": torch.__version__, "cuda_device": device}


@contextmanager
def use_instruction_set(name: str) -> Iterator[str]:
    """Use at most this instruction set inside the block: ``base``, ``avx2`` or ``avx512``. Yields the one in use."""
    if name not in _INSTRUCTION_SETS:
        raise ValueError(f"name must be one of {_INSTRUCTION_SETS}, got {name!r}")
    if _module is None:
        yield "base"
        return
    before = _INSTRUCTION_SETS.index(build_info()["cpu_in_use"])
    try:
        yield _INSTRUCTION_SETS[_module.set_isa(_INSTRUCTION_SETS.index(name))]
    finally:
        _module.set_isa(before)
