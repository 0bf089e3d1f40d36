"""Whole volumes through a network that was trained on patches, within a memory budget."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.inferers.memory import peak_bytes

__all__ = ["SeamSteps", "VolumeInferer", "seam_steps"]

logger = logging.getLogger(__name__)

_GIB = 2**30
_MODES = ("constant", "gaussian")


class VolumeInferer(Inferer):
    """Slide a window of the training's size over a volume and blend the results; MONAI's sliding window with a budget.

    A network with instance norm must see windows of the size of its training patches: its statistics change with the
    window. So the budget does not change the window, only how many go through the network at once. What one window
    costs is measured once, in a first call with zeros. Where the whole result does not fit beside the network on a
    graphics card, it is put together in the memory of the host.

    Args:
        window: voxels of a window along every axis, those of the training patches.
        overlap: share of a window that the next one sees again, in [0, 1).
        mode: weight of a window's voxels: ``gaussian`` (less at its rim) or ``constant`` (a plain average).
        memory_gib: for the result, its weights and the network's intermediate values together; the network's own
            weights and the input are not counted.
        windows_at_once: the most windows in one call of the network.
        padding_mode: what surrounds a volume that is smaller than the window, a mode of ``torch.nn.functional.pad``.
        progress: show a bar that counts windows.

    Raises:
        ValueError: for a window, overlap, mode or budget out of range.
    """

    def __init__(
        self,
        window: Sequence[int],
        *,
        overlap: float = 0.5,
        mode: str = "gaussian",
        memory_gib: float = 4.0,
        windows_at_once: int = 4,
        padding_mode: str = "replicate",
        progress: bool = True,
    ) -> None:
        super().__init__()
        if not window or any(n < 1 for n in window):
            raise ValueError(f"window must be positive along every axis, got {list(window)}")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}")
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
        if not memory_gib > 0 or windows_at_once < 1:
            raise ValueError(f"memory_gib and windows_at_once must be positive, got {memory_gib}, {windows_at_once}")
        self.window = tuple(int(n) for n in window)
        self.overlap = overlap
        self.mode = mode
        self.memory_gib = memory_gib
        self.windows_at_once = windows_at_once
        self.padding_mode = padding_mode
        self.progress = progress
        self._cost: tuple[tuple[Any, ...], int, int] | None = None

    def __call__(
        self,
        inputs: Tensor,  # (B, C, *S)
        network: Callable[..., Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # (B, K, *S), on the host where it does not fit on the device
        if inputs.ndim - 2 != len(self.window):
            raise ValueError(
                f"the window has {len(self.window)} axes {self.window}, the image is {tuple(inputs.shape)}"
            )
        at_once, place = self.plan(inputs, network, *args, **kwargs)
        count = len(inputs) * len(self.window_slices(inputs.shape[2:]))
        with tqdm(total=count, desc="windows", unit="window", leave=False, disable=not self.progress) as bar:

            def watched(windows: Tensor) -> Tensor:
                result = network(windows, *args, **kwargs)
                bar.update(len(windows))
                return result

            return sliding_window_inference(  # type: ignore[return-value]
                inputs,
                self.window,
                at_once,
                watched,
                overlap=self.overlap,
                mode=self.mode,
                padding_mode=self.padding_mode,
                sw_device=inputs.device,
                device=place,
            )

    def plan(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> tuple[int, torch.device]:
        """How many windows go through the network at once, and where the result is put together."""
        per_window, channels = self._window_cost(inputs, network, *args, **kwargs)
        voxels = len(inputs) * torch.Size(max(n, w) for n, w in zip(inputs.shape[2:], self.window, strict=True)).numel()
        held = (channels + 1) * voxels * 4  # the sums and their weights
        budget, place = int(self.memory_gib * _GIB), inputs.device
        if place.type != "cpu" and held + per_window > budget:
            held, place = 0, torch.device("cpu")
        at_once = min(self.windows_at_once, max(1, (budget - held) // per_window))
        needed = held + at_once * per_window
        if needed > budget:
            logger.warning(
                f"a volume of {tuple(inputs.shape[2:])} in windows of {self.window} needs {needed / _GIB:.2f} GiB even "
                f"with one window at a time, more than memory_gib={self.memory_gib:g}"
            )
        return at_once, place

    def _window_cost(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> tuple[int, int]:
        """Bytes that one window takes while it goes through the network, and the channels that come out."""
        key = (id(network), inputs.shape[1], inputs.dtype, inputs.device)
        if self._cost is None or self._cost[0] != key:
            zeros = torch.zeros(1, inputs.shape[1], *self.window, dtype=inputs.dtype, device=inputs.device)
            outputs: list[Tensor] = []
            cost = peak_bytes(lambda: outputs.append(network(zeros, *args, **kwargs)))
            self._cost = (key, max(cost, 1), outputs[0].shape[1])
        return self._cost[1:]

    def window_slices(self, shape: Sequence[int]) -> list[tuple[slice, ...]]:
        """The windows of a volume; a volume smaller than the window is padded, and has one along that axis."""
        padded = [max(n, w) for n, w in zip(shape, self.window, strict=True)]
        interval = [
            n if n == w else max(1, int(w * (1 - self.overlap))) for n, w in zip(padded, self.window, strict=True)
        ]
        return dense_patch_slices(padded, self.window, interval)

    def borders(self, shape: Sequence[int]) -> list[list[int]]:
        """Along every axis, the voxels p before which a window begins or ends inside the volume."""
        slices = self.window_slices(shape)
        found = []
        for axis, size in enumerate(shape):
            ends = set(itertools.chain.from_iterable((s[axis].start, s[axis].stop) for s in slices))
            found.append(sorted(int(p) for p in ends if 2 <= p <= size - 2))
        return found


class SeamSteps(NamedTuple):
    """How much planes step more than their neighbours do, in the unit of the image.

    ``at_borders`` is the mean over the planes where windows begin or end, ``elsewhere`` that over all others, and
    ``worst`` the largest at a border.
    """

    at_borders: float
    elsewhere: float
    worst: float


def seam_steps(
    image: Tensor,  # (*S)
    borders: Sequence[Sequence[int]],
) -> SeamSteps:
    """Measure the step of an image across the borders of windows.

    The step at plane p is ``mean |v[p] - v[p - 1]|`` minus the mean of the same between the planes before and after:
    anatomy changes about as much in either, a seam only at p.

    Args:
        image: a volume put together from windows.
        borders: of :meth:`VolumeInferer.borders`.

    Raises:
        ValueError: when no border lies inside.

    >>> ramp = torch.arange(8.0).add(10 * (torch.arange(8) > 3))[:, None].expand(8, 5)
    >>> seam_steps(ramp, [[4], []]).at_borders
    10.0
    """
    image = image.as_tensor() if isinstance(image, MetaTensor) else image
    at: list[float] = []
    other: list[float] = []
    for axis, planes in enumerate(borders):
        if image.shape[axis] < 4:
            continue
        steps = image.float().diff(dim=axis).abs().mean([a for a in range(image.ndim) if a != axis])  # between p - 1, p
        excess = (steps[1:-1] - (steps[:-2] + steps[2:]) / 2).tolist()  # of planes 2 to n - 2
        for p, value in enumerate(excess, start=2):
            (at if p in planes else other).append(value)
    if not at:
        raise ValueError("no window begins or ends inside the volume, so there is no seam to measure")
    elsewhere = sum(other) / len(other) if other else 0.0
    return SeamSteps(sum(at) / len(at), elsewhere, max(at))
