"""The three ways to train on two domains."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import PatchDiscriminator
from torch import Tensor

from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.relation_heatmap import PointHeatmapNet
from medsynth_ext.methods.relation_heatmap.adversarial_step import DomainAdversarialStep
from medsynth_ext.methods.relation_heatmap.collaborative_step import CollaborativeStep
from medsynth_ext.methods.relation_heatmap.losses import HeatmapLoss, distillation
from medsynth_ext.methods.relation_heatmap.preparation import INTRAOP, SIM, FramePreparation
from medsynth_ext.methods.relation_heatmap.step import DomainStep, JointStep
from medsynth_ext.methods.relation_heatmap.targets import PointTarget
from medsynth_ext.networks import HRNet

TARGET = PointTarget(sigma=3.0, window=12)


def small_network(seed: int = 0) -> PointHeatmapNet:
    torch.manual_seed(seed)
    return PointHeatmapNet(HRNet(3, width=2, stem_channels=4, modules=(1, 1, 1), blocks=(1, 1, 1, 1)))


def frames(domains: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Frames with a bright square at every point; darker in surgery."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.2 + 0.05 * torch.rand(len(domains), 3, 48, 64, generator=generator)
    points = torch.full((len(domains), 4, 2), math.nan)
    points[:, :2] = torch.rand(len(domains), 2, 2, generator=generator) * torch.tensor([38.0, 54.0]) + 5
    for b, domain in enumerate(domains):
        for y, x in points[b, :2].round().long().tolist():
            image[b, :, y - 2 : y + 3, x - 2 : x + 3] = 0.9 if domain == SIM else 0.6
    return {"image": image, "points": points, "domain": torch.tensor(domains)}


def adam(module: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=0.01)


def joint(**options: Any) -> JointStep:
    network = small_network()
    return JointStep(network, adam(network), FramePreparation(TARGET), HeatmapLoss(scale=100.0), **options)


def adversarial(**options: Any) -> DomainAdversarialStep:
    network = small_network()
    channels = network.backbone.out_channels if options.get("judged") == "features" else 1
    discriminator = PatchDiscriminator(2, 4, channels, num_layers_d=2, norm=None, bias=True)
    others = (FramePreparation(TARGET), HeatmapLoss(scale=100.0))
    return DomainAdversarialStep(network, discriminator, adam(network), adam(discriminator), *others, **options)


def collaborative(**options: Any) -> CollaborativeStep:
    network, partner = small_network(0), small_network(1)
    others = (FramePreparation(TARGET), HeatmapLoss(scale=100.0))
    return CollaborativeStep(network, partner, adam(network), adam(partner), *others, **options)


def run(step: DomainStep, batches: list[dict[str, Tensor]], epochs: int = 1) -> list[dict[str, float]]:
    """The scalars of every iteration."""
    trainer = StepTrainer("cpu", epochs, batches, step, decollate=False)
    rows: list[dict[str, float]] = []

    def note(engine: StepTrainer) -> None:
        output: Any = engine.state.output
        rows.append({name: float(v) for name, v in output.items() if isinstance(v, Tensor) and v.ndim == 0})

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return rows


MAKERS: list[Callable[..., DomainStep]] = [joint, adversarial, collaborative]


@pytest.mark.parametrize("make", MAKERS)
def test_training_lowers_the_error(make: Callable[..., DomainStep]) -> None:
    rows = run(make(), [frames([SIM, INTRAOP, SIM, INTRAOP])], epochs=30)
    name = "supervised" if make is adversarial else "loss"
    assert rows[-1][name] < 0.6 * rows[0][name]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("domains", [[SIM, SIM], [INTRAOP, INTRAOP]])
def test_batches_of_one_domain_give_finite_terms(make: Callable[..., DomainStep], domains: list[int]) -> None:
    (row,) = run(make(), [frames(domains)])
    assert all(math.isfinite(value) for value in row.values())


def test_preparation_pads_normalises_and_draws_on_the_padded_frame() -> None:
    batch = frames([SIM, INTRAOP])
    prepared = FramePreparation(TARGET)(batch, 0, torch.device("cpu"))
    assert prepared.image.shape == (2, 3, 64, 64)
    assert torch.allclose(prepared.image[..., :48, :], 2 * batch["image"] - 1)
    assert prepared.image[..., 48:, :].abs().max() == 0
    assert torch.equal(prepared.target, TARGET(batch["points"], (64, 64)))
    assert prepared.intraop.tolist() == [False, True]


def test_augmentation_depends_on_the_number_of_the_frame_alone() -> None:
    def shift(image: Tensor, points: Tensor, states: list[np.random.RandomState]) -> tuple[Tensor, Tensor]:
        moves = torch.tensor([state.uniform(0, 5) for state in states])
        return image, points + moves[:, None, None]

    batch = frames([SIM, INTRAOP, SIM])
    prepare = FramePreparation(TARGET, augmentation=shift, seed=4)
    whole = prepare(batch, 6, torch.device("cpu"))
    part = prepare({name: value[1:] for name, value in batch.items()}, 7, torch.device("cpu"))
    assert torch.equal(whole.target[1:], part.target)
    assert not torch.equal(whole.target, FramePreparation(TARGET)(batch, 6, torch.device("cpu")).target)


def test_joint_loss_weights_the_simulator() -> None:
    batch = frames([SIM, INTRAOP, SIM, INTRAOP])
    step = joint(lambda_sim=0.25)
    network = copy.deepcopy(step.network).train()
    prepared = step.prepare(batch, 0, torch.device("cpu"))
    errors = 100 * (network(prepared.image) - prepared.target).square().mean((1, 2, 3))
    (row,) = run(step, [batch])
    assert row["loss"] == pytest.approx(((0.25 * (errors[0] + errors[2]) + errors[1] + errors[3]) / 4).item(), rel=1e-5)
    with pytest.raises(ValueError, match="lambda_sim must be in"):
        joint(lambda_sim=2.0)


def test_simulator_frames_of_weight_zero_leave_no_gradient() -> None:
    step = joint(lambda_sim=0.0)
    before = copy.deepcopy(step.network.head.state_dict())
    run(step, [frames([SIM, SIM])])
    after = step.network.head.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in ("0.weight", "3.weight", "3.bias"))


def test_adversarial_losses_are_those_of_the_paper_and_reach_the_right_side() -> None:
    batch = frames([SIM, INTRAOP, SIM, INTRAOP])
    step = adversarial(lambda_adv=0.5, lambda_sim=1.0)
    network, judge = copy.deepcopy(step.network).train(), copy.deepcopy(step.discriminator)
    prepared = step.prepare(batch, 0, torch.device("cpu"))
    with torch.no_grad():
        pred = network(prepared.image)
        p = judge(pred)[-1].sigmoid()
    sim, intraop = p[[0, 2]], p[[1, 3]]
    (row,) = run(step, [batch])
    assert row["adversarial"] == pytest.approx(-sim.log().mean().item(), rel=1e-4)
    # Only the discriminator's own update comes in between the two looks at it: it saw the same heatmaps.
    want = -(1 - sim).log().mean() - intraop.log().mean()
    assert row["discriminator"] == pytest.approx(want.item(), rel=1e-4)
    assert row["loss"] == pytest.approx(row["supervised"] + 0.5 * row["adversarial"], rel=1e-5)
    assert all(parameter.requires_grad for parameter in step.discriminator.parameters())


@pytest.mark.parametrize("judged", ["heatmap", "features"])
def test_adversarial_term_alone_turns_the_simulators_outputs_towards_surgery(judged: str) -> None:
    step = adversarial(judged=judged, lambda_adv=1.0)
    step.loss = HeatmapLoss(scale=0.0)
    for group in step.discriminator_optimizer.param_groups:
        group["lr"] = 0.0
    rows = run(step, [frames([SIM, INTRAOP, SIM, INTRAOP])], epochs=15)
    assert rows[-1]["adversarial"] < rows[0]["adversarial"]
    assert rows[-1]["supervised"] == 0


def test_what_else_could_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="judged must be one of heatmap, features"):
        adversarial(judged="logits")
    with pytest.raises(ValueError, match="kind must be one of half, full, mse"):
        collaborative(kind="kl")
    network, other, wrapped = small_network(), small_network(), torch.nn.Sequential(small_network())
    others: Any = (adam(network), adam(other), FramePreparation(TARGET), HeatmapLoss())
    with pytest.raises(TypeError, match="runs in one process: network must be a PointHeatmapNet, got Sequential"):
        DomainAdversarialStep(wrapped, other, *others)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one process: network and partner must be of one class"):
        CollaborativeStep(wrapped, other, *others)


def test_each_network_learns_its_own_domain_and_from_the_other_on_the_others() -> None:
    batch = frames([SIM, INTRAOP, SIM, INTRAOP])
    step = collaborative(lambda_kl=0.1, kind="half")
    ours, theirs = copy.deepcopy(step.network).train(), copy.deepcopy(step.partner).train()
    prepared = step.prepare(batch, 0, torch.device("cpu"))
    with torch.no_grad():
        a, b = ours(prepared.image), theirs(prepared.image)
    error = HeatmapLoss(scale=100.0)
    (row,) = run(step, [batch])
    assert row["intraop_supervised"] == pytest.approx(error(a, prepared.target)[[1, 3]].mean().item(), rel=1e-4)
    assert row["sim_supervised"] == pytest.approx(error(b, prepared.target)[[0, 2]].mean().item(), rel=1e-4)
    assert row["intraop_distilled"] == pytest.approx(distillation(b, a)[[0, 2]].mean().item(), rel=1e-4)
    assert row["sim_distilled"] == pytest.approx(distillation(a, b)[[1, 3]].mean().item(), rel=1e-4)
    total = row["intraop_supervised"] + row["sim_supervised"]
    assert row["loss"] == pytest.approx(total + 0.1 * (row["intraop_distilled"] + row["sim_distilled"]), rel=1e-4)


def test_without_distillation_a_network_ignores_the_other_domains_labels() -> None:
    batch = frames([SIM, INTRAOP])
    other = {**batch, "points": batch["points"].clone()}
    other["points"][0, :2] += 4.0  # the simulator's labels
    weights = []
    for b in (batch, other):
        step = collaborative(lambda_kl=0.0)
        run(step, [b])
        weights.append((step.network.state_dict(), step.partner.state_dict()))
    (ours, theirs), (ours_again, theirs_again) = weights
    assert all(torch.equal(ours[name], ours_again[name]) for name in ours)
    assert any(not torch.equal(theirs[name], theirs_again[name]) for name in theirs)
