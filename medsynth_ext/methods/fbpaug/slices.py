"""Slices of CT volumes, drawn so that lesions are seen often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from medsynth_ext.data.sampler import CounterSampler

__all__ = ["SliceSampler", "SliceSet"]


class SliceSet(Dataset):
    """Every axial slice of every case, all kept in memory; filled by :meth:`load`.

    Args:
        data: cases, ``{"image": path, "label": path}``.
        transform: from a case to ``image`` and ``label`` as (1, H, W, D), of one H and W for all cases.
    """

    def __init__(
        self, data: Sequence[Mapping[str, str]], transform: Callable[[Mapping[str, str]], Mapping[str, Any]]
    ) -> None:
        self.data = list(data)
        self.transform = transform
        self.images: list[torch.Tensor] = []  # (H, W, D) int16 HU
        self.labels: list[torch.Tensor] = []  # (H, W, D) bool
        self.first = np.zeros(0, dtype=np.int64)  # number of a case's first slice

    def load(self) -> None:
        """Read all cases.

        Raises:
            ValueError: without a case, or for a case whose slices have another size than the first one's.
        """
        if not self.data:
            raise ValueError(
                "there is no case to train with: wanted more pairs DIR/images/NAME.nii.gz, DIR/labels/NAME.nii.gz "
                "than are kept for validation"
            )
        if self.images:
            return
        for case in tqdm(self.data, desc="reading cases", leave=False):
            item = self.transform(case)
            image, label = (torch.as_tensor(np.asarray(item[key]))[0] for key in ("image", "label"))
            if image.shape != label.shape or (self.images and image.shape[:2] != self.images[0].shape[:2]):
                raise ValueError(
                    f"{case['image']} has slices of {tuple(image.shape)} and labels of {tuple(label.shape)}; all cases "
                    "must have slices of one size"
                )
            self.images.append(image.round().clamp(-32768, 32767).to(torch.int16))
            self.labels.append(label > 0.5)
        self.first = np.cumsum([0] + [image.shape[2] for image in self.images])

    def lesion_slices(self) -> list[np.ndarray]:
        """Numbers of the slices with lesion of every case."""
        return [torch.nonzero(label.any(0).any(0))[:, 0].numpy() for label in self.labels]

    def __len__(self) -> int:
        return int(self.first[-1]) if len(self.first) else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        case = int(np.searchsorted(self.first, index, side="right")) - 1
        k = index - int(self.first[case])
        image, label = self.images[case][..., k], self.labels[case][..., k]
        return {"image": image[None].float(), "label": label[None].float(), "index": index}


class SliceSampler(CounterSampler):
    """A random case, then with ``lesion_prob`` a slice of it that holds lesion, else any; see ``CounterSampler``.

    Args:
        dataset: the slices; loaded before the first epoch.
        lesion_prob: probability of drawing from the slices with lesion.
        options: of ``CounterSampler``.
    """

    def __init__(self, dataset: SliceSet, *, lesion_prob: float = 0.5, **options: Any) -> None:
        # Before the cases are read, the length is that of one slice.
        super().__init__(dataset if len(dataset) else _One(), **options)
        self.slices = dataset
        self.lesion_prob = lesion_prob

    def __iter__(self) -> Iterator[int]:
        with_lesion = self.slices.lesion_slices()
        raw = np.random.Philox(key=np.array([self.seed, self.epoch], dtype=np.uint64)).random_raw(3 * self.total_size)
        share = ((raw >> np.uint64(11)).astype(np.float64) / 2.0**53).reshape(-1, 3)
        items = []
        for case_share, lesion_share, slice_share in share:
            case = int(case_share * len(with_lesion))
            found = with_lesion[case]
            count = self.slices.images[case].shape[2]
            if lesion_share < self.lesion_prob and len(found):
                k = int(found[int(slice_share * len(found))])
            else:
                k = int(slice_share * count)
            items.append(int(self.slices.first[case]) + k)
        blocks = np.array(items).reshape(-1, self.num_replicas, self.batch_size)
        return iter(blocks[:, self.rank].reshape(-1).tolist())


class _One(Dataset):
    """Stands for a data set that is not read yet."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return index
