"""The terms of both directions and of the paired baselines, by hand, and who learns in which step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medsynth_ext.losses import AdversarialLoss
from medsynth_ext.methods.semipaired import PairedObjective, SurrogateObjective, TwoDiscriminatorObjective

LOSS = AdversarialLoss("vanilla")


class Shift(nn.Module):
    """A generator that adds 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


class Mean(nn.Module):
    """A discriminator whose logit is the sum over channels of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return self.scale * x.mean((2, 3)).sum(1)


@pytest.fixture
def images() -> dict[str, Tensor]:
    shape = (2, 1, 4, 4)
    return {"mr": torch.full(shape, 0.2), "surrogate": torch.full(shape, -0.5), "ct": torch.full(shape, 0.6)}


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_mr_to_ct_looks_like_ct_of_others_and_stays_near_the_surrogate(images: dict[str, Tensor]) -> None:
    judge = Mean()
    objective = SurrogateObjective(Shift(), judge, adversarial=LOSS, surrogate_weight=50.0)
    made = objective.generate(images, 1)
    assert torch.equal(made["image"], images["mr"])
    term = objective.discriminator_terms(made)["unconditional"]
    assert term.item() == pytest.approx(0.5 * (softplus(-0.6) + softplus(0.3)))
    term.backward()
    assert objective.generator.by.grad is None
    terms = objective.generator_terms(made)
    assert {name: t.item() for name, t in terms.items()} == pytest.approx(
        {"adversarial": softplus(-0.3), "surrogate": 50 * 0.8}
    )


def test_a_term_whose_weight_is_zero_is_left_out(images: dict[str, Tensor]) -> None:
    judge = Mean()
    alone = SurrogateObjective(Shift(), judge, adversarial=LOSS, adversarial_weight=0.0)
    made = alone.generate(images, 1)
    assert alone.discriminator_terms(made) == {}
    assert list(alone.generator_terms(made)) == ["surrogate"]
    assert judge.seen == []
    gan = SurrogateObjective(Shift(), judge, adversarial=LOSS, surrogate_weight=0.0)
    assert list(gan.generator_terms(gan.generate(images, 1))) == ["adversarial"]


@pytest.mark.parametrize("real", [True, False])
def test_ct_to_mr_uses_the_discriminator_of_its_step(images: dict[str, Tensor], real: bool) -> None:
    judges = Mean(), Mean()
    share = 1.0 if real else 0.0
    objective = TwoDiscriminatorObjective(Shift(), *judges, adversarial=LOSS, l1_weight=100.0, ct_share=share)
    made = objective.generate(images, 1)
    source = images["ct" if real else "surrogate"]
    assert torch.equal(made["image"], source)
    assert torch.allclose(made["pred"], source + 0.1)
    terms, own = objective.generator_terms(made), objective.discriminator_terms(made)
    if real:
        assert {name: t.item() for name, t in terms.items()} == pytest.approx(
            {"adversarial_unconditional": softplus(-0.7)}
        )
        assert own["unconditional"].item() == pytest.approx(0.5 * (softplus(-0.2) + softplus(0.7)))
    else:
        assert {name: t.item() for name, t in terms.items()} == pytest.approx(
            {"adversarial_conditional": softplus(0.9), "l1": 100 * 0.6}
        )
        assert own["conditional"].item() == pytest.approx(0.5 * (softplus(0.3) + softplus(-0.9)))
        assert torch.equal(judges[1].seen[0][:, :1], images["surrogate"])  # the condition comes first
    assert len(own) == 1
    assert judges[real].seen == []


def test_the_coin_is_a_function_of_seed_and_iteration_and_is_fair() -> None:
    build = [TwoDiscriminatorObjective(Shift(), Mean(), Mean(), adversarial=LOSS, seed=seed) for seed in (0, 0, 1)]
    throws = [[objective.from_ct(i) for i in range(1, 401)] for objective in build]
    assert throws[0] == throws[1]
    assert throws[0] != throws[2]
    assert 160 < sum(throws[0]) < 240


def test_paired_baselines_see_source_and_target(images: dict[str, Tensor]) -> None:
    judge = Mean()
    objective = PairedObjective(Shift(), judge, adversarial=LOSS, source="surrogate", target="mr")
    made = objective.generate(images, 1)
    terms = objective.generator_terms(made)
    assert {name: t.item() for name, t in terms.items()} == pytest.approx(
        {"adversarial": softplus(0.9), "l1": 100 * 0.6}
    )
    assert objective.discriminator_terms(made)["conditional"].item() == pytest.approx(
        0.5 * (softplus(0.3) + softplus(-0.9))
    )


def test_feature_matching_compares_what_the_discriminator_sees_of_both(images: dict[str, Tensor]) -> None:
    class Stages(nn.Module):
        def forward(self, x: Tensor) -> list[list[Tensor]]:
            return [[x, x.mean((2, 3)).sum(1)], [2 * x, x.mean((2, 3)).sum(1)]]

    objective = PairedObjective(
        Shift(), Stages(), adversarial=AdversarialLoss("least_squares"), l1_weight=0.0, matching_weight=10.0
    )
    terms = objective.generator_terms(objective.generate(images, 1))
    assert set(terms) == {"adversarial", "matching"}
    assert terms["matching"].item() == pytest.approx(10 * 1.5 * 0.8 / 2)  # half of the channels differ, by 0.8
