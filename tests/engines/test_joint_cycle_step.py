"""Translation and segmentation learned together: who learns what in which stage, and from which labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medsynth_ext.engines import DomainBatch, JointCycleStep, Stages, StepTrainer
from medsynth_ext.engines.cycle_step import CycleStep
from medsynth_ext.losses import AdversarialLoss

SIZE = (1, 1, 6, 6)


def conv(out: int = 1) -> nn.Conv2d:
    return nn.Conv2d(1, out, 3, padding=1)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits, label[:, 0])


def domain(seed: int, *, labelled: bool = True, value: int | None = None) -> DomainBatch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(SIZE, generator=generator) * 2 - 1
    label = (image > 0).long() if value is None else torch.full(SIZE, value)
    return DomainBatch(image, label, torch.tensor([labelled]), image, label)


def make_step(batch: tuple[DomainBatch, DomainBatch] | None = None, **options: Any) -> JointCycleStep:
    torch.manual_seed(0)
    generators, judges, segmenters, references = ([conv(out), conv(out)] for out in (1, 1, 2, 2))
    domains = (domain(1), domain(2)) if batch is None else batch
    settings: dict[str, Any] = {"stages": Stages(3, {"segmenters": 1, "generators": 1}, last="joint"), **options}
    return JointCycleStep(
        generators,
        judges,
        segmenters,
        *(
            torch.optim.SGD([p for n in nets for p in n.parameters()], lr=0.1)
            for nets in (generators, judges, [*segmenters, *references])
        ),
        segmentation_loss=cross_entropy,
        prepare=lambda engine, batch: domains,
        references=references,
        adversarial=AdversarialLoss("least_squares"),
        identity_weight=0.0,
        **settings,
    )


def weights(step: JointCycleStep) -> dict[str, list[Tensor]]:
    kinds = {
        "generators": (step.a_to_b, step.b_to_a),
        "discriminators": (step.judge_a, step.judge_b),
        "segmenters": step.segmenters,
        "references": step.references,
    }
    return {kind: [p.detach().clone() for n in nets for p in n.parameters()] for kind, nets in kinds.items()}


def changed(before: dict[str, list[Tensor]], after: dict[str, list[Tensor]]) -> set[str]:
    moved = {}
    for kind, tensors in before.items():
        same = [torch.equal(old, new) for old, new in zip(tensors, after[kind], strict=True)]
        assert len(set(same)) == 1, kind  # both directions learn, or none
        moved[kind] = not same[0]
    return {kind for kind, flag in moved.items() if flag}


def run_epoch(step: JointCycleStep, epoch: int) -> dict[str, Any]:
    """One iteration in an epoch of this number."""
    trainer = StepTrainer("cpu", 3, DataLoader([0]), step, decollate=False)
    trainer.state.epoch, trainer.state.iteration = epoch, 1
    return step(trainer, None)


@pytest.mark.parametrize(
    ("epoch", "learning"),
    [
        (1, {"segmenters", "references"}),
        (2, {"generators", "discriminators"}),
        (3, {"generators", "discriminators", "segmenters", "references"}),
    ],
)
def test_every_stage_changes_its_own_networks_and_no_others(epoch: int, learning: set[str]) -> None:
    step = make_step()
    before = weights(step)
    run_epoch(step, epoch)
    assert changed(before, weights(step)) == learning


def test_the_generators_step_leaves_no_gradient_in_segmenters_and_discriminators() -> None:
    step = make_step()
    seen: list[dict[str, bool]] = []

    def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        kinds = {"generators": (step.a_to_b, step.b_to_a), "discriminators": (step.judge_a, step.judge_b)}
        kinds |= {"segmenters": step.segmenters, "references": step.references}
        seen.append({k: any(p.grad is not None for n in nets for p in n.parameters()) for k, nets in kinds.items()})
        for network in (n for nets in kinds.values() for n in nets):
            network.zero_grad(set_to_none=True)

    state = SimpleNamespace(epoch=3, iteration=1, device="cpu")
    engine: Any = SimpleNamespace(state=state, autocast=lambda: torch.autocast("cpu", enabled=False), update=update)
    step(engine, None)
    nobody = dict.fromkeys(("generators", "discriminators", "segmenters", "references"), False)
    learning = (("generators",), ("discriminators",), ("segmenters", "references"))
    assert seen == [nobody | dict.fromkeys(kinds, True) for kinds in learning]
    assert all(p.requires_grad for n in (*step.segmenters, step.judge_a, step.judge_b) for p in n.parameters())


def test_the_shape_term_judges_generated_images_against_the_labels_of_their_sources() -> None:
    step = make_step((domain(1, value=0), domain(2, value=1)), shape_weight=3.0)
    with torch.no_grad():
        fake_b, fake_a = step.a_to_b(domain(1).image), step.b_to_a(domain(2).image)
        wanted = [
            3 * cross_entropy(step.segmenters[0](fake_a), torch.ones(SIZE, dtype=torch.int64)),
            3 * cross_entropy(step.segmenters[1](fake_b), torch.zeros(SIZE, dtype=torch.int64)),
        ]
    output = run_epoch(step, 3)
    assert [output["shape_a"].item(), output["shape_b"].item()] == pytest.approx([w.item() for w in wanted], rel=1e-5)


def test_without_a_shape_term_the_generators_learn_as_a_cycle_gan_does() -> None:
    plain, joint = make_step(shape_weight=0.0), make_step()
    run_epoch(plain, 3)
    run_epoch(joint, 3)
    torch.manual_seed(0)
    cycle = make_step()
    trainer = StepTrainer("cpu", 1, DataLoader([0]), lambda e, b: {"loss": torch.zeros(())}, decollate=False)
    trainer.state.iteration = 1
    cycle._batch = cycle.prepare_domains(trainer, None)
    CycleStep.__call__(cycle, trainer, None)
    assert torch.equal(plain.a_to_b.weight, cycle.a_to_b.weight)
    assert not torch.equal(joint.a_to_b.weight, cycle.a_to_b.weight)


def test_unlabelled_volumes_reach_neither_shape_nor_segmenter() -> None:
    wrong = domain(1, labelled=False, value=1)
    unlabelled = DomainBatch(wrong.image, wrong.label, wrong.labelled, domain(3).image, domain(3).label)
    output = run_epoch(make_step((unlabelled, domain(2))), 3)
    assert output["shape_b"].item() == output["segmenter_b_synthetic"].item() == 0
    assert output["shape_a"].item() > 0
    assert output["segmenter_a"].item() > 0


def test_other_numbers_of_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted 2 shape networks, got 1"):
        make_step(shape_networks=[conv(2)])


def test_references_learn_from_real_images_alone() -> None:
    step = make_step()
    before = weights(step)["references"]
    run_epoch(step, 3)
    torch.manual_seed(0)
    alone = make_step()
    run_epoch(alone, 1)
    after, wanted = weights(step)["references"], weights(alone)["references"]
    assert all(torch.equal(a, w) for a, w in zip(after, wanted, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_a_frozen_reference_can_judge_the_shape() -> None:
    step = make_step()
    step.shape_networks = step.references
    before = weights(step)
    run_epoch(step, 3)
    assert "references" not in changed(before, weights(step))


def test_a_loss_that_is_no_number_stops_the_training_and_names_the_batch() -> None:
    broken = domain(1)
    broken.image[0, 0, 0, 0] = float("nan")
    step = make_step((broken, domain(2)), stages=Stages(1, {}, last="joint"))
    before = weights(step)
    batch = {"file_a": "ct/images/bad.nii.gz", "file_b": "mr/images/good.nii.gz"}
    trainer = StepTrainer("cpu", 1, DataLoader([batch]), step, decollate=False)
    with pytest.raises(FloatingPointError, match=r"the batch holds ct/images/bad.nii.gz, mr/images/good.nii.gz"):
        trainer.run()
    assert changed(before, weights(step)) == set()
