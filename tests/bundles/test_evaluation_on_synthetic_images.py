"""The Dice of a weights file on images made from the validation maps, as configs/evaluate_synthetic.json writes it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from bundle_workflows import run_workflow

from medsynth_ext.handlers import load_weights

CONFIGS = ("train.json", "evaluate_synthetic.json")


def evaluated(trained, out: Path, **more) -> float:
    settings = {**trained.settings, "val_images_per_map": 2, "weights": str(trained.weights), **more}
    workflow = run_workflow(trained.bundle, *CONFIGS, output_dir=str(out), **settings)
    return workflow.parser.get_parsed_content("validate#evaluator").state.metrics["val_mean_dice"]


def dice_by_hand(trained) -> float:
    """The same figure from the parts: generator, network, and Dice of every structure that an image holds."""
    parser = trained.workflow.parser
    parser.parse(reset=True)
    network = parser.get_parsed_content("network_def").eval()
    load_weights(network, trained.weights)
    generator, maps = parser.get_parsed_content("validate#generator"), parser.get_parsed_content("validate#dataset")
    scores = []
    for index in range(2):
        labels, center = maps[0]["label"][None], maps[0]["center"][None]
        image, target = generator(labels, seed=parser.get_parsed_content("validation_seed"), index=index, center=center)
        with torch.no_grad():
            predicted = network(image).argmax(1, keepdim=True)
        pairs = [(predicted == k, target == k) for k in target.unique().tolist() if k]
        scores.append(torch.tensor([2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in pairs]).mean())
    return float(torch.stack(scores).mean())


def test_figure_is_the_mean_dice_of_the_images_and_their_table_names_them(trained, tmp_path):
    if not (trained.bundle / "configs" / CONFIGS[1]).is_file():
        pytest.skip("the bundle is not trained on synthetic images")
    figure = evaluated(trained, tmp_path)
    assert figure == pytest.approx(dice_by_hand(trained), rel=1e-4)
    assert evaluated(trained, tmp_path / "again") == figure
    with (tmp_path / "val_mean_dice_raw.csv").open() as file:
        names = [row["filename"] for row in csv.DictReader(file)]
    assert [name.rpartition("/")[2] for name in names] == ["map_4.nii.gz image 0", "map_4.nii.gz image 1"]


def test_other_weights_and_other_images_have_another_figure(trained, tmp_path):
    if not (trained.bundle / "configs" / CONFIGS[1]).is_file():
        pytest.skip("the bundle is not trained on synthetic images")
    figure = evaluated(trained, tmp_path / "one")
    state = torch.load(trained.weights, weights_only=True)
    torch.save({key: -value if value.is_floating_point() else value for key, value in state.items()}, tmp_path / "w.pt")
    assert evaluated(trained, tmp_path / "two", weights=str(tmp_path / "w.pt")) < figure
    assert evaluated(trained, tmp_path / "three", validation_seed=77) != figure
