from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from medsynth_ext.engines import StepTrainer, SyntheticBatch, SyntheticStep
from medsynth_ext.engines import supervised_step as module


class Recorder:
    """A generator that makes noise from (seed, index) and notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __call__(self, labels, *, seed, index, center=None):
        self.calls.append((seed, index, len(labels), None if center is None else center.tolist()))
        images = [
            torch.rand(1, *labels.shape[2:], generator=torch.Generator().manual_seed(1000 * seed + index + b))
            for b in range(len(labels))
        ]
        return torch.stack(images), (labels > 0).long()


def squared_error(pred, target):
    return {"first": (pred**2).mean(), "second": ((pred - target) ** 2).mean()}


def make_trainer(generator, *, epochs=2, with_center=False, **options) -> StepTrainer:
    network = torch.nn.Conv3d(1, 1, 1)
    data = [{"label": torch.full((1, 2, 2, 2), i)} for i in range(6)]
    if with_center:
        data = [{**item, "center": torch.tensor([float(i), 0, 0])} for i, item in enumerate(data)]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    step = SyntheticStep(generator, network, options.pop("loss", squared_error), optimizer, seed=7, **options)
    return StepTrainer("cpu", epochs, DataLoader(data, batch_size=2), step)


def test_every_training_image_has_its_own_index():
    generator = Recorder()
    make_trainer(generator).run()
    assert generator.calls == [(7, index, 2, None) for index in (0, 2, 4, 6, 8, 10)]


def test_ranks_take_neighbouring_indices(monkeypatch):
    taken = []
    for rank in range(3):
        monkeypatch.setattr(module, "rank_and_world", lambda rank=rank: (rank, 3))
        generator = Recorder()
        make_trainer(generator, epochs=1).run()
        taken.append([index + b for _, index, size, _ in generator.calls for b in range(size)])
    assert sorted(index for ranks in taken for index in ranks) == list(range(18))
    assert [ranks[:2] for ranks in taken] == [[0, 1], [2, 3], [4, 5]]


def test_the_loss_is_the_sum_of_its_terms_and_all_are_reported():
    trainer = make_trainer(Recorder(), epochs=1)
    trainer.run()
    sample = trainer.state.output[0]
    assert sample["loss"] == pytest.approx(sample["first"] + sample["second"])
    assert sample["image"].shape == sample["label"].shape == sample["pred"].shape == (1, 2, 2, 2)


def test_a_loss_entry_overrides_the_sum():
    def weighted(pred, target):
        terms = squared_error(pred, target)
        return {"loss": 3 * terms["first"], **terms}

    trainer = make_trainer(Recorder(), epochs=1, loss=weighted)
    trainer.run()
    sample = trainer.state.output[0]
    assert sample["loss"] == pytest.approx(3 * sample["first"])


def test_a_crop_centre_is_passed_on():
    generator = Recorder()
    make_trainer(generator, epochs=1, with_center=True).run()
    assert generator.calls[1][3] == [[2.0, 0, 0], [3.0, 0, 0]]


def test_warm_up_uses_its_own_loss_for_the_first_iterations():
    used = []

    def named(name):
        return lambda pred, target: (used.append(name), {name: (pred**2).mean()})[1]

    make_trainer(Recorder(), loss=named("main"), warm_up_loss=named("warm"), warm_up_iterations=2).run()
    assert used == ["warm"] * 2 + ["main"] * 4


def test_warm_up_without_its_loss_is_refused():
    with pytest.raises(ValueError, match="warm_up_iterations is 5, so warm_up_loss must be given"):
        make_trainer(Recorder(), warm_up_iterations=5)


def test_validation_images_depend_on_their_own_index_only():
    prepare = SyntheticBatch(Recorder(), seed=3)
    labels = torch.ones(2, 1, 2, 2, 2)
    both, target = prepare({"label": labels, "index": torch.tensor([4, 9])}, torch.device("cpu"))
    alone, _ = prepare({"label": labels[1:], "index": torch.tensor([9])}, torch.device("cpu"))
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[0], both[1])
    assert target.shape == (2, 1, 2, 2, 2)
