from __future__ import annotations

import pytest
import torch

from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.methods.synthseg.targets import LabelsToTargetsd

TABLE = LabelTable(
    generation_labels=[0, 16, 72, 2, 25, 41, 57],
    n_neutral=3,
    generation_classes=[0, 1, 2, 3, 4, 5, 6],
    segmentation_labels=[0, 16, 0, 2, 2, 41, 41],
)


def test_values_become_channels_and_lesions_become_their_tissue():
    labels = torch.tensor([0.0, 16, 72, 2, 25, 41, 57]).reshape(1, 7, 1, 1)
    targets = LabelsToTargetsd("label", TABLE)({"label": labels})["label"]
    assert targets.flatten().tolist() == [0, 2, 0, 1, 1, 3, 3]
    assert targets.shape == labels.shape


def test_aliases_name_other_values():
    labels = torch.tensor([77, 2]).reshape(1, 2, 1, 1)
    targets = LabelsToTargetsd("label", TABLE, aliases={"77": 2})({"label": labels})["label"]
    assert targets.flatten().tolist() == [1, 1]
    with pytest.raises(ValueError, match="aliases: 77 stands for 999, which is not in the label table"):
        LabelsToTargetsd("label", TABLE, aliases={"77": 999})


def test_unknown_values_are_background_with_a_warning():
    labels = torch.tensor([1000, 41]).reshape(1, 2, 1, 1)
    with pytest.warns(UserWarning, match=r"label: the values \[1000\] are not in the label table"):
        targets = LabelsToTargetsd("label", TABLE)({"label": labels})["label"]
    assert targets.flatten().tolist() == [0, 3]
