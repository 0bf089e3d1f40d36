"""Measure the operators against plain PyTorch and other packages, in one run.

    python -m benchmarks [--only gmm,diffeo,blur,heatmap,projector,ct_kernel,mesh,generator] [--rounds N]
                         [--device cpu|cuda] [--out benchmarks/results]

Results are written after every case, so a run may be stopped: OUT/benchmarks_<device>.json and a Markdown table, which
for a complete run at full size is docs/benchmarks.md (docs/benchmarks_cuda.md). The exit status is 1 when a peer's
result is not the expected one. What other packages need is in benchmarks/requirements-peers.txt; a missing one is named
in the table.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

# Threads that wait must not count as CPU time; the OpenMP runtime reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from benchmarks import (
    bench_blur,
    bench_ct_kernel,
    bench_diffeo,
    bench_generator,
    bench_gmm,
    bench_heatmap,
    bench_mesh,
    bench_projector,
)
from benchmarks.goals import SIZE, judge
from benchmarks.harness import Row, measure
from benchmarks.machine import facts
from benchmarks.memory import settle_allocator
from benchmarks.report import case_table, goal_table, machine_lines, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {
    "gmm": bench_gmm.cases,
    "diffeo": bench_diffeo.cases,
    "blur": bench_blur.cases,
    "heatmap": bench_heatmap.cases,
    "ct_kernel": bench_ct_kernel.cases,
    "mesh": bench_mesh.cases,
    "projector": bench_projector.cases,
    "generator": bench_generator.cases,
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FAMILIES), help="families, separated by commas")
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which every peer runs once")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON file")
    parser.add_argument("--docs", type=Path, help="Markdown file; by default docs/ for a complete run, else OUT")
    parser.add_argument("--size", type=int, default=SIZE, help="edge of the volumes; the goals are for 160")
    parser.add_argument("--threads", type=int, help="threads for everyone; all cores by default")
    parser.add_argument("--budget", type=float, default=40.0, help="seconds after which a slow peer drops out")
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    unknown = [name for name in options.only if name not in FAMILIES]
    if unknown:
        parser.error(f"--only must name some of {', '.join(FAMILIES)}, got {unknown[0]}")
    if options.rounds < 1 or options.size < 16 or (options.threads is not None and options.threads < 1):
        parser.error("--rounds and --threads must be at least 1, --size at least 16")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but torch sees no CUDA device")
    if options.docs is None:
        name = "benchmarks.md" if options.device == "cpu" else "benchmarks_cuda.md"
        complete = options.size == SIZE and set(options.only) == set(FAMILIES)
        options.docs = (ROOT / "docs" if complete else options.out) / name
    return options


def run(options: argparse.Namespace) -> int:
    """Measure all cases; 0, or 1 when a result was wrong."""
    settle_allocator()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    machine = facts(device)
    results: dict[str, tuple[list[Row], int]] = {}
    tables: list[str] = []
    data = {"machine": machine, "rounds": options.rounds, "size": options.size, "cases": [], "goals": []}
    head = f"# Benchmarks ({options.device})\n\n{machine_lines(machine, options.rounds)}\n## Goals\n\n"
    for family in options.only:
        for make in FAMILIES[family](options.size, device):
            begun = time.perf_counter()
            case = make()
            rows = measure(case, device=device, rounds=options.rounds, budget_s=options.budget)
            results[case.key] = (rows, case.samples)
            tables.append(case_table(case, rows, device=options.device, bandwidth=machine["bandwidth_gb_per_s"]))
            record = {"key": case.key, "title": case.title, "least_bytes": case.least_bytes, "samples": case.samples}
            data["cases"].append(record | {"rows": [row.record() for row in rows]})
            outcomes = judge(results, device=options.device, busy=machine["busy"], size=options.size)
            data["goals"] = [outcome.record() for outcome in outcomes]
            write_json(options.out / f"benchmarks_{options.device}.json", data)
            write_text(options.docs, "\n".join([head + goal_table(outcomes), "## Cases\n", *tables]))
            print(f"{tables[-1]}({time.perf_counter() - begun:.0f} s)\n", flush=True)
            del case
    print("## Goals\n\n" + goal_table(judge(results, device=options.device, busy=machine["busy"], size=options.size)))
    print(f"written to {options.docs} and {options.out / f'benchmarks_{options.device}.json'}")
    wrong = [
        f"{key}: {row.name}: {row.agreement}"
        for key, (rows, _) in results.items()
        for row in rows
        if row.status == "wrong"
    ]
    for line in wrong:
        print(f"WRONG RESULT, not timed: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"(?!medsynth_ext|benchmarks)")
    sys.exit(run(parse_arguments()))
