from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from medsynth_ext.engines.federated import FederatedServer, LocalSites, SiteRunner
from medsynth_ext.engines.federated.worker import build
from medsynth_ext.handlers import load_weights
from medsynth_ext.methods.fedsim.federated import FederatedHospital, federated_plan
from medsynth_ext.methods.fedsim.generation import HeartSimulator
from medsynth_ext.methods.fedsim.latent_networks import MaterialGenerator
from medsynth_ext.methods.fedsim.model import HeartModel
from medsynth_ext.methods.fedsim.schedule import StageSchedule
from medsynth_ext.methods.fedsim.shared import SharedOptimizers
from medsynth_ext.methods.fedsim.site import Site
from medsynth_ext.methods.fedsim.spade import SpadeGenerator
from medsynth_ext.methods.fedsim.volumes import SiteDataError
from medsynth_ext.methods.fedsim.weights import SimulatorWeights

BUNDLE = Path(__file__).resolve().parents[3] / "bundles/fedsim_cardiac_ct_synthesis"
RATES = {"fit": 1e-3, "labelled": 1e-4, "unlabelled": 1e-4}
COUNTS = {"A": (0, 2, 1), "B": (2, 2, 1), "C": (4, 1, 1)}  # first phantom, volumes, labels


def make_plan(fit: int = 2, gan: int = 3, last: int = 3):
    stages = [("parameters", fit, 0), ("gan", gan, 0), ("semi_supervised", last, 1)]
    schedules = [StageSchedule(stage, iterations, pull=pull) for stage, iterations, pull in stages]
    return federated_plan(schedules, shared_phases=RATES, own_steps=2)


@pytest.fixture
def make_hospitals(make_site):
    def make(folder: Path, names: str = "ABC") -> LocalSites:
        runners = {}
        for name in names:
            first, count, labelled = COUNTS[name]
            site = make_site(first=first, count=count, labelled=labelled, seed=first, volumes_per_step=1)
            runners[name] = SiteRunner(FederatedHospital(site), folder / name, name=name, minimum_latents=1)
        return LocalSites(runners)

    return make


def make_server(make_model, folder: Path, plan, **options) -> FederatedServer:
    model = make_model()
    options = {"save_every": 1, "retry_s": 0.0, "patience_s": 0.0} | options
    return FederatedServer(model, SharedOptimizers(model, RATES), plan, folder / "server", **options)


def test_federated_step_equals_the_centralised_one(tmp_path, make_site, make_model):
    """One federated step over three sites with batch 1 is one step on the batch of three, with group norm."""

    def model_with_groups() -> HeartModel:
        # With one channel to a group a bias has no effect, and Adam makes steps of its gradient's rounding errors.
        model = make_model()
        torch.manual_seed(0)
        model.material = MaterialGenerator(model.latent, model.simulator.size, features=(32, 16), norm="group")
        return model

    together: Site = make_site(count=3, labelled=3, volumes_per_step=3, model=model_with_groups())
    runners = {}
    for i in range(3):
        site = make_site(first=i, count=1, labelled=1, volumes_per_step=1, model=model_with_groups())
        site.latents.set([0], together.latents([i]).detach())
        runners[str(i)] = SiteRunner(FederatedHospital(site), tmp_path / str(i), name=str(i), minimum_latents=1)
    start = copy.deepcopy(together.model.state_dict())
    shared = SharedOptimizers(together.model, RATES)
    shared.apply(together.gradients(None, "fit", 1).gradients, "fit")
    plan = federated_plan([StageSchedule("parameters", 1)], shared_phases=RATES)
    server = make_server(model_with_groups, tmp_path, plan)
    server.run(LocalSites(runners))
    for name, value in server.model.state_dict().items():
        torch.testing.assert_close(value, together.model.state_dict()[name], atol=1e-6, rtol=0)
    assert max((server.model.state_dict()[name] - start[name]).abs().max() for name in start) > 5e-4


def test_plan_shares_gradients_step_by_step_and_packs_the_rest():
    plan = make_plan(fit=2, gan=3, last=4)
    rows = [(exchange.phase, [(item["phase"], item["iteration"]) for item in exchange.work]) for exchange in plan]
    assert rows == [
        ("fit", [("fit", 1)]),
        ("fit", [("fit", 2)]),
        (None, [("gan", 1), ("gan", 2)]),
        (None, [("gan", 3)]),
        (None, [("pull", 1)]),
        *[(phase, [(phase, i)]) for i in (2, 3, 4) for phase in ("labelled", "unlabelled")],
    ]
    assert [item["begins"] for exchange in plan for item in exchange.work].count(True) == 3
    assert [exchange.factor for exchange in plan[-2:]] == pytest.approx([2 / 3, 2 / 3])


def test_pack_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="own_steps must be at least 1"):
        federated_plan([], shared_phases=[], own_steps=0)


def test_all_stages_run_and_only_gradients_and_moments_leave(tmp_path, make_model, make_hospitals):
    hospitals = make_hospitals(tmp_path)
    server = make_server(make_model, tmp_path, make_plan())
    gaussian = server.run(hospitals)
    assert gaussian.count == 5  # all latents, labelled or not
    assert server.faults == []
    # Site C has no unlabelled volume and is left out of that mean, without being at fault.
    images = []
    for name in COUNTS:
        generator = SpadeGenerator(size=32, features=2, hidden=4)
        weights = SimulatorWeights(make_model(), generator)
        load_weights(weights, tmp_path / name / "simulator.pt")
        torch.testing.assert_close(weights.gaussian.mean.float(), gaussian.mean.float(), atol=1e-2, rtol=1e-2)
        images.append(HeartSimulator(weights.model, generator, weights.gaussian).generate(0, seed=1))
    assert torch.equal(images[0].parts, images[1].parts)  # the same patient,
    assert not torch.equal(images[0].image, images[1].image)  # seen by another scanner
    report = json.loads((tmp_path / "A/sent.json").read_text())
    assert set(report["tensors"]) == {*server.model.state_dict(), "mean", "covariance"}
    assert report["tensors"]["covariance"]["shape"] == [8, 8]


def test_killed_hospital_goes_on_with_its_own_networks(tmp_path, make_model, make_hospitals):
    """Every state that a site has is in its file: a new process in any exchange changes nothing."""
    calm = make_server(make_model, tmp_path / "calm", make_plan(fit=1, last=2))
    calm_sites = make_hospitals(tmp_path / "calm")
    calm.run(calm_sites)

    class Killed(LocalSites):
        def ask(self, message, sites):
            if self.asked % 2:
                self.runners |= make_hospitals(tmp_path, "ABC"[self.asked // 2 % 3]).runners
            self.asked += 1
            return super().ask(message, sites)

        asked = 0

    server = make_server(make_model, tmp_path, make_plan(fit=1, last=2))
    sites = Killed(make_hospitals(tmp_path).runners)
    server.run(sites)
    assert sites.asked >= 8
    for name, value in server.model.state_dict().items():
        assert torch.equal(value, calm.model.state_dict()[name]), name
    for name in COUNTS:
        ours, theirs = (torch.load(folder / name / "simulator.pt") for folder in (tmp_path, tmp_path / "calm"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_site_whose_data_do_not_fit_is_set_aside_and_named(tmp_path, caplog, make_model, make_hospitals):
    hospitals = make_hospitals(tmp_path)

    def refuse() -> None:
        raise SiteDataError("label 0 of site B must hold 0 and 1, or the parts 0 to 7, got [0, 205, 420]")

    hospitals.runners["B"].site.prepare = refuse
    server = make_server(make_model, tmp_path, make_plan(last=2), minimum_sites=2)
    with caplog.at_level(logging.WARNING):
        server.run(hospitals)
    assert {fault["site"] for fault in server.faults} == {"B"}
    assert "SiteDataError: label 0 of site B must hold 0 and 1" in server.faults[0]["reason"]
    assert server.gaussian.count == 3


def test_bundle_builds_a_server_and_sites_of_different_seeds(tmp_path):
    configs = BUNDLE / "configs"
    parser = ConfigParser(
        ConfigParser.load_config_files([str(configs / "train_simulator.json"), str(configs / "federated.json")])
    )
    parser.update({"bundle_root": str(BUNDLE), "device": "cpu", "iterations_a": 2, "iterations_b": 30})
    merged = tmp_path / "federation.json"
    merged.write_text(json.dumps(parser.get()))
    server = build(merged, "server", {"output_dir": str(tmp_path / "server")})
    assert [exchange.phase for exchange in server.plan[:4]] == ["fit", "fit", None, None]
    runners = [
        build(merged, "site", {"site_name": name, "dataset_dir": str(tmp_path), "output_dir": str(tmp_path / name)})
        for name in "AB"
    ]
    seeds = [runner.site.site.seed for runner in runners]
    assert seeds[0] != seeds[1]
    assert runners[0].site.site.volumes_per_step == 1
    with pytest.raises(SiteDataError, match="site A has no case"):
        runners[0].site.prepare()
