"""The training volumes of one site: some with labels, all in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.methods.fedsim.cases import read_case
from medsynth_ext.methods.fedsim.parts import PART_NAMES

__all__ = ["SiteDataError", "SiteVolumes"]


class SiteDataError(ValueError):
    """A site's data cannot be used; the message names the site, what was wanted and what came."""


class SiteVolumes:
    """Volumes in [-1, 1] (HU / 1000), label maps of some of them, and all of them reduced to the coarse grid.

    Args:
        name: of the site, for messages.
        data: cases, ``{"image": path}`` with ``"label"`` for some.
        transform: from a case to ``image`` (1, N, N, N) in [-1, 1] and, when it had one, ``label`` (1, N, N, N).
        size: N, voxels per side.
        coarse: voxels per side of the material map; divides ``size``.
        labelled: use only the labels of the first so many cases; all when ``None``.

    Raises:
        ValueError: when ``coarse`` does not divide ``size``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]] = (),
        transform: Callable[[Mapping[str, str]], Mapping[str, Any]] | None = None,
        *,
        name: str = "site",
        size: int = 128,
        coarse: int = 16,
        labelled: int | None = None,
    ) -> None:
        if size % coarse:
            raise ValueError(f"coarse must divide size, got {coarse} and {size}")
        self.name, self.size, self.coarse, self.limit = name, size, coarse, labelled
        self.data = list(data)
        self.transform = transform
        self.images = torch.zeros(0, 1, size, size, size)
        self.parts: list[Tensor | None] = []  # (1, N, N, N) uint8
        self.material = torch.zeros(0, 1, coarse, coarse, coarse)

    @classmethod
    def from_tensors(
        cls, images: Tensor, labels: Sequence[Tensor | None], *, coarse: int, name: str = "site"
    ) -> SiteVolumes:
        """Volumes that are in memory already: ``images`` (M, 1, N, N, N) in [-1, 1], labels (1, N, N, N) or None."""
        volumes = cls(name=name, size=images.shape[2], coarse=coarse)
        volumes._take(images, labels)
        return volumes

    def load(self) -> None:
        """Read all cases.

        Raises:
            SiteDataError: without a case, without a label, or for a case that does not fit.
        ScanError: for a file that cannot be read or used.
        """
        if self.parts:
            return
        if not self.data or self.transform is None:
            raise SiteDataError(
                f"site {self.name} has no case: wanted DIR/images/NAME.nii.gz, some with DIR/labels/NAME"
            )
        images, labels = [], []
        for i, case in enumerate(tqdm(self.data, desc=f"reading {self.name}", leave=False)):
            use = "label" in case and (self.limit is None or i < self.limit)
            # The label also tells where the heart is, so it is read even where it is not used.
            item = read_case(case, self.transform)
            images.append(torch.as_tensor(np.asarray(item["image"])).float())
            labels.append(torch.as_tensor(np.asarray(item["label"])) if use else None)
            if tuple(images[-1].shape) != (1, self.size, self.size, self.size):
                raise SiteDataError(
                    f"{case['image']} of site {self.name} must become {(1, *(self.size,) * 3)}, got "
                    f"{tuple(images[-1].shape)}"
                )
        self._take(torch.stack(images), labels)

    def _take(self, images: Tensor, labels: Sequence[Tensor | None]) -> None:
        if len(images) != len(labels):
            raise SiteDataError(
                f"site {self.name} has {len(images)} images and {len(labels)} labels (None for unlabelled)"
            )
        if not torch.isfinite(images).all() or images.abs().max() > 1.001:
            raise SiteDataError(f"images of site {self.name} must be finite and within [-1, 1] (HU / 1000)")
        if not any(label is not None for label in labels):
            raise SiteDataError(f"site {self.name} has no labelled volume; at least one is needed")
        for i, label in enumerate(labels):
            if label is None:
                continue
            values = label.unique().tolist()
            if values[-1] > len(PART_NAMES) or values[0] < 0 or any(v != int(v) for v in values):
                raise SiteDataError(
                    f"label {i} of site {self.name} must hold 0 and 1, or the parts 0 to {len(PART_NAMES)}, "
                    f"got {values}"
                )
            if len(values) < 2:
                raise SiteDataError(f"label {i} of site {self.name} marks no heart")
        self.images = images.clamp(-1, 1)
        self.parts = [None if label is None else label.to(torch.uint8) for label in labels]
        self.material = F.avg_pool3d(self.images, self.size // self.coarse)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def labelled(self) -> list[int]:
        """Numbers of the volumes with a label."""
        return [i for i, label in enumerate(self.parts) if label is not None]

    @property
    def unlabelled(self) -> list[int]:
        """Numbers of the others."""
        return [i for i, label in enumerate(self.parts) if label is None]

    def hearts(self, index: Sequence[int]) -> Tensor:  # (B, 1, N, N, N) float
        """The heart of labelled volumes, 0 or 1."""
        return (self.part_maps(index) > 0).float()

    def part_maps(self, index: Sequence[int]) -> Tensor:  # (B, 1, N, N, N) uint8
        """Label maps of labelled volumes."""
        maps = [self.parts[i] for i in index]
        if any(label is None for label in maps):
            raise ValueError(f"volumes {list(index)} of site {self.name} are not all labelled")
        return torch.stack(maps)  # type: ignore[arg-type]
