"""The drop-in augmentation, with the weights that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor

from medsynth_ext.methods.ultrasound_style import RandUltrasoundStyled
from medsynth_ext.phantoms.ultrasound import ultrasound_frame

BUNDLE = Path(__file__).resolve().parents[3] / "bundles/ultrasound_variational_style_transfer"


def item() -> dict:
    frame = ultrasound_frame(7, content="leg", machine=0, size=(48, 56))
    return {"image": MetaTensor(frame.image, meta={"filename_or_obj": "a.png"}), "label": frame.labels}


@pytest.fixture(scope="module")
def styled() -> RandUltrasoundStyled:
    return RandUltrasoundStyled("image", BUNDLE, prob=1.0)


def test_the_frame_changes_its_look_and_nothing_else_changes(styled):
    given = item()
    made = styled.set_random_state(0)(given)
    assert made["image"].shape == given["image"].shape
    assert made["image"].meta["filename_or_obj"] == "a.png"
    assert torch.equal(made["label"], given["label"])
    assert 0 <= made["image"].min() <= made["image"].max() <= 1
    assert (made["image"] - given["image"]).abs().mean() > 0.02


def test_a_random_state_gives_a_look_and_the_next_draw_another(styled):
    first = styled.set_random_state(3)(item())["image"]
    second = styled(item())["image"]
    again = styled.set_random_state(3)(item())["image"]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_without_luck_the_frame_stays_as_it_is():
    given = item()
    assert RandUltrasoundStyled("image", BUNDLE, prob=0.0, mode="prior")(given)["image"] is given["image"]
    with pytest.raises(ValueError, match="posterior_mix or prior, got 'reference'"):
        RandUltrasoundStyled("image", BUNDLE, mode="reference")
