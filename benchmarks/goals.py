"""What was wanted of the operators, and whether a run reached it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.harness import Row

__all__ = ["GOALS", "SIZE", "Goal", "Outcome", "judge"]

SIZE = 160  # the goals are for volumes of this edge
OURS = ("out", "fresh", "variant", "twin")


@dataclass(frozen=True)
class Goal:
    """One wanted figure.

    Args:
        text: the goal in words.
        case: key of the case.
        kind: ``ratio`` (time of the others over ours), ``memory`` (our extra memory over theirs), ``time_us`` (device
            time) or ``rate`` (samples a second).
        wanted: at least this ratio or rate, at most this memory share or time.
        device: where it is meant.
        roles: which rows it is held against, the fastest of them; empty with ``name``.
        name: the row it is held against.
    """

    text: str
    case: str
    kind: str
    wanted: float
    device: str = "cpu"
    roles: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Outcome:
    """A goal's figures; ``met`` is ``None`` where it could not be judged, and ``reason`` says why."""

    goal: str
    wanted: str
    met: bool | None
    figures: dict[str, float]  # by clock and form: "wall, out=" and so on
    decided_by: str
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        return asdict(self)


EVERYONE = ("eager", "tuned", "compile", "peer")
GOALS = (
    Goal("GMM sampling, 40 labels, against plain eager PyTorch", "gmm", "ratio", 8, roles=("eager",)),
    Goal("GMM sampling, 40 labels, against the best hand-tuned PyTorch", "gmm", "ratio", 5.5, roles=("tuned",)),
    Goal("GMM sampling, 40 labels, against TorchIO", "gmm", "ratio", 200, name="TorchIO RandomLabelsToImage"),
    Goal("SVF, 7 steps, against the grid_sample composition", "svf", "ratio", 10, roles=("eager",)),
    Goal("SVF, 7 steps, against the best of all others", "svf", "ratio", 7, roles=EVERYONE),
    Goal("SVF forward and backward, against the grid_sample composition", "svf_grad", "ratio", 4, roles=("eager",)),
    Goal(
        "SVF forward and backward, memory of the grid_sample composition", "svf_grad", "memory", 0.5, roles=("eager",)
    ),
    Goal("Linear warp, against ITK", "warp_linear", "ratio", 4, name="ITK WarpImageFilter"),
    Goal("Linear warp, against voxelmorph", "warp_linear", "ratio", 8, name="voxelmorph spatial_transform"),
    Goal("Nearest label warp, against torch.compile", "warp_nearest", "ratio", 5, roles=("compile",)),
    Goal("Whole generator, against the best PyTorch composition", "generator", "ratio", 6, roles=("eager", "compile")),
    Goal("Whole generator, samples a second on two idle cores", "generator", "rate", 12),
    Goal("Parallel projection, against ASTRA's linear projector", "ct_parallel", "ratio", 8, name="ASTRA linear"),
    Goal("Parallel adjoint, against ASTRA's linear projector", "ct_parallel_adjoint", "ratio", 5, name="ASTRA linear"),
    Goal("Parallel FBP, against ASTRA's", "ct_parallel_fbp", "ratio", 5, name="ASTRA FBP linear"),
    Goal("Fan projection, against ASTRA's", "ct_fan", "ratio", 4, name="ASTRA line_fanflat"),
    Goal("Fan adjoint, against ASTRA's", "ct_fan_adjoint", "ratio", 4, name="ASTRA line_fanflat"),
    Goal("Cone projection, against RTK's Joseph", "ct_cone", "ratio", 5, name="RTK JosephForwardProjection"),
    Goal("Cone back-projection, against RTK's", "ct_cone_backproject", "ratio", 4, name="RTK BackProjection"),
    Goal("FDK, against RTK's", "ct_cone_fdk", "ratio", 8, name="RTK FDK"),
    Goal("Reconstruction with another kernel, against scikit-image", "fbpaug", "ratio", 15, name="scikit-image"),
    Goal("Its quick mode, slices a second", "fbpaug_fft2", "rate", 1000 / 30),
    Goal("Voxelisation of 8,610 triangles, meshes a second", "mesh", "rate", 1000 / 15),
    Goal("Heatmaps, against kornia", "heatmap_render", "ratio", 5, name="kornia render_gaussian2d"),
    Goal("Heatmaps, against MONAI", "heatmap_render", "ratio", 40, name="MONAI GenerateHeatmap"),
    Goal("Peaks, against PyTorch", "heatmap_peak", "ratio", 4, roles=("eager",)),
    Goal("Peaks, against numpy", "heatmap_peak", "ratio", 1.4, name="numpy argmax"),
    Goal("Peaks with DARK, against the best PyTorch form", "heatmap_dark", "ratio", 4, roles=("eager",)),
    Goal("Soft-argmax, against torch.compile", "heatmap_soft_argmax", "ratio", 6, roles=("compile",)),
    Goal("Soft-argmax, against kornia", "heatmap_soft_argmax", "ratio", 20, name="kornia spatial_soft_argmax2d"),
    Goal("Soft-argmax forward and backward", "heatmap_soft_argmax_grad", "ratio", 2, roles=EVERYONE),
    Goal("Local maxima, against OpenCV", "heatmap_nms", "ratio", 6, name="OpenCV dilate, map by map"),
    Goal("Local maxima, against kornia", "heatmap_nms", "ratio", 40, name="kornia nms2d"),
    Goal("Local maxima in 3D, against SciPy", "heatmap_nms_3d", "ratio", 20, name="SciPy maximum_filter"),
    Goal("GMM sampling on an H200", "gmm", "time_us", 20, "cuda"),
    Goal("SVF, 7 steps, on an H200", "svf", "time_us", 400, "cuda"),
    Goal("Linear warp on an H200", "warp_linear", "time_us", 40, "cuda"),
    Goal("Nearest label warp on an H200", "warp_nearest", "time_us", 25, "cuda"),
    Goal("Heatmaps on an H200", "heatmap_render", "time_us", 75, "cuda"),
    Goal("Peaks on an H200", "heatmap_peak", "time_us", 80, "cuda"),
    Goal("Peaks with DARK on an H200", "heatmap_dark", "time_us", 90, "cuda"),
    Goal("Soft-argmax on an H200", "heatmap_soft_argmax", "time_us", 90, "cuda"),
    Goal("Local maxima on an H200", "heatmap_nms", "time_us", 100, "cuda"),
    Goal("Cone projection on an H200", "ct_cone", "time_us", 1000, "cuda"),
    Goal("Cone back-projection on an H200", "ct_cone_backproject", "time_us", 600, "cuda"),
    Goal("FDK on an H200", "ct_cone_fdk", "time_us", 800, "cuda"),
    Goal("Voxelisation of 8,610 triangles on an H200", "mesh", "time_us", 500, "cuda"),
    Goal("Whole generator on an H200, samples a second", "generator", "rate", 500, "cuda"),
    Goal("Whole generator on an H200, samples a second (aim)", "generator", "rate", 2000, "cuda"),
)
SIGNS = {"ratio": "at least {:g}x", "memory": "at most {:g}x", "time_us": "at most {:g} µs", "rate": "at least {:g} /s"}


def _rivals(goal: Goal, rows: Sequence[Row]) -> list[Row]:
    """The rows that the goal is held against."""
    if goal.name:
        return [row for row in rows if row.name == goal.name]
    return [row for row in rows if row.role in goal.roles]


def _figures(goal: Goal, ours: Row, rivals: Sequence[Row], samples: int) -> dict[str, float]:
    """The goal's figures for one of our rows, by clock; the fastest rival of each clock counts."""
    if goal.kind == "time_us":
        return {"device": ours.median("device") * 1e3}
    if goal.kind == "rate":
        return {"wall": samples * 1e3 / ours.median("wall")}
    if goal.kind == "memory":
        theirs = [row.extra_peak_mib for row in rivals if row.extra_peak_mib is not None]
        known = ours.extra_peak_mib is not None and theirs and min(theirs) > 0
        return {"memory": ours.extra_peak_mib / min(theirs) if known else math.nan}
    clocks = [clock for clock in ("wall", "cpu", "device") if ours.median(clock) > 0]
    return {clock: min(row.median(clock) for row in rivals) / ours.median(clock) for clock in clocks}


def _unjudged(goal: Goal, wanted: str, reason: str, figures: dict[str, float] | None = None) -> Outcome:
    return Outcome(goal.text, wanted, None, figures or {}, "", reason)


def _judge_one(goal: Goal, rows: Sequence[Row] | None, samples: int, busy: bool, size: int) -> Outcome:
    wanted = SIGNS[goal.kind].format(goal.wanted)
    if rows is None:
        return _unjudged(goal, wanted, "this case was not run")
    forms = {row.role: row for row in rows if row.role in ("out", "fresh")}
    for row in forms.values():
        if row.status != "measured":
            return _unjudged(goal, wanted, f"{row.name}: {row.status} ({row.agreement})")
    if not forms:
        return _unjudged(goal, wanted, "our operator was not run")
    rivals = _rivals(goal, rows)
    measured = [row for row in rivals if row.status == "measured"]
    if goal.kind in ("ratio", "memory") and not measured:
        why = "; ".join(f"{row.name}: {row.status} ({row.agreement})" for row in rivals) or "nobody to compare with"
        return _unjudged(goal, wanted, why)
    labels = {"out": "out=", "fresh": "fresh"}
    figures = {
        f"{clock}, {labels[role]}": value
        for role, row in forms.items()
        for clock, value in _figures(goal, row, measured, samples).items()
    }
    clock = {"time_us": "device", "rate": "wall", "memory": "memory"}.get(goal.kind) or ("cpu" if busy else "wall")
    if goal.device == "cuda" and goal.kind == "ratio":
        clock = "device"
    decided_by = f"{clock}, {labels['out' if 'out' in forms else 'fresh']}"
    value = figures.get(decided_by, math.nan)
    if math.isnan(value):
        return _unjudged(goal, wanted, f"{decided_by} was not measured", figures)
    if size != SIZE:
        return _unjudged(goal, wanted, f"the goal is for {SIZE}^3, this run used {size}^3", figures)
    met = value >= goal.wanted if goal.kind in ("ratio", "rate") else value <= goal.wanted
    return Outcome(goal.text, wanted, met, figures, decided_by)


def judge(
    results: Mapping[str, tuple[Sequence[Row], int]],  # case key -> rows, samples a call
    *,
    device: str,
    busy: bool,
    size: int,
    goals: Sequence[Goal] = GOALS,
) -> list[Outcome]:
    """Hold every goal of the device against a run.

    Ratios are decided by medians of wall time, or of CPU time on a machine that other work keeps busy, and by the
    ``out=`` form where there is one; all figures are in the outcome.
    """
    outcomes = []
    for goal in goals:
        if goal.device == device:
            rows, samples = results.get(goal.case, (None, 0))
            outcomes.append(_judge_one(goal, rows, samples, busy, size))
    return outcomes
