"""Reads what the stages of gpu_check.py wrote, and the table made of it."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["read_benchmarks", "read_tests", "read_training", "report"]

GENERATOR_GOAL, GENERATOR_AIM = 500, 2000  # pairs of 160^3 a second on an H200


def read_tests(xml: Path) -> dict[str, Any]:
    """Counts and the names of failed tests from pytest's XML file."""
    if not xml.exists():
        return {}
    suites = list(ElementTree.parse(xml).getroot().iter("testsuite"))
    count = {k: sum(int(s.get(k, 0)) for s in suites) for k in ("tests", "failures", "errors", "skipped")}
    bad = [
        f"{case.get('classname')}::{case.get('name')}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    return {"passed": passed, "failed": failed, "skipped": count["skipped"], "failed_tests": bad[:20]}


def read_benchmarks(path: Path) -> dict[str, Any]:
    """The goals and how many rows were measured, from the benchmarks' JSON file."""
    data = json.loads(path.read_text())
    rows = [row for case in data["cases"] for row in case["rows"]]
    states = sorted({row["status"] for row in rows})
    ours = {
        case["key"]: {
            row["name"]: row["device_median_ms"] or row["wall_median_ms"]
            for row in case["rows"]
            if row["role"] in ("out", "fresh") and row["status"] == "measured"
        }
        for case in data["cases"]
    }
    counts = {state: sum(row["status"] == state for row in rows) for state in states}
    bandwidth = data["machine"]["bandwidth_gb_per_s"]
    return {"goals": data["goals"], "rows": counts, "median_ms": ours, "bandwidth_gb_per_s": bandwidth}


def read_training(folder: Path, start: Path | None) -> dict[str, Any]:
    """Loss at the start and at the end, iterations and the last validation, from the training's own files."""
    figures: dict[str, Any] = {"from": str(start) if start else "random weights"}
    losses = []
    if (folder / "loss.csv").exists():
        with (folder / "loss.csv").open(newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")]
    if losses:
        n = max(1, min(20, len(losses) // 4))
        figures |= {"iterations": len(losses), "averaged": n}
        figures |= {"loss_before": sum(losses[:n]) / n, "loss_after": sum(losses[-n:]) / n}
    if (folder / "epochs.json").exists():
        metrics = [e["metrics"] for e in json.loads((folder / "epochs.json").read_text()) if "metrics" in e]
        figures |= {"validation_first": metrics[0], "validation_last": metrics[-1]} if metrics else {}
    return figures


def _goal_rows(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for goal in stages.get("benchmarks", {}).get("goals", []):
        value = goal["figures"].get(goal["decided_by"])
        measured = "-" if value is None else f"{value:.4g} ({goal['decided_by']})"
        met = {True: "yes", False: "**no**", None: f"not judged: {goal['reason']}"}[goal["met"]]
        rows.append(f"| {goal['goal']} | {goal['wanted']} | {measured} | {met} |")
    batches = stages.get("generator", {}).get("batches", [])
    full = [b for b in batches if b["size"] == 160]
    if full:
        best = max(full, key=lambda b: b["samples_per_second"])
        rate = best["samples_per_second"]
        for text, wanted in (("goal", GENERATOR_GOAL), ("aim", GENERATOR_AIM)):
            met = "yes" if rate >= wanted else "**no**"
            rows.append(
                f"| Generator, best batch ({best['batch']}), {text} | at least {wanted} /s | {rate:.0f} | {met} |"
            )
    return rows


def _results(name: str, record: Mapping[str, Any]) -> str:
    """One stage's figures in a phrase."""
    if name == "tests" and "passed" in record:
        return f"{record['passed']} passed, {record['failed']} failed, {record['skipped']} skipped"
    if name == "benchmarks" and "rows" in record:
        return ", ".join(f"{count} rows {state}" for state, count in record["rows"].items())
    if name == "generator" and "batches" in record:
        rates = [f"batch {b['batch']}: {b['samples_per_second']:.4g} /s" for b in record["batches"]]
        against = record.get("against_cpu")
        text = (
            f"; against the CPU: image off by {against['image']:.1e}, {against['labels']:.1e} labels differ"
            if against
            else ""
        )
        return ", ".join(rates) + text
    if name == "training" and "loss_before" in record:
        dice = record.get("validation_last")
        change = f"loss {record['loss_before']:.4f} -> {record['loss_after']:.4f} (means of {record['averaged']})"
        return f"{change} in {record['iterations']} iterations" + (f", validation {dice}" if dice else "")
    if name == "build" and "build_info" in record:
        info = record["build_info"]
        return f"{info.get('cuda_archs') or 'no CUDA'}, {info.get('compiler', '')}"
    return f"{record['installed']} wheels" if "installed" in record else ""


def report(machine: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> str:
    """The table at the end."""
    where = machine.get("gpu") or "no GPU"
    lines = ["# GPU check", "", f"{where}, torch {machine.get('torch')}, Python {machine.get('python')}", ""]
    lines += ["| stage | state | seconds | result |", "|---|---|---:|---|"]
    for name, record in stages.items():
        said = "; ".join(t for t in (_results(name, record), str(record.get("reason", ""))) if t).replace("|", "\\|")
        lines.append(f"| {name} | {record['state']} | {record.get('seconds', '')} | {said} |")
    failed = stages.get("tests", {}).get("failed_tests", [])
    lines += ["", "Failed tests:", "", *[f"- {name}" for name in failed]] if failed else []
    rows = _goal_rows(stages)
    if rows:
        lines += ["", "| goal | wanted | measured | met |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"
