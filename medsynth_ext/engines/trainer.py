"""The trainer that every bundle uses; what happens in an iteration is the step's business."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor

from medsynth_ext.engines.processes import rank_and_world

__all__ = ["StepTrainer"]

_AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class StepTrainer(Trainer):
    """Runs ``step(engine, batch)`` once per iteration.

    The step owns its networks, optimisers and losses. It returns a flat dict with ``loss``, each named term of it and
    ``pred``; batch-first tensors in it are decollated for the post-processing, metrics and handlers. For the forward
    pass it uses ``engine.autocast()``, for every optimiser's step ``engine.update(loss, optimizer)``.

    Args:
        device: device of the networks.
        max_epochs: number of epochs to run.
        train_data_loader: source of the batches.
        step: ``step(engine, batch) -> dict``.
        epoch_length: iterations per epoch; the length of the loader when ``None``.
        amp: run ``engine.autocast()`` in ``amp_dtype``.
        amp_dtype: ``"bfloat16"`` (CPU and CUDA) or ``"float16"`` (with gradient scaling).
        max_grad_norm: clip the norm of an optimiser's gradients to this; ``None`` does not clip.
        average_gradients: with several processes, average the gradients over them before an optimiser's step. For
            steps whose networks are not under ``DistributedDataParallel``, which wants every network in every backward
            pass and so does not fit networks that learn in turns. All processes must start with the same weights.
        postprocessing: transform for each decollated output.
        key_train_metric: the metric to compare epochs by.
        additional_metrics: more metrics.
        train_handlers: ignite handlers.
        decollate: split batch and output into lists of samples after the step.

    Raises:
        ValueError: for an unknown ``amp_dtype``, or a step that does not return a dict with ``loss``.
        FloatingPointError: when the loss or its gradient is not finite.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable,
        step: Callable[[StepTrainer, Any], dict[str, Any]],
        *,
        epoch_length: int | None = None,
        amp: bool = False,
        amp_dtype: str = "bfloat16",
        max_grad_norm: float | None = None,
        average_gradients: bool = False,
        postprocessing: Callable | None = None,
        key_train_metric: dict | None = None,
        additional_metrics: dict | None = None,
        train_handlers: Sequence | None = None,
        decollate: bool = True,
    ) -> None:
        if amp_dtype not in _AMP_DTYPES:
            raise ValueError(f"amp_dtype must be one of {sorted(_AMP_DTYPES)}, got {amp_dtype!r}")
        device = torch.device(device)
        # Handlers may ask for these while they attach, which the parent's constructor does.
        self.step = step
        self.max_grad_norm = max_grad_norm
        self.average_gradients = average_gradients
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=amp and amp_dtype == "float16")
        self.amp_dtype = _AMP_DTYPES[amp_dtype]
        self.amp_enabled = amp  # the parent's own amp would make a scaler for float16 on CUDA
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            postprocessing=postprocessing,
            key_metric=key_train_metric,
            additional_metrics=additional_metrics,
            handlers=train_handlers,
            decollate=decollate,
        )

    def autocast(self) -> AbstractContextManager:
        """The precision of the forward pass, as a context."""
        return torch.autocast(self.state.device.type, dtype=self.amp_dtype, enabled=self.amp_enabled)

    def update(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Back-propagate ``loss`` (a scalar) and take one step of ``optimizer``, scaled and clipped."""
        where = f"in iteration {self.state.iteration} (epoch {self.state.epoch})"
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss must be finite, got {loss.item()} {where}; lower the learning rate")
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        optimizer.zero_grad(set_to_none=True)
        self.grad_scaler.scale(loss).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.average_gradients:
            _average(parameters)
        self.grad_scaler.unscale_(optimizer)
        limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        # With scaling, the scaler itself skips a step whose gradient overflowed.
        if not self.grad_scaler.is_enabled() and not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm must be finite, got {norm.item()} {where}")
        self.grad_scaler.step(optimizer)
        self.grad_scaler.update()

    def _iteration(self, engine: StepTrainer, batchdata: Any) -> dict[str, Any]:
        try:
            output = self.step(engine, batchdata)
        except FloatingPointError as error:
            files = _files(batchdata)
            if not files:
                raise
            raise FloatingPointError(f"{error}; the batch holds {', '.join(files)}") from None
        if not isinstance(output, dict) or "loss" not in output:
            got = sorted(output) if isinstance(output, dict) else type(output).__name__
            raise ValueError(f"a step must return a dict with 'loss', {type(self.step).__name__} returned {got}")
        _, world = rank_and_world()
        if world > 1:
            # Every rank reports the mean over ranks: what one process with the whole batch would see.
            names = [name for name, value in output.items() if isinstance(value, Tensor) and value.ndim == 0]
            scalars = torch.stack([output[name].detach().float() for name in names])
            dist.all_reduce(scalars)
            output.update(zip(names, scalars / world, strict=True))
        self.state.output = output
        self.fire_event(IterationEvents.MODEL_COMPLETED)  # decollation, post-processing and metrics hang on this
        return self.state.output


def _average(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over all processes, in one message."""
    _, world = rank_and_world()
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.div_(world).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _files(batch: Any) -> list[str]:
    """Names of the files that a batch came from, as far as its images know them, each once."""
    found: dict[str, None] = {}
    for value in batch.values() if isinstance(batch, Mapping) else ():
        names = value if isinstance(value, list | tuple) else getattr(value, "meta", {}).get("filename_or_obj", ())
        for name in [names] if isinstance(names, str) else names:
            if isinstance(name, str):
                found[name] = None
    return list(found)
