"""Runs a study: shared data, then every arm with every seed, then the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from tqdm import tqdm

from medsynth_ext.claims.claim import Claim, Outcome, Results
from medsynth_ext.claims.machine import machine_record, version_record
from medsynth_ext.claims.report import outcome_lines, write_report
from medsynth_ext.claims.store import ResultStore
from medsynth_ext.claims.study import Arm, Progress, Study
from medsynth_ext.claims.workers import Task, run_tasks
from medsynth_ext.data.files import write_json

__all__ = ["run_bundle", "run_study"]


def run_bundle(bundle: str | Path, **overrides: Any) -> list[Outcome]:
    """Run ``configs/claims.json`` of a bundle folder; ``overrides`` replace entries of the config by name.

    Raises:
        FileNotFoundError: when the bundle has no claims.
        ValueError: when the config has no entry of an override's name, or the study refuses its settings.
    """
    path = Path(bundle) / "configs" / "claims.json"
    if not path.is_file():
        raise FileNotFoundError(f"the claims of a bundle are in configs/claims.json, but {path} does not exist")
    parser = ConfigParser()
    parser.read_config(str(path))
    parser["bundle_root"] = str(bundle)
    for name, value in overrides.items():
        if name not in parser.get():
            raise ValueError(f"{path} has no entry {name!r} that could be set to {value!r}")
        parser[name] = value
    try:
        return parser.get_parsed_content("run")[-1]
    except RuntimeError as error:
        raise _root(error) from None


def _root(error: BaseException) -> BaseException:
    """What went wrong inside of an expression of a config: MONAI wraps it in a RuntimeError that shows the config."""
    while str(error).startswith("Failed to evaluate") and error.__cause__ is not None:
        error = error.__cause__
    return error


def run_study(
    study: Study,
    *,
    bundle: str,
    scale: str,
    out: str | Path,
    work: str | Path,
    only: str | Sequence[str] | None = None,
    resume: bool = True,
    workers: int = 1,
    data_workers: int | None = None,
    device: str = "cpu",
    reasons: dict[str, str] | None = None,
) -> list[Outcome]:
    """Run all arms that the claims need, judge the claims, write ``claims.json`` and a figure.

    Finished arms are kept in ``work`` and not run again for the same settings, so a killed run goes on where it was.

    Args:
        study: the method's arms and claims.
        bundle: name for the report.
        scale: name of the size at which it runs; a report keeps one record per scale.
        out: folder of ``claims.json`` and ``claims_<scale>.png``.
        work: folder of intermediate results, may be deleted afterwards.
        only: ids of single claims to run; their report goes to ``work`` instead of ``out``.
        resume: whether to use what an earlier run left in ``work``.
        workers: processes of one thread each that run arms beside each other.
        data_workers: the same for making the shared data; as ``workers`` when ``None``.
        device: for the report.
        reasons: for claims that are known not to hold, why.

    Returns:
        One outcome per claim.

    Raises:
        ValueError: for a claim that the study does not have.
        RuntimeError: when an arm fails.
    """
    started = time.time()
    claims = _chosen(study.claims(), only)
    needed = {name for claim in claims for name in claim.arms}
    arms = [arm for arm in study.arms() if arm.name in needed]
    unknown = sorted(needed - {arm.name for arm in arms})
    if unknown:
        raise ValueError(f"a claim needs the arm {unknown[0]}, but the study has only {[a.name for a in study.arms()]}")
    store = ResultStore(Path(work) / scale)
    if not resume:
        for arm in arms:
            for seed in arm.seeds:
                store.discard(arm, seed)
    _prepare(study, arms, store, data_workers or workers)
    _run_arms(study, arms, store, workers)

    records = {arm.name: {seed: store.load(arm, seed) for seed in arm.seeds} for arm in arms}
    results = Results({name: {s: r["figures"] for s, r in seeds.items() if r} for name, seeds in records.items()})
    outcomes = [claim.outcome(results, reason=(reasons or {}).get(claim.id, "")) for claim in claims]
    record = {
        "scale": scale,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": version_record(),
        "machine": machine_record(workers=workers, device=device),
        "duration_s": {
            "this_run": round(time.time() - started, 1),
            "sum_over_arms_and_seeds": round(sum(r["seconds"] for s in records.values() for r in s.values() if r), 1),
        },
        "claims": [outcome.record() for outcome in outcomes],
        "arms": {
            arm.name: {
                "description": arm.description,
                "seeds": list(arm.seeds),
                "settings": dict(arm.settings),
                "figures": {str(seed): record["figures"] for seed, record in records[arm.name].items() if record},
                "seconds": {str(seed): record["seconds"] for seed, record in records[arm.name].items() if record},
            }
            for arm in arms
        },
    }
    folders = {f"{arm.name}/{seed}": store.folder(arm, seed) for arm in arms for seed in arm.seeds}
    if only:
        target = store.root / "only"
        write_json(target / "claims.json", {"bundle": bundle, "runs": {scale: record}})
    else:
        target = Path(out)
        write_report(target, bundle=bundle, record=record, outcomes=outcomes, figure=study.draw(results, folders))
    print("\n".join(outcome_lines(outcomes)))
    print(f"written to {target / 'claims.json'}")
    return outcomes


def _chosen(claims: Sequence[Claim], only: str | Sequence[str] | None) -> list[Claim]:
    if only is None:
        return list(claims)
    wanted = [only] if isinstance(only, str | int) else list(only)
    names = {str(name) for name in wanted}
    unknown = sorted(names - {claim.id for claim in claims})
    if unknown:
        raise ValueError(f"there is no claim {unknown[0]}; there are {', '.join(claim.id for claim in claims)}")
    return [claim for claim in claims if claim.id in names]


class _Bar:
    """One progress bar for many tasks that report fractions."""

    def __init__(self, total: int, unit: str) -> None:
        form = "{l_bar}{bar}| {n:.1f}/{total:.0f} {unit} [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(total=float(total), unit=unit, desc="claims", bar_format=form, mininterval=1.0)
        self.done = 0
        self.open: dict[str, float] = {}

    def report(self, name: str, fraction: float, text: str) -> None:
        self.open[name] = min(max(fraction, 0.0), 1.0)
        self.bar.set_postfix_str(f"{name}: {text}" if text else name, refresh=False)
        self._show()

    def close_task(self, name: str) -> None:
        self.open.pop(name, None)
        self.done += 1
        self._show()

    def _show(self) -> None:
        self.bar.update(self.done + sum(self.open.values()) - self.bar.n)

    def close(self) -> None:
        self.bar.close()


def _prepare(study: Study, arms: Sequence[Arm], store: ResultStore, workers: int) -> None:
    items = study.items(arms)
    if not items:
        return
    store.data.mkdir(parents=True, exist_ok=True)
    bar = _Bar(len(items), "data")
    tasks = [Task(item, _prepare_item, (study, item, store.data)) for item in items]
    run_tasks(tasks, workers=workers, report=bar.report, finished=lambda place, _: bar.close_task(items[place]))
    bar.close()


def _prepare_item(study: Study, item: str, data: Path, *, progress: Progress) -> None:
    study.prepare(item, data=data, progress=progress)


def _run_arms(study: Study, arms: Sequence[Arm], store: ResultStore, workers: int) -> None:
    # Seed by seed, so that a run that is stopped early has compared all arms with the first seeds.
    cells = [(arm, seed) for arm in arms for seed in arm.seeds if store.load(arm, seed) is None]
    cells.sort(key=lambda cell: cell[0].seeds.index(cell[1]))
    bar = _Bar(len(cells), "arms x seeds")
    for alone in (False, True):
        part = [cell for cell in cells if cell[0].alone == alone]
        tasks = [
            Task(f"{arm.name} seed {seed}", _run_cell, (study, arm, seed, store.folder(arm, seed), store.data))
            for arm, seed in part
        ]

        def finished(place: int, result: tuple[dict[str, Any], float], part: list = part, tasks: list = tasks) -> None:
            (arm, seed), (figures, seconds) = part[place], result
            store.save(arm, seed, figures, seconds)
            bar.close_task(tasks[place].name)

        run_tasks(tasks, workers=1 if alone else workers, report=bar.report, finished=finished)
    bar.close()


def _run_cell(
    study: Study, arm: Arm, seed: int, folder: Path, data: Path, *, progress: Progress
) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    figures = study.run(arm, seed, folder=folder, data=data, progress=progress)
    return figures, time.perf_counter() - started
