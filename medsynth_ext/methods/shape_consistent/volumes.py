"""Labelled and unlabelled volumes of two domains, drawn independently of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from medsynth_ext.data.pairs import find_pairs
from medsynth_ext.data.scans import ScanError

__all__ = ["DOMAINS", "JointVolumes", "find_domains", "pair_up", "split_cases"]

DOMAINS = ("a", "b")
Case = Mapping[str, str]


def find_domains(folder: str | Path, names: Sequence[str] = ("ct", "mr")) -> dict[str, list[dict[str, str]]]:
    """The cases of both domains: ``{"a": cases of folder/ct, "b": cases of folder/mr}``, labelled ones first.

    Every domain has ``images/NAME`` and, for some of them, ``labels/NAME``.
    """
    found = [find_pairs(Path(folder) / name, unlabelled=True) for name in names]
    return {d: sorted(cases, key=lambda case: "label" not in case) for d, cases in zip(DOMAINS, found, strict=True)}


def split_cases(
    domains: Mapping[str, Sequence[Case]], held_out: int
) -> tuple[dict[str, list[Case]], dict[str, list[Case]]]:
    """All but the last ``held_out`` labelled cases of every domain to learn from, and these for validation."""
    learn: dict[str, list[Case]] = {}
    keep: dict[str, list[Case]] = {}
    for name, cases in domains.items():
        labelled = [case for case in cases if "label" in case]
        keep[name] = labelled[len(labelled) - held_out :] if held_out else []
        learn[name] = [case for case in cases if case not in keep[name]]
    return learn, keep


def pair_up(domains: Mapping[str, Sequence[Case]], extra: Sequence[str] = ()) -> list[dict[str, str]]:
    """One item per labelled case of the larger domain, with one of the other: ``image``, ``label``, ``b_image``, ...

    Args:
        domains: cases of both.
        extra: entries that a case has beside its image, such as ``hidden``, the folder beside ``images`` of that name.

    Raises:
        ScanError: when a domain has no labelled case, or an extra file is missing.
    """
    items: dict[str, list[dict[str, str]]] = {}
    for domain, cases in domains.items():
        items[domain] = [dict(case) for case in cases if "label" in case]
        for case in items[domain]:
            for name in extra:
                path = Path(case["image"]).parents[1] / name / Path(case["image"]).name
                if not path.is_file():
                    raise ScanError(f"{case['image']} has no {path}")
                case[name] = str(path)
    a, b = items["a"], items["b"]
    if bool(a) != bool(b):
        raise ScanError(f"wanted labelled cases in both domains, got {len(a)} of the first and {len(b)} of the second")
    count = max(len(a), len(b))
    return [{**a[i % len(a)], **{f"b_{k}": v for k, v in b[i % len(b)].items()}} for i in range(count)]


class JointVolumes(Dataset):
    """Every combination of a volume of each domain, with a labelled one for the segmenter where it has no label.

    Item ``((i * B + j) * K + k) * M + m`` holds volume i of a and j of b, and, should these be unlabelled, labelled
    volume k of a and m of b for their segmenters: drawn uniformly, all are independent. K and M are 1 for a domain
    whose volumes all have a label. Keys are ``image``, ``label``, ``labelled``, ``real``, ``real_label`` and ``file``,
    each followed by ``_a`` or ``_b``. Volumes are kept in memory.

    Args:
        data: cases of ``a`` and of ``b``, ``{"image": path}`` with ``"label"`` for some.
        transforms: of ``a`` and of ``b``, from a case to tensors (1, *S) in [-1, 1] and labels (1, *S).
        classes: of the labels, background included.
        labelled: use only the first so many labels of ``a`` and of ``b``; all where ``None``.
        names: of the domains, for messages.

    Raises:
        ScanError: on ``load``, for a domain with fewer than two volumes or without a label, for labels that are none of
            the classes, and for an image and a label, or two volumes, of different sizes.
    """

    def __init__(
        self,
        data: Mapping[str, Sequence[Case]],
        transforms: Mapping[str, Callable[[Case], Mapping[str, Any]]],
        *,
        classes: int,
        labelled: Mapping[str, int | None] | None = None,
        names: Sequence[str] = ("ct", "mr"),
    ) -> None:
        self.data = {d: list(data[d]) for d in DOMAINS}
        self.transforms = transforms
        self.classes = classes
        self.names = dict(zip(DOMAINS, names, strict=True))
        limits = {} if labelled is None else labelled
        self.taught = {
            d: [i for i, case in enumerate(self.data[d]) if "label" in case][: limits.get(d)] for d in DOMAINS
        }
        self._volumes: dict[tuple[str, int], tuple[Tensor, Tensor | None]] = {}

    def __len__(self) -> int:
        count = 1
        for d in DOMAINS:
            count *= len(self.data[d]) * self._companions(d)
        return count

    def _companions(self, domain: str) -> int:
        """How many labelled volumes there are to choose from beside a volume, 1 where it is always its own."""
        taught = len(self.taught[domain])
        return 1 if taught == len(self.data[domain]) else taught

    def load(self) -> None:
        """Read and check all volumes."""
        for d in DOMAINS:
            if len(self.data[d]) < 2:
                raise ScanError(
                    f"domain {self.names[d]} must have at least two volumes to learn from beside those for validation, "
                    f"got {len(self.data[d])}; wanted DIR/{self.names[d]}/images/NAME.nii.gz"
                )
            if not self.taught[d]:
                raise ScanError(f"domain {self.names[d]} has no label; wanted DIR/{self.names[d]}/labels/NAME.nii.gz")
        first: tuple[str, tuple[int, ...]] | None = None
        cases = [(d, i) for d in DOMAINS for i in range(len(self.data[d]))]
        for d, i in tqdm(cases, desc="reading volumes", leave=False):
            path, shape = self.data[d][i]["image"], tuple(self._volume(d, i)[0].shape)
            if first is None:
                first = path, shape
            elif shape != first[1]:
                raise ScanError(
                    f"volumes must have one size after the preprocessing, {first[0]} has {first[1]}, {path} {shape}"
                )

    def labelled(self, domain: str) -> tuple[Tensor, Tensor]:
        """All labelled volumes of ``a`` or ``b`` within the limit, and their labels, (N, 1, *S) each."""
        images, labels = zip(*(self._volume(domain, index) for index in self.taught[domain]), strict=True)
        return torch.stack(images), torch.stack(labels)

    def _volume(self, domain: str, index: int) -> tuple[Tensor, Tensor | None]:
        key = domain, index
        if key not in self._volumes:
            case = self.data[domain][index]
            if index not in self.taught[domain]:
                case = {"image": case["image"]}
            item = self.transforms[domain](case)
            image = torch.as_tensor(item["image"]).as_subclass(Tensor).float()
            label = None
            if "label" in case:
                label = torch.as_tensor(item["label"]).as_subclass(Tensor)
                self._check(case, image, label)
                label = label.long()
            self._volumes[key] = image, label
        return self._volumes[key]

    def _check(self, case: Case, image: Tensor, label: Tensor) -> None:
        if label.shape != image.shape:
            sizes = f"{tuple(label.shape)} and {tuple(image.shape)}"
            raise ScanError(f"{case['label']} must lie on the grid of {case['image']}, got {sizes}")
        values = label.unique().tolist()
        if values[0] < 0 or values[-1] >= self.classes or any(v != int(v) for v in values):
            raise ScanError(f"{case['label']} must hold labels from 0 to {self.classes - 1}, got {values[:12]}")

    def __getitem__(self, index: int) -> dict[str, Any]:
        index, m = divmod(index, self._companions("b"))
        index, k = divmod(index, self._companions("a"))
        i, j = divmod(index, len(self.data["b"]))
        item: dict[str, Any] = {}
        for d, own, other in (("a", i, k), ("b", j, m)):
            image, label = self._volume(d, own)
            real, real_label = (image, label) if label is not None else self._volume(d, self.taught[d][other])
            assert real_label is not None
            item |= {
                f"image_{d}": image,
                f"label_{d}": torch.zeros(image.shape, dtype=torch.int64) if label is None else label,
                f"labelled_{d}": label is not None,
                f"real_{d}": real,
                f"real_label_{d}": real_label,
                f"file_{d}": self.data[d][own]["image"],
            }
        return item
