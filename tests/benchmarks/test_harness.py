"""The benchmarks' machinery: what is measured, which ratios follow, and that nothing wrong passes for a result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks import __main__ as program
from benchmarks.bench_gmm import in_law
from benchmarks.data import label_map, velocity
from benchmarks.goals import GOALS, SIZE, Goal, judge
from benchmarks.harness import Case, Needs, Peer, Row, close_to, measure
from benchmarks.memory import extra_peak_mib
from benchmarks.report import case_table, goal_table

CPU = torch.device("cpu")
EXPECTED = torch.arange(8.0)


def peer(name: str, role: str, seconds: float = 0.0, *, add: float = 0.0, calls: list[str] | None = None) -> Peer:
    """A peer that gives EXPECTED + add after a nap."""

    def call() -> Tensor:
        if calls is not None:
            calls.append(name)
        time.sleep(seconds)
        return EXPECTED + add

    return Peer(name, lambda: call, role, lambda x: x)


def case(*peers: Peer, samples: int = 0) -> Case:
    """A case whose peers all ought to give EXPECTED."""
    return Case("c", "a case", peers, close_to(EXPECTED, 1e-6), least_bytes=64, samples=samples)


def rows_of(times: dict[str, tuple[str, float]]) -> list[Row]:
    """Rows with given wall times; CPU time is twice that."""
    return [Row(name, role, wall_ms=[t] * 3, cpu_ms=[2 * t] * 3) for name, (role, t) in times.items()]


def test_peers_take_turns_after_one_warm_up() -> None:
    calls: list[str] = []
    measure(case(peer("a", "out", calls=calls), peer("b", "eager", calls=calls)), device=CPU, rounds=3, memory=False)
    assert calls == ["a", "b"] * 4


def test_wall_time_counts_waiting_and_cpu_time_does_not() -> None:
    (row,) = measure(case(peer("a", "out", 0.03)), device=CPU, rounds=3, memory=False)
    assert row.status == "measured"
    assert row.median("wall") >= 30
    assert row.median("cpu") < 15
    assert len(row.wall_ms) == len(row.cpu_ms) == 3


def test_wrong_result_is_neither_timed_nor_used_for_a_ratio() -> None:
    rows = measure(case(peer("ours", "out"), peer("bad", "eager", add=1.0)), device=CPU, rounds=2, memory=False)
    assert [row.status for row in rows] == ["measured", "wrong"]
    assert "1.0e+00" in rows[1].agreement
    assert rows[1].wall_ms == []
    (outcome,) = judge({"c": (rows, 0)}, device="cpu", busy=False, size=SIZE, goals=[GOAL])
    assert outcome.met is None
    assert "bad: wrong" in outcome.reason
    assert "| bad | WRONG |" in case_table(case(), rows, device="cpu", bandwidth=1.0)


def test_our_own_wrong_result_is_never_a_met_goal() -> None:
    rows = measure(case(peer("ours", "out", add=0.1), peer("b", "eager", 0.01)), device=CPU, rounds=2, memory=False)
    (outcome,) = judge({"c": (rows, 0)}, device="cpu", busy=False, size=SIZE, goals=[GOAL])
    assert outcome.met is None
    assert "ours: wrong" in outcome.reason


@pytest.mark.parametrize("value", [torch.full((8,), torch.nan), torch.zeros(7)])
def test_nan_and_another_shape_never_agree(value: Tensor) -> None:
    assert not close_to(EXPECTED, 1e9)(value).ok


def failing(error: Exception) -> Callable[[], Callable[[], Tensor]]:
    """A prepare function that raises."""

    def prepare() -> Callable[[], Tensor]:
        raise error

    return prepare


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModuleNotFoundError("No module named 'other'"), "not installed"),
        (Needs("wants a bigger machine"), "cannot run"),
        (ZeroDivisionError("inside the other package"), "failed"),
    ],
)
def test_peer_that_does_not_run_is_reported_and_the_others_go_on(error: Exception, status: str) -> None:
    absent = Peer("absent", failing(error), "peer", lambda x: x)
    rows = measure(case(absent, peer("ours", "out")), device=CPU, rounds=1, memory=False)
    assert [row.status for row in rows] == [status, "measured"]
    assert str(error) in rows[0].agreement
    assert str(error) in case_table(case(), rows, device="cpu", bandwidth=1.0)


def test_peer_for_another_device_is_reported() -> None:
    other = Peer("gpu only", lambda: lambda: EXPECTED, "peer", lambda x: x, devices=("cuda",))
    (row,) = measure(case(other), device=CPU, rounds=1, memory=False)
    assert (row.status, row.agreement) == ("cannot run", "runs on cuda only")


def test_peer_without_comparison_must_say_why() -> None:
    with pytest.raises(ValueError, match="note must say why"):
        Peer("silent", lambda: lambda: None, "peer")


def test_slow_peer_drops_out_after_its_budget() -> None:
    rows = measure(
        case(peer("slow", "out", 0.02), peer("quick", "eager")), device=CPU, rounds=6, budget_s=0.01, memory=False
    )
    assert len(rows[0].wall_ms) == 3


def test_extra_memory_is_what_the_call_adds() -> None:
    held = torch.ones(1 << 22)

    def call() -> float:
        return (held + 1).sum().item()  # 16 MiB for the sum of two

    peak = extra_peak_mib(call, CPU)
    if peak is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 12 < peak < 40


GOAL = Goal("four times eager", "c", "ratio", 4, roles=("eager",))


@pytest.mark.parametrize(("theirs", "met"), [(8.0, True), (4.0, True), (3.9, False)])
def test_ratio_goal_is_met_only_from_the_wanted_ratio_on(theirs: float, met: bool) -> None:
    rows = rows_of({"ours": ("out", 1.0), "fresh": ("fresh", 2.0), "eager": ("eager", theirs)})
    (outcome,) = judge({"c": (rows, 0)}, device="cpu", busy=False, size=SIZE, goals=[GOAL])
    assert outcome.met is met
    assert outcome.decided_by == "wall, out="
    assert outcome.figures["wall, out="] == pytest.approx(theirs)
    assert outcome.figures["wall, fresh"] == pytest.approx(theirs / 2)
    assert ("**no**" in goal_table([outcome])) is not met


def test_ratio_is_taken_against_the_fastest_of_the_rivals() -> None:
    rows = rows_of({"ours": ("out", 1.0), "a": ("eager", 9.0), "b": ("compile", 3.0), "c": ("peer", 1.5)})
    goal = Goal("best", "c", "ratio", 2, roles=("eager", "compile"))
    (outcome,) = judge({"c": (rows, 0)}, device="cpu", busy=False, size=SIZE, goals=[goal])
    assert outcome.figures["wall, out="] == pytest.approx(3.0)


def test_busy_machine_is_decided_by_cpu_time() -> None:
    rows = rows_of({"ours": ("out", 1.0), "eager": ("eager", 5.0)})
    rows[0].cpu_ms = [10.0]
    quiet, busy = (judge({"c": (rows, 0)}, device="cpu", busy=b, size=SIZE, goals=[GOAL])[0] for b in (False, True))
    assert (quiet.met, busy.met) == (True, False)
    assert busy.figures["cpu, out="] == pytest.approx(1.0)


def test_memory_time_and_rate_goals() -> None:
    ours, theirs = rows_of({"ours": ("fresh", 100.0), "eager": ("eager", 1.0)})
    ours.extra_peak_mib, theirs.extra_peak_mib, ours.device_ms = 60.0, 100.0, [0.019]
    goals = [
        Goal("memory", "c", "memory", 0.5, roles=("eager",)),
        Goal("more memory", "c", "memory", 0.6, roles=("eager",)),
        Goal("rate", "c", "rate", 12),
        Goal("time", "c", "time_us", 20, "cuda"),
        Goal("shorter", "c", "time_us", 18, "cuda"),
    ]
    results = {"c": ([ours, theirs], 1)}
    found = [o.met for d in ("cpu", "cuda") for o in judge(results, device=d, busy=False, size=SIZE, goals=goals)]
    assert found == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("rows", "size", "reason"),
    [
        (None, SIZE, "not run"),
        ({"eager": ("eager", 4.0)}, SIZE, "not run"),
        ({"ours": ("out", 1.0)}, SIZE, "nobody to compare with"),
        ({"ours": ("out", 1.0), "eager": ("eager", 40.0)}, 32, "32"),
    ],
)
def test_goal_that_cannot_be_judged_says_why(rows: dict | None, size: int, reason: str) -> None:
    results = {} if rows is None else {"c": (rows_of(rows), 0)}
    (outcome,) = judge(results, device="cpu", busy=False, size=size, goals=[GOAL])
    assert outcome.met is None
    assert reason in outcome.reason
    assert "not judged" in goal_table([outcome])


def test_every_goal_finds_a_rival_in_its_case() -> None:
    made = [make() for family in program.FAMILIES.values() for make in family(16, CPU)]
    peers = {case.key: case.peers for case in made}
    assert len(peers) == len(made)
    for goal in GOALS:
        names = [p.name for p in peers[goal.case] if p.role in goal.roles or p.name == goal.name]
        assert bool(names) == (goal.kind in ("ratio", "memory")), goal
        assert {p.role for p in peers[goal.case]} & {"out", "fresh"}


def test_law_of_gaussians_is_accepted_and_a_shifted_mean_is_not() -> None:
    torch.manual_seed(0)
    labels, means, stds = torch.randint(0, 5, (20, 20, 20)), torch.rand(5) * 255, torch.rand(5) + 5
    image = means[labels] + stds[labels] * torch.randn(labels.shape)
    check = in_law(labels, means, stds)
    assert check(image).ok
    assert not check(image + 2 * (labels == 3)).ok
    assert not check(image * (1 + 0.2 * (labels == 2)) - 0.2 * means[2] * (labels == 2)).ok
    assert not check(image.masked_fill(labels == 1, torch.nan)).ok


def test_inputs_are_repeatable_and_of_the_wanted_kind() -> None:
    labels = label_map(24, 6)
    assert torch.equal(labels, label_map(24, 6))
    assert labels.unique().tolist() == list(range(6))
    field = velocity(12, amplitude=2.0)
    assert field.shape == (1, 3, 12, 12, 12)
    assert field.abs().max().item() == pytest.approx(2.0)


@pytest.mark.parametrize(("add", "status"), [(0.0, 0), (1.0, 1)])
def test_program_writes_results_and_fails_for_a_wrong_peer(
    tmp_path: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    add: float,
    status: int,
) -> None:
    made = case(peer("ours", "out"), peer("other", "eager", add=add))
    monkeypatch.setattr(program, "FAMILIES", {"gmm": lambda size, device: iter([lambda: made])})
    monkeypatch.setattr("benchmarks.machine.copy_bandwidth", lambda device: 10.0)
    options = program.parse_arguments(["--only", "gmm", "--rounds", "2", "--out", str(tmp_path), "--size", "16"])
    assert program.run(options) == status
    data = json.loads((tmp_path / "benchmarks_cpu.json").read_text())
    assert [row["status"] for row in data["cases"][0]["rows"]] == ["measured", "wrong" if status else "measured"]
    assert data["machine"]["threads"] == torch.get_num_threads()
    assert data["machine"]["versions"]["torch"]
    assert "**ours**" in (tmp_path / "benchmarks.md").read_text()
    assert ("WRONG RESULT" in capsys.readouterr().err) is bool(status)


def test_unknown_family_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        program.parse_arguments(["--only", "gmm,everything"])
    assert "everything" in capsys.readouterr().err
