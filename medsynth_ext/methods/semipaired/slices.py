"""Slices of MR with their surrogates, and of CT of other patients, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from medsynth_ext.data.pairs import find_pairs
from medsynth_ext.data.scans import ScanError, is_scan

__all__ = ["SemiPairedSlices", "find_ct", "find_mr_pairs"]

Case = Mapping[str, str]
_WANTED = "wanted DIR/mr/NAME.nii.gz, DIR/surrogate/NAME.nii.gz of the same names, and DIR/ct/OTHER.nii.gz"


def find_mr_pairs(folder: str | Path) -> list[dict[str, str]]:
    """MR scans and their surrogates by name, ``[{"mr": ..., "surrogate": ...}, ...]``; empty without a folder.

    Raises:
        ValueError: for an MR without surrogate.
    """
    return find_named_pairs(folder, "mr", "surrogate")


def find_named_pairs(folder: str | Path, first: str, second: str) -> list[dict[str, str]]:
    """Files of one name in two sub-folders, ``[{first: ..., second: ...}, ...]``; empty without the first sub-folder.

    Raises:
        ValueError: for a file of the first sub-folder without one in the second.
    """
    pairs = find_pairs(folder, images=first, labels=second)
    return [{first: pair["image"], second: pair["label"]} for pair in pairs]


def find_ct(folder: str | Path) -> list[dict[str, str]]:
    """CT scans, ``[{"ct": ...}, ...]``; empty without a folder."""
    scans = Path(folder) / "ct"
    names = sorted(scans.iterdir()) if scans.is_dir() else []
    return [{"ct": str(f)} for f in names if is_scan(f) and f.name[0] != "."]


class SemiPairedSlices(Dataset):
    """Item ``i * K + j`` is slice i of the MR with its surrogate, and slice j of the K slices of CT.

    Drawn uniformly, both sides are independent. All slices are kept in memory in half precision; :meth:`load` reads
    them.

    Args:
        data: MR and surrogate, ``{"mr": path, "surrogate": path}``.
        transform: from these paths to volumes (1, H, W, D) in [-1, 1] of one H and W.
        ct_data: CT of other patients, ``{"ct": path}``.
        ct_transform: from such a path to a volume likewise.
    """

    def __init__(
        self,
        data: Sequence[Case],
        transform: Callable[[Case], Mapping[str, Any]],
        *,
        ct_data: Sequence[Case],
        ct_transform: Callable[[Case], Mapping[str, Any]],
    ) -> None:
        self.data, self.transform = list(data), transform
        self.ct_data, self.ct_transform = list(ct_data), ct_transform
        self.mr = self.surrogate = self.ct = torch.zeros(0, 1, 1)
        self.mr_files: list[str] = []
        self.ct_files: list[str] = []

    @classmethod
    def of_slices(
        cls, mr: Tensor, surrogate: Tensor, ct: Tensor
    ) -> SemiPairedSlices:  # (N, H, W), (N, H, W), (K, H, W)
        """Slices that are in memory already."""
        slices = cls([], dict, ct_data=[], ct_transform=dict)
        slices.mr, slices.surrogate, slices.ct = mr, surrogate, ct
        slices.mr_files, slices.ct_files = [""] * len(mr), [""] * len(ct)
        return slices

    def load(self) -> None:
        """Read all scans.

        Raises:
            ValueError: when there is no MR or no CT to train with.
            ScanError: for slices of another size.
        """
        for name, data in (("MR", self.data), ("CT", self.ct_data)):
            if not data:
                raise ValueError(f"there is no {name} to train with: {_WANTED}")
        if self.mr_files:
            return
        pairs, self.mr_files = self._read(self.data, self.transform, ("mr", "surrogate"))
        ct, self.ct_files = self._read(self.ct_data, self.ct_transform, ("ct",))
        if pairs[0].shape[1:] != ct[0].shape[1:]:
            raise ScanError(f"slices must have one size, MR has {pairs[0].shape[1:]} and CT {ct[0].shape[1:]}")
        (self.mr, self.surrogate), (self.ct,) = pairs, ct

    @staticmethod
    def _read(
        data: Sequence[Case], transform: Callable[[Case], Mapping[str, Any]], keys: Sequence[str]
    ) -> tuple[list[Tensor], list[str]]:
        """Slices (N, H, W) per key, and the file of each."""
        parts: dict[str, list[Tensor]] = {key: [] for key in keys}
        files: list[str] = []
        for case in tqdm(data, desc=f"reading {' and '.join(keys)}", leave=False):
            item = transform(case)
            for key in keys:
                if item[key].shape[0] != 1:
                    raise ScanError(f"{case[key]} must be one 3-D scan, got {item[key].shape[0]} volumes")
            volumes = [torch.as_tensor(np.asarray(item[key]))[0] for key in keys]
            first = parts[keys[0]][0].shape[1:] if files else volumes[0].shape[:2]
            for key, volume in zip(keys, volumes, strict=True):
                if volume.shape[:2] != first:
                    raise ScanError(
                        f"{case[key]} has slices of {tuple(volume.shape[:2])} after preprocessing, wanted "
                        f"{tuple(first)} as of the scan before"
                    )
                parts[key].append(volume.permute(2, 0, 1).half())
            files += [case[keys[0]]] * volumes[0].shape[2]
        return [torch.cat(parts[key]) for key in keys], files

    def __len__(self) -> int:
        return len(self.mr) * len(self.ct)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i, j = divmod(index, len(self.ct))
        images = {"mr": self.mr[i], "surrogate": self.surrogate[i], "ct": self.ct[j]}
        return {
            **{name: image[None].float() for name, image in images.items()},
            "mr_file": self.mr_files[i],
            "ct_file": self.ct_files[j],
        }
