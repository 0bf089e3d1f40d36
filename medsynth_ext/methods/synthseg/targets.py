"""From label values to the channels that a network predicts."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from medsynth_ext.methods.synthseg.labels import LabelTable

__all__ = ["LabelsToTargetsd"]


class LabelsToTargetsd(MapTransform):
    """Replace label values by target channels 0..K'-1, as the label table pairs generation and segmentation labels.

    Predicted and manual label maps are treated alike, so metrics compare what the network was trained to tell apart.
    Values that the table does not know count as background, with a warning.

    Args:
        keys: label maps (1, *S).
        label_table: the method's labels.
        aliases: value in a file to value of the table, for atlases with other numbers, for example ``{"31": 4}``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_table: LabelTable,
        *,
        aliases: Mapping[str, int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        values = [*label_table.generation_labels, *label_table.target_values]
        targets = [*label_table.target_of.tolist(), *range(label_table.n_targets)]
        self.target_of = dict(zip(values, targets, strict=True))
        for name, value in (aliases or {}).items():
            if value not in self.target_of:
                raise ValueError(f"aliases: {name} stands for {value}, which is not in the label table")
            self.target_of[int(name)] = self.target_of[value]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._targets(d[key], str(key))
        return d

    def _targets(self, labels: Tensor, key: str) -> Tensor:
        plain = labels.as_tensor() if isinstance(labels, MetaTensor) else labels
        found, where = torch.unique(plain.round().long(), return_inverse=True)
        unknown = [v for v in found.tolist() if v not in self.target_of]
        if unknown:
            warnings.warn(
                f"{key}: the values {unknown} are not in the label table and count as background", stacklevel=2
            )
        targets = torch.tensor([self.target_of.get(v, 0) for v in found.tolist()], device=plain.device)[where]
        return MetaTensor(targets, meta=labels.meta) if isinstance(labels, MetaTensor) else targets
