from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from federated_toy import ToyModel, ToyOptimizer, ToySite, toy_plan

from medsynth_ext.engines import LatentGaussian
from medsynth_ext.engines.federated import (
    FederatedServer,
    FederationError,
    GradientFilter,
    LocalSites,
    MessageError,
    SiteRunner,
    mean_gradients,
)
from medsynth_ext.engines.federated.gradients import check_gradients
from medsynth_ext.engines.federated.messages import pack, unpack
from medsynth_ext.engines.federated.site import _without_paths
from medsynth_ext.engines.federated.states import StateFolder

COUNTS = {"north": 3, "south": 5, "west": 2}


class Sites(LocalSites):
    """Sites in this process that can be killed, and whose answers can be tampered with."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder, self.options = folder, options
        super().__init__({name: self.start(name) for name in COUNTS})
        self.down: set[str] = set()
        self.tamper = lambda site, number, answer: answer

    def start(self, name: str) -> SiteRunner:
        site = ToySite(list(COUNTS).index(name), COUNTS[name])
        return SiteRunner(site, self.folder / name, name=name, **self.options)

    def kill(self, name: str) -> None:
        """Lose all that is not on the disk; the next start is a new process."""
        self.down.add(name)
        self.runners[name] = self.start(name)

    def ask(self, message, sites):
        self.before(unpack(message)["number"])
        answers = super().ask(message, [site for site in sites if site not in self.down])
        answers |= {site: ConnectionError("the site is down") for site in sites if site in self.down}
        return {site: self.tamper(site, unpack(message)["number"], answers[site]) for site in sites}

    def before(self, number: int) -> None:
        """A test's hook before an exchange."""


def make_server(folder: Path, iterations: int = 14, *, alone: int = 0, **options) -> FederatedServer:
    model = ToyModel()
    options = {"retry_s": 0.0, "patience_s": 5.0, "save_every": 4} | options
    return FederatedServer(model, ToyOptimizer(model), toy_plan(iterations, alone=alone), folder / "server", **options)


def global_loss(server: FederatedServer, sites: Sites) -> float:
    return sum(r.site.loss(server.model.matrix).item() for r in sites.runners.values()) / len(sites.runners)


def sent_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "sent.jsonl").read_text().splitlines()]


def undisturbed(folder: Path, **options) -> tuple[FederatedServer, Sites]:
    server, sites = make_server(folder, **options), Sites(folder)
    server.run(sites)
    return server, sites


def test_federation_lowers_the_loss_of_all_sites(tmp_path):
    sites, server = Sites(tmp_path), make_server(tmp_path, iterations=60)
    before = global_loss(server, sites)
    server.run(sites)
    assert global_loss(server, sites) < 0.1 * before
    assert server.faults == []


def test_step_is_that_of_the_mean_gradient(tmp_path):
    server, sites = make_server(tmp_path, iterations=1), Sites(tmp_path)
    twin, twins = ToyModel(), [ToySite(i, n) for i, n in enumerate(COUNTS.values())]
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.1)
    (sum(site.loss(twin.matrix) for site in twins) / 3).backward()
    optimizer.step()
    server.run(sites)
    torch.testing.assert_close(server.model.matrix, twin.matrix, atol=1e-6, rtol=0)


def test_weighting_by_volumes_is_the_gradient_of_the_pooled_data(tmp_path):
    server, sites = make_server(tmp_path, iterations=1, weighting="volumes"), Sites(tmp_path)
    twin, twins = ToyModel(), [ToySite(i, n) for i, n in enumerate(COUNTS.values())]
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.1)
    (sum(n * site.loss(twin.matrix) for n, site in zip(COUNTS.values(), twins, strict=True)) / 10).backward()
    optimizer.step()
    server.run(sites)
    torch.testing.assert_close(server.model.matrix, twin.matrix, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["nan", "shape", "name", "crash"])
def test_bad_site_is_set_aside_and_named_and_the_run_goes_on(tmp_path, caplog, kind):
    server, sites = make_server(tmp_path, minimum_sites=2), Sites(tmp_path)
    sites.runners["south"].site.poison = {7: kind}
    with caplog.at_level(logging.WARNING):
        server.run(sites)
    assert [(fault["number"], fault["site"]) for fault in server.faults] == [(7, "south")]
    assert server.history[6]["sites"] == ["north", "west"]
    assert server.history[7]["sites"] == ["north", "south", "west"]
    assert "site south is set aside in exchange 7" in caplog.text
    assert "site south is back in exchange 8" in caplog.text
    assert torch.isfinite(server.model.matrix).all()


def test_gradients_that_are_not_finite_on_arrival_are_set_aside(tmp_path):
    server, sites = make_server(tmp_path, minimum_sites=2), Sites(tmp_path)

    def spoil(site, number, answer):
        if (site, number) != ("south", 7):
            return answer
        content = unpack(answer)
        content["gradients"]["matrix"][0, 0] = torch.inf
        return pack(content)

    sites.tamper = spoil
    server.run(sites)
    assert [(fault["number"], fault["site"]) for fault in server.faults] == [(7, "south")]
    assert server.faults[0]["reason"] == "the gradient of matrix is not finite"


@pytest.mark.parametrize("cut", [slice(0, 500), slice(0, 0), slice(1, None)])
def test_damaged_answer_is_set_aside(tmp_path, cut):
    server, sites = make_server(tmp_path, minimum_sites=2), Sites(tmp_path)
    sites.tamper = lambda site, number, answer: answer[cut] if (site, number) == ("west", 3) else answer
    server.run(sites)
    assert [(fault["number"], fault["site"]) for fault in server.faults] == [(3, "west")]
    assert "damaged" in server.faults[0]["reason"]


def test_answer_to_another_question_is_set_aside(tmp_path):
    server, sites = make_server(tmp_path, minimum_sites=2), Sites(tmp_path)
    kept: dict[int, bytes] = {}

    def late(site, number, answer):
        if site == "west":
            kept[number] = answer
            return kept[2] if number == 3 else answer
        return answer

    sites.tamper = late
    server.run(sites)
    assert [(fault["number"], fault["site"]) for fault in server.faults] == [(3, "west")]


def test_bad_site_stops_the_run_when_configured(tmp_path):
    server, sites = make_server(tmp_path, minimum_sites=2, on_fault="stop"), Sites(tmp_path)
    sites.runners["south"].site.poison = {7: "nan"}
    with pytest.raises(FederationError, match=r"exchange 7 .*south: ValueError: matrix is not.*after exchange 4"):
        server.run(sites)


def test_too_few_sites_stop_the_run_and_nothing_is_lost(tmp_path):
    calm, _ = undisturbed(tmp_path / "calm")
    server, sites = make_server(tmp_path, minimum_sites=2, patience_s=0.0), Sites(tmp_path)
    sites.before = lambda number: sites.down.update({"north", "west"} if number == 11 else ())
    with pytest.raises(FederationError, match="exchange 11 needs 2 sites and has 1") as stop:
        server.run(sites)
    report = json.loads((tmp_path / "server/federation.json").read_text())
    assert report["stopped"] == str(stop.value)
    again, sites = make_server(tmp_path, minimum_sites=2), Sites(tmp_path)
    again.run(sites)
    assert torch.equal(again.model.matrix, calm.model.matrix)


@pytest.mark.parametrize("when", [4, 5, 15, 17])
def test_killed_site_comes_back_and_the_result_is_that_of_an_undisturbed_run(tmp_path, when):
    """Saved every exchange, waiting for all: nothing at all is lost, in shared exchanges or in work of its own."""
    calm, calm_sites = undisturbed(tmp_path / "calm", alone=3)
    server, sites = make_server(tmp_path, alone=3, save_every=1), Sites(tmp_path)
    asked = []

    def before(number):
        asked.append(number)
        if number == when and asked.count(when) == 1:
            sites.kill("south")
        elif number == when and asked.count(when) == 4:
            sites.down.clear()

    sites.before = before
    gaussian = server.run(sites)
    assert server.faults == [{"number": when, "site": "south", "reason": server.faults[0]["reason"], "times": 3}]
    assert torch.equal(server.model.matrix, calm.model.matrix)
    assert torch.equal(gaussian.mean, calm.gaussian.mean)
    for name, runner in sites.runners.items():
        assert torch.equal(runner.site.offset, calm_sites.runners[name].site.offset)


def test_answer_that_was_lost_on_its_way_is_given_again(tmp_path):
    calm, _ = undisturbed(tmp_path / "calm")
    server, sites = make_server(tmp_path, save_every=1), Sites(tmp_path)
    lost = []

    def lose(site, number, answer):
        if site == "west" and number in (9, 12) and (number not in lost):
            lost.append(number)
            if number == 12:
                sites.runners["west"] = sites.start("west")  # it also died after it had answered
            return TimeoutError("no answer")
        return answer

    sites.tamper = lose
    server.run(sites)
    assert lost == [9, 12]
    assert torch.equal(server.model.matrix, calm.model.matrix)


def test_run_goes_on_without_a_killed_site_and_it_comes_back_with_its_progress(tmp_path):
    server, sites = make_server(tmp_path, iterations=60, minimum_sites=2), Sites(tmp_path)
    at_first = global_loss(server, sites)

    def before(number):
        if number == 20:
            sites.kill("south")
        if number == 30:
            sites.down.clear()

    sites.before = before
    server.run(sites)
    assert {fault["number"] for fault in server.faults} == set(range(20, 30))
    assert sites.runners["south"].site.prepared == 1
    assert sites.runners["south"].report.summary["messages"] > 45  # of before and after
    assert global_loss(server, sites) < 0.1 * at_first


@pytest.mark.parametrize("restart_sites", [True, False])
def test_restarted_server_continues_exactly(tmp_path, restart_sites):
    calm, _ = undisturbed(tmp_path / "calm", alone=2)
    server, sites = make_server(tmp_path, alone=2), Sites(tmp_path)

    def die(number):
        if number == 11:
            raise KeyboardInterrupt

    sites.before = die
    with pytest.raises(KeyboardInterrupt):
        server.run(sites)
    if restart_sites:
        sites = Sites(tmp_path)
    sites.before = lambda number: None
    again = make_server(tmp_path, alone=2)
    gaussian = again.run(sites)
    assert torch.equal(again.model.matrix, calm.model.matrix)
    assert torch.equal(gaussian.covariance, calm.gaussian.covariance)
    assert [row["number"] for row in again.history] == list(range(1, 17))


def test_damaged_state_of_the_server_is_skipped(tmp_path):
    calm, _ = undisturbed(tmp_path / "calm")
    server, sites = make_server(tmp_path), Sites(tmp_path)
    sites.before = lambda number: (_ for _ in ()).throw(KeyboardInterrupt) if number == 11 else None
    with pytest.raises(KeyboardInterrupt):
        server.run(sites)
    newest = server.states.files()[-1]
    newest.write_bytes(newest.read_bytes()[:300])
    again, sites = make_server(tmp_path), Sites(tmp_path)
    again.run(sites)
    assert torch.equal(again.model.matrix, calm.model.matrix)


def test_site_is_not_asked_for_work_that_a_finished_run_has_done(tmp_path):
    server, sites = undisturbed(tmp_path)
    again = make_server(tmp_path)
    again.run(sites)
    assert torch.equal(again.model.matrix, server.model.matrix)
    assert sites.runners["north"].report.summary["kinds"]["gradients"] == 14


def test_server_of_another_plan_is_refused(tmp_path):
    undisturbed(tmp_path)
    with pytest.raises(ValueError, match="another plan"):
        make_server(tmp_path, iterations=15).run(Sites(tmp_path))


def test_new_run_in_the_same_site_folder_begins_anew(tmp_path):
    calm, _ = undisturbed(tmp_path / "calm")
    sites = Sites(tmp_path)
    make_server(tmp_path / "one", iterations=5).run(sites)
    second = make_server(tmp_path / "two")
    second.run(sites)
    assert torch.equal(second.model.matrix, calm.model.matrix)


def test_only_gradients_and_moments_leave_a_site(tmp_path):
    seen: list[dict] = []
    server, sites = make_server(tmp_path, iterations=6, alone=2), Sites(tmp_path)
    sites.tamper = lambda site, number, answer: seen.append(unpack(answer)) or answer
    server.run(sites)
    names = {name for answer in seen for name in answer}
    assert names == {"number", "site", "scalars", "gradients", "samples", "size", "mean", "covariance", "count"}
    assert all(set(answer["gradients"]) == {"matrix"} for answer in seen if "gradients" in answer)
    report = json.loads((tmp_path / "north/sent.json").read_text())
    assert report["kinds"] == {"hello": 1, "gradients": 6, "progress": 2, "latent_moments": 1, "done": 1}
    assert report["bytes"] == sum(len(pack(answer)) for answer in seen if answer["site"] == "north")
    assert set(report["tensors"]) == {"matrix", "mean", "covariance"}
    matrix = report["tensors"]["matrix"]
    assert (matrix["shape"], matrix["messages"], matrix["bytes"]) == ([3, 2], 6, 6 * 24)
    rows = [row for row in sent_lines(tmp_path / "north") if row["kind"] == "gradients"]
    assert all(row["norm"] == row["norm_before_clipping"] > 0 for row in rows)


def test_record_of_what_left_survives_a_kill(tmp_path):
    server, sites = make_server(tmp_path, iterations=6), Sites(tmp_path)

    def before(number):
        if number == 4:
            sites.runners["north"] = sites.start("north")

    sites.before = before
    server.run(sites)
    report = json.loads((tmp_path / "north/sent.json").read_text())
    assert report["kinds"]["gradients"] == 6
    assert report["messages"] == len(sent_lines(tmp_path / "north"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/data/x/Jane_Doe.nii.gz must become (1, 32, 32, 32)", "(a file) must become (1, 32, 32, 32)"),
        ("'Jane_Doe.dcm' cannot be read", "(a file)' cannot be read"),
        (r"C:\scans\Jane.nrrd is damaged", "(a file) is damaged"),
        ("images must be within [-1, 1] (HU / 1000), got 2.5", "images must be within [-1, 1] (HU / 1000), got 2.5"),
    ],
)
def test_file_names_are_taken_out_of_sentences(text, wanted):
    assert _without_paths(text) == wanted


def test_faulty_site_stops_the_start_but_a_slow_one_does_not(tmp_path):
    server, sites = make_server(tmp_path, on_fault="stop"), Sites(tmp_path)
    asked = []

    def before(number):
        asked.append(number)
        sites.down = {"west"} if len(asked) < 3 else set()

    sites.before = before
    server.run(sites)
    assert asked[:4] == [0, 0, 0, 1]
    bad = make_server(tmp_path / "bad", on_fault="stop")
    sites = Sites(tmp_path / "bad")

    def refuse():
        raise ValueError("there are no labels")

    sites.runners["south"].site.prepare = refuse
    with pytest.raises(FederationError, match=r"the start needs 3 sites and has 2 \(south: ValueError: there are no"):
        bad.run(sites)


def test_error_that_leaves_a_site_names_no_file(tmp_path):
    server, sites = make_server(tmp_path, minimum_sites=2), Sites(tmp_path)
    sites.runners["south"].site.poison = {7: "crash"}
    server.run(sites)
    assert "Jane" not in server.faults[0]["reason"]
    assert server.faults[0]["reason"].startswith("KeyError")
    report = json.loads((tmp_path / "south/sent.json").read_text())
    assert [row["number"] for row in report["texts"]] == [7]
    assert "Jane" not in (tmp_path / "south/sent.jsonl").read_text()
    assert server.history[7]["sites"] == ["north", "south", "west"]


def test_pooled_gaussian_is_that_of_all_latents(tmp_path):
    server, sites = undisturbed(tmp_path)
    everything = torch.cat([runner.site.z for runner in sites.runners.values()])
    wanted = LatentGaussian.fit(everything)
    torch.testing.assert_close(server.gaussian.covariance, wanted.covariance)
    assert server.gaussian.count == 10
    for runner in sites.runners.values():
        state, gaussian = runner.site.finished
        assert torch.equal(state["matrix"], server.model.matrix)
        assert torch.equal(gaussian.mean, server.gaussian.mean)


def test_moments_of_too_few_latents_are_not_sent(tmp_path):
    server, sites = make_server(tmp_path, patience_s=0.0), Sites(tmp_path, minimum_latents=3)
    with pytest.raises(FederationError, match="west: ValueError: moments of 2 latents give them away"):
        server.run(sites)


def test_clipping_bounds_what_leaves(tmp_path):
    server, sites = make_server(tmp_path, iterations=5), Sites(tmp_path, privacy=GradientFilter(max_norm=0.01))
    server.run(sites)
    rows = [row for row in sent_lines(tmp_path / "north") if row["kind"] == "gradients"]
    assert all(row["norm"] <= 0.01 * (1 + 1e-6) < row["norm_before_clipping"] for row in rows)


def test_noise_has_the_asked_size_and_does_not_average_out():
    keep = GradientFilter(max_norm=2.0, noise=0.5, secret=3)
    zero = {"w": torch.zeros(200, 100)}
    first, again, other = keep(zero, 1)["w"], keep(zero, 1)["w"], keep(zero, 2)["w"]
    assert first.std().item() == pytest.approx(1.0, rel=0.02)
    assert torch.equal(first, again)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1].item()) < 0.03
    assert not torch.equal(first, GradientFilter(max_norm=2.0, noise=0.5)(zero, 1)["w"])


def test_noise_survives_a_restart_of_the_site(tmp_path):
    def options():
        return {"privacy": GradientFilter(max_norm=1.0, noise=0.1)}

    server, sites = make_server(tmp_path, iterations=9), Sites(tmp_path, **options())
    server.run(sites)
    secret = sites.runners["north"].privacy.secret
    sites = Sites(tmp_path, **options())
    assert sites.runners["north"].privacy.secret != secret
    make_server(tmp_path, iterations=9).run(sites)
    assert sites.runners["north"].privacy.secret == secret


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_norm": 0.0}, "max_norm must be positive"),
        ({"noise": 0.1}, "needs max_norm"),
        ({"noise": -0.1, "max_norm": 1.0}, "noise must be 0 or more"),
    ],
)
def test_filter_that_makes_no_sense_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        GradientFilter(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weighting": "size"}, "weighting must be"),
        ({"on_fault": "ignore"}, "on_fault must be"),
        ({"save_every": 0}, "save_every"),
        ({"minimum_sites": 0}, "minimum_sites"),
    ],
)
def test_server_that_makes_no_sense_is_refused(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_server(tmp_path, **options)


def test_running_buffers_are_refused(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2))
    with pytest.raises(ValueError, match=r"running buffers.*use group norm"):
        FederatedServer(model, ToyOptimizer(model), toy_plan(1), tmp_path)


@pytest.mark.parametrize(
    ("gradients", "sentence"),
    [
        ([1.0], "must be a dict"),
        ({"w": torch.zeros(2)}, r"the gradient of w must be \(3,\), got \(2,\)"),
        ({"w": torch.zeros(3, dtype=torch.int64)}, "floating-point"),
        ({"w": [0.0, 0.0, 0.0]}, "floating-point"),
        ({"v": torch.zeros(3)}, "no shared parameter 'v'"),
        ({"w": torch.tensor([0.0, torch.inf, 0.0])}, "not finite"),
    ],
)
def test_gradients_of_something_else_are_refused(gradients, sentence):
    with pytest.raises(MessageError, match=sentence):
        check_gradients(gradients, {"w": torch.zeros(3)})


def test_name_that_a_site_lacks_counts_as_zero():
    mean = mean_gradients([{"a": torch.tensor(2.0), "b": torch.tensor(4.0)}, {"a": torch.tensor(4.0)}])
    assert (mean["a"].item(), mean["b"].item()) == (3.0, 2.0)


def test_message_survives_its_journey():
    content = {"number": 3, "state": {"w": torch.randn(4)}, "work": [{"phase": "fit", "factor": 0.5}], "save": True}
    back = unpack(pack(content))
    assert torch.equal(back.pop("state")["w"], content.pop("state")["w"])
    assert back == content


class Trap:
    def __reduce__(self):
        return (print, ("never",))


@pytest.mark.parametrize("message", [b"", b"x" * 20, b"x" * 500, "text"])
def test_foreign_bytes_are_refused(message):
    with pytest.raises(MessageError):
        unpack(message)


def test_message_with_code_is_refused(capsys):
    with pytest.raises(MessageError, match="tensors and plain values only"):
        unpack(pack({"trap": Trap()}))
    assert "never" not in capsys.readouterr().out


def test_states_keep_the_newest_and_survive_damage(tmp_path, caplog):
    states = StateFolder(tmp_path)
    for number in range(5):
        states.save(number, {"number": number})
    assert [number for number in range(5) if (tmp_path / f"state={number:08d}.pt").exists()] == [3, 4]
    states.files()[-1].write_bytes(b"cut")
    assert states.newest() == (3, {"number": 3})
    assert "cannot be read and is skipped" in caplog.text
    assert states.newest(at_most=2) is None
    states.save(3, {"number": 33})
    assert [path.name for path in states.files()] == ["state=00000003.pt"]  # that ahead is gone
