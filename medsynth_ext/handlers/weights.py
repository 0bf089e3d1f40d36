"""Loading weights with errors that a person can act on."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["WeightsError", "load_weights"]


class WeightsError(RuntimeError):
    """Weights that cannot be loaded; the message is one sentence that names the file and what is wrong with it."""


def load_weights(network: nn.Module, path: str | os.PathLike, *, allow_foreign: bool = False) -> None:
    """Load a state dict of plain tensors into a network, in the precision of the network.

    Half-precision files are converted on loading. The network keeps its old weights when anything is wrong. With
    ``allow_foreign`` the file may hold more than the network, for example the rest of a classifier.

    Raises:
        WeightsError: when the file is missing, damaged, not a state dict, or one of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise WeightsError(
            f"the weights file {path} is damaged or is not a file of tensors ({path.stat().st_size} bytes): {reason}"
        ) from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        keys = list(state)[:4] if isinstance(state, Mapping) else type(state).__name__
        raise WeightsError(f"the weights file {path} must hold a state dict of tensors, got {keys}")
    wanted = network.state_dict()
    missing = [k for k in wanted if k not in state]
    foreign = [] if allow_foreign else [k for k in state if k not in wanted]
    shapes = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    if missing or foreign or shapes:
        what = [
            f"{len(keys)} tensors {kind}, the first is {keys[0]}"
            for kind, keys in (("are missing", missing), ("are foreign", foreign))
            if keys
        ]
        if shapes:
            k, came, want = shapes[0], tuple(state[shapes[0]].shape), tuple(wanted[shapes[0]].shape)
            what.append(f"{len(shapes)} have another shape, {k} is {came} where {want} is wanted")
        raise WeightsError(
            f"the weights file {path} is for another network than {type(network).__name__}: {'; '.join(what)}"
        )
    bad = [k for k in wanted if state[k].is_floating_point() and not torch.isfinite(state[k]).all()]
    if bad:
        raise WeightsError(f"the weights file {path} holds values that are not finite, the first tensor is {bad[0]}")
    network.load_state_dict({k: state[k].to(v.dtype) for k, v in wanted.items()})
