"""Checkpoints from which a killed training goes on with the same result."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.nn.parallel import DistributedDataParallel

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["Checkpoint"]

logger = logging.getLogger(__name__)


class Checkpoint:
    """Saves everything a training needs to go on, and goes on from the newest complete checkpoint of its folder.

    A checkpoint holds the state of every object given, the engine's epoch, iteration and gradient scaler, and the
    random states of Python, NumPy and torch. It is written at the end of an epoch by the first process, to a temporary
    file that is then renamed. When the engine starts, all processes load the newest one; one that cannot be read is
    skipped with a warning. Attach it last, so that what the other handlers do at the end of an epoch is in it.

    Args:
        folder: where the files ``checkpoint_epoch=N.pt`` are.
        objects: name to object with ``state_dict`` and ``load_state_dict`` (networks, EMA, optimisers, ...); a
            ``DistributedDataParallel`` is looked into, so the number of processes may change in between.
        interval: save every so many epochs.
        keep: number of newest checkpoints to keep.
        resume: go on from the folder's newest checkpoint; otherwise refuse a folder that holds one.
        keep_final: keep the checkpoints of a training that reached its last epoch; if not, the next run starts anew.

    Raises:
        ValueError: for a checkpoint that does not fit the objects or the engine.
        FileExistsError: when there is a checkpoint and ``resume`` is off.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Any],
        *,
        interval: int = 1,
        keep: int = 2,
        resume: bool = True,
        keep_final: bool = True,
    ) -> None:
        if interval < 1 or keep < 1:
            raise ValueError(f"interval and keep must be at least 1, got {interval} and {keep}")
        self.folder = Path(folder)
        self.objects = {
            name: value.module if isinstance(value, DistributedDataParallel) else value
            for name, value in objects.items()
        }
        self.interval = interval
        self.keep = keep
        self.resume = resume
        self.keep_final = keep_final

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.load_newest)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        if not self.keep_final:
            engine.add_event_handler(Events.COMPLETED, self.clear)

    def files(self) -> list[Path]:
        """The folder's checkpoints, oldest first."""
        return sorted(self.folder.glob("checkpoint_epoch=*.pt"), key=lambda f: int(f.stem.split("=")[1]))

    def save(self, engine: Engine) -> None:
        """Write a checkpoint of the present state and delete those that are too old."""
        if rank_and_world()[0] > 0:
            return
        state = {
            "objects": {name: value.state_dict() for name, value in self.objects.items()},
            "engine": {name: getattr(engine.state, name) for name in ("epoch", "iteration", "epoch_length")},
            "grad_scaler": engine.grad_scaler.state_dict() if hasattr(engine, "grad_scaler") else {},
            "random": _random_state(),
        }
        path = self.folder / f"checkpoint_epoch={engine.state.epoch:06d}.pt"
        with replacing(path) as temporary:
            torch.save(state, temporary)
        for old in self.files()[: -self.keep]:
            old.unlink()

    def clear(self, engine: Engine) -> None:
        """Delete the checkpoints if the last epoch is done (a run may also end before, at a time limit)."""
        if engine.state.epoch == engine.state.max_epochs and rank_and_world()[0] == 0:
            for path in self.files():
                path.unlink()

    def load_newest(self, engine: Engine) -> None:
        """Go on from the newest complete checkpoint, if there is one."""
        if rank_and_world()[0] == 0:
            for leftover in self.folder.glob(".part-*"):  # of a killed run
                leftover.unlink(missing_ok=True)
        for path in reversed(self.files()):
            if not self.resume:
                raise FileExistsError(f"{path} exists; set resume to go on from it, or choose another folder")
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a damaged file may fail in the zip reader, the unpickler or torch
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                logger.warning(f"{path} is damaged ({reason}); trying the checkpoint before it")
                continue
            self._restore(engine, state, path)
            logger.info(f"going on from {path}, iteration {engine.state.iteration}")
            return

    def _restore(self, engine: Engine, state: dict[str, Any], path: Path) -> None:
        if set(state["objects"]) != set(self.objects):
            raise ValueError(f"{path} holds {sorted(state['objects'])}, wanted {sorted(self.objects)}")
        if state["engine"]["epoch_length"] != engine.state.epoch_length:
            raise ValueError(
                f"{path} was written with {state['engine']['epoch_length']} iterations per epoch, now there are "
                f"{engine.state.epoch_length}; use the same settings or another folder"
            )
        for name, value in self.objects.items():
            try:
                value.load_state_dict(state["objects"][name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise ValueError(f"{path} does not fit '{name}': {error}") from error
        for name in ("epoch", "iteration"):
            setattr(engine.state, name, state["engine"][name])
        if state["grad_scaler"]:
            engine.grad_scaler.load_state_dict(state["grad_scaler"])  # type: ignore[attr-defined]
        _set_random_state(state["random"])


def _random_state() -> dict[str, Any]:
    # Plain containers and tensors only, so that the file loads with weights_only.
    numpy_state = np.random.get_state(legacy=False)
    generator = numpy_state["state"]
    return {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {**generator, "key": torch.from_numpy(generator["key"].astype(np.int64))}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    generator = state["numpy"]["state"]
    key = generator["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**generator, "key": key}})
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
