"""What MONAI Label calls in place of an inferer."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from medsynth_ext.inferers import InfererDetector


def test_prediction_is_the_inferers_and_boxes_are_asked_for():
    detector = InfererDetector(SimpleInferer())
    detector.network = nn.Conv2d(1, 2, 1)
    image = torch.randn(1, 1, 4, 5)
    found = detector(image, use_inferer=True)
    assert torch.equal(found["pred"], detector.network(image))
    assert found["box"].shape == (1, 0, 6)


def test_twin_gets_the_weights_of_the_network():
    twin, network = nn.Linear(2, 2), nn.Linear(2, 2)
    detector = InfererDetector(SimpleInferer(), twin=twin)
    detector.network = network
    detector(torch.zeros(1, 2))
    assert torch.equal(twin.weight, network.weight)


def test_detector_without_a_network_says_so():
    with pytest.raises(RuntimeError, match=r"set detector\.network"):
        InfererDetector(SimpleInferer())(torch.zeros(1, 1, 2, 2))
