"""A site's steps: what is learned, what stays, what leaves, and what a cut run does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from medsynth_ext.engines.federated import mean_gradients
from medsynth_ext.methods.fedsim.schedule import StageSchedule
from medsynth_ext.methods.fedsim.shared import SharedOptimizers
from medsynth_ext.methods.fedsim.site import Site
from medsynth_ext.methods.fedsim.training import SiteStep, run_stage
from medsynth_ext.methods.fedsim.volumes import SiteDataError, SiteVolumes

SHARED = {"fit": 1e-2, "labelled": 1e-3, "unlabelled": 1e-3}


def steps(site: Site, stage: str, iterations: int, **options: Any) -> SiteStep:
    return SiteStep(site, SharedOptimizers(site.model, SHARED), StageSchedule(stage, iterations, **options))


def flat(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in flat(value)]
    return [tensor for value in state for tensor in flat(value)] if isinstance(state, list) else []


def equal(a: Any, b: Any) -> bool:
    first, second = flat(a), flat(b)
    return len(first) == len(second) and all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def copied(state: Any) -> Any:
    return (
        {key: copied(v) for key, v in state.items()}
        if isinstance(state, dict)
        else (
            [copied(v) for v in state]
            if isinstance(state, list)
            else state.clone()
            if isinstance(state, torch.Tensor)
            else state
        )
    )


@pytest.mark.parametrize("gradient", ["surface", "fd"])
def test_stage_a_brings_shape_and_material_closer(make_site, make_model, gradient: str) -> None:
    site = make_site(model=make_model(shape_gradient=gradient))
    step = steps(site, "parameters", 12)
    first, _ = step.iterate(1)
    last = run_stage(step)
    assert last["fit_shape"] < first["fit_shape"]
    assert last["fit_material"] < 0.8 * first["fit_material"]


def test_stage_b_changes_the_private_networks_alone(make_site) -> None:
    site = make_site()
    model, latents = copied(site.model.state_dict()), copied(site.latents.state_dict())
    before = copied(site.state_dict())
    run_stage(steps(site, "gan", 2))
    assert equal(site.model.state_dict(), model)
    assert equal(site.latents.state_dict(), latents)
    for name in ("generator", "discriminator"):
        assert not equal(site.state_dict()[name], before[name])


@pytest.mark.parametrize("freeze", [True, False])
def test_the_discriminator_is_frozen_in_stage_c_unless_told_otherwise(make_site, freeze: bool) -> None:
    """With its power iterations: every tensor of it stays."""
    site = make_site(freeze_discriminator=freeze)
    before = copied(site.loss.discriminator.state_dict())
    run_stage(steps(site, "semi_supervised", 2))
    assert equal(site.loss.discriminator.state_dict(), before) == freeze


def test_unlabelled_steps_reach_latents_shape_and_material(make_site) -> None:
    site = make_site()
    found = site.gradients(None, "unlabelled", 1)
    names = {name.split(".")[0] for name, gradient in found.gradients.items() if gradient.abs().sum() > 0}
    assert names == {"shape", "material"}
    assert site.latents.rows[2].grad is not None
    assert site.latents.rows[0].grad is None


def test_unlabelled_latents_start_from_the_gaussian_and_are_pulled_to_their_material(make_site) -> None:
    site = make_site()
    step = steps(site, "semi_supervised", 13, pull=12)
    labelled = copied(site.latents.state_dict())
    first, _ = step.iterate(1)
    for i in range(2, 13):
        last, _ = step.iterate(i)
    assert last["pull_material"] < first["pull_material"]
    assert equal([site.latents.rows[i] for i in range(2)], [labelled[f"rows.{i}"] for i in range(2)])


def test_a_cut_run_goes_on_as_if_nothing_had_happened(make_site) -> None:
    """Through all stages, with everything taken from the saved states."""

    def run(site: Site, plan: list[tuple[str, int]], saved: dict | None = None, cut: int | None = None) -> dict:
        shared = SharedOptimizers(site.model, SHARED)
        if saved is not None:
            site.load_state_dict(saved["site"])
            site.model.load_state_dict(saved["model"])
            shared.load_state_dict(saved["shared"])
        for number, (stage, iteration) in enumerate(plan):
            if cut is not None and number == cut:
                break
            SiteStep(site, shared, StageSchedule(stage, 3, pull=1 if stage == "semi_supervised" else 0)).iterate(
                iteration
            )
        return copied({"site": site.state_dict(), "model": site.model.state_dict(), "shared": shared.state_dict()})

    plan = [(stage, i) for stage in ("parameters", "gan", "semi_supervised") for i in (1, 2, 3)]
    straight = run(make_site(), plan)
    for cut in (2, 5, 8):
        saved = run(make_site(), plan, cut=cut)
        torch.manual_seed(99)
        assert equal(run(make_site(), plan[cut:], saved), straight)


def in_float64(site: Site) -> Site:
    """Adam's first step is the sign of the gradient, so rounding would decide where the gradient is zero."""
    for module in (site.model, site.latents, site.distance):
        module.double()
    site.volumes.material = site.volumes.material.double()
    return site


def test_mean_of_three_sites_is_the_step_on_their_batch(make_site, make_model) -> None:
    """Claim 11: a federated step of three sites with one volume each equals the centralised step."""
    together = in_float64(make_site(count=3, labelled=3, volumes_per_step=3))
    latents = [row.detach().clone() for row in together.latents.rows]
    central = together.gradients(None, "fit", 1).gradients
    apart = []
    for i in range(3):
        site = in_float64(make_site(first=i, count=1, labelled=1))
        site.latents.set([0], latents[i][None])
        apart.append(site.gradients(make_model().double().state_dict(), "fit", 1).gradients)
    federated = mean_gradients(apart)
    assert set(federated) == set(central)
    models = []
    for gradients in (federated, central):
        model = make_model().double()
        SharedOptimizers(model, SHARED).apply(gradients, "fit")
        models.append(model.state_dict())
    assert max((a - b).abs().max().item() for a, b in zip(*(m.values() for m in models), strict=True)) < 1e-6
    assert max((federated[name] - central[name]).abs().max().item() for name in central) < 1e-9


def test_a_bad_volume_changes_nothing(make_site) -> None:
    site = make_site()
    site.volumes.material[:] = float("nan")
    before, model = copied(site.state_dict()), copied(site.model.state_dict())
    for phase in ("fit", "pull", "labelled"):
        with pytest.raises(FloatingPointError, match=f"must be finite, got nan in phase {phase} of site test"):
            site.gradients(None, phase, 1)
    assert equal(site.state_dict(), before)
    assert equal(site.model.state_dict(), model)


def test_the_server_refuses_what_is_not_a_gradient(make_model) -> None:
    model = make_model()
    server = SharedOptimizers(model, SHARED)
    name, parameter = next(iter(model.named_parameters()))
    with pytest.raises(FloatingPointError, match=f"gradient of {name} is not finite"):
        server.apply({name: torch.full_like(parameter, float("nan"))}, "fit")
    with pytest.raises(ValueError, match="no shared parameter generator"):
        server.apply({"generator": torch.zeros(1)}, "fit")
    with pytest.raises(ValueError, match="phase must be one of fit, labelled, unlabelled, got 'gan'"):
        server.apply({name: torch.zeros_like(parameter)}, "gan")


def test_weights_of_sites_and_absent_gradients_are_respected() -> None:
    found = mean_gradients([{"a": torch.tensor(1.0)}, {"a": torch.tensor(4.0), "b": torch.tensor(3.0)}], [1, 2])
    assert found == {"a": torch.tensor(3.0), "b": torch.tensor(2.0)}


def test_phases_of_the_stages() -> None:
    schedule = StageSchedule("semi_supervised", 10, pull=2, constant=0.5)
    assert schedule.phases(2) == [("pull", 1.0, 0.0)]
    assert schedule.phases(3) == [("labelled", 1.0, 0.0), ("unlabelled", 1.0, 0.0)]
    assert schedule.phases(10)[0][1] == pytest.approx(0.25)
    assert StageSchedule("gan", 5).phases(1) == [("gan", 1.0, 0.0)]
    with pytest.raises(ValueError, match="stage must be one of"):
        StageSchedule("fit", 5)
    with pytest.raises(ValueError, match="pull must be from 0 to below iterations, got 5 and 5"):
        StageSchedule("semi_supervised", 5, pull=5)


def volumes(labels: list[torch.Tensor | None], images: torch.Tensor | None = None) -> SiteVolumes:
    images = torch.zeros(len(labels), 1, 8, 8, 8) if images is None else images
    return SiteVolumes.from_tensors(images, labels, coarse=4, name="north")


def test_data_of_a_site_that_cannot_be_used_are_named() -> None:
    heart = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    heart[0, 4, 4, 4] = 1
    assert volumes([heart, None]).unlabelled == [1]
    with pytest.raises(SiteDataError, match="site north has no labelled volume"):
        volumes([None, None])
    with pytest.raises(
        SiteDataError, match=r"label 0 of site north must hold 0 and 1, or the parts 0 to 7, got \[0, 205\]"
    ):
        volumes([205 * heart])
    with pytest.raises(SiteDataError, match="marks no heart"):
        volumes([torch.zeros_like(heart)])
    with pytest.raises(SiteDataError, match=r"within \[-1, 1\]"):
        volumes([heart], torch.full((1, 1, 8, 8, 8), 40.0))
    with pytest.raises(SiteDataError, match="site north has no case"):
        SiteVolumes(name="north").load()


def test_phases_and_preparation_are_checked(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with pytest.raises(ValueError, match="phase must be one of fit, gan, pull, labelled, unlabelled, got 'all'"):
        site.gradients(None, "all", 1)
    site.optimizers = {}
    with pytest.raises(ValueError, match="must be prepared"):
        site.gradients(None, "fit", 1)
