"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]
SINGLE = ("view_x", "view_y", "view_z")


def make_claims(limits: Mapping[str, float], *, spacing_mm: float) -> list[Claim]:
    """All claims of the card."""

    def one(results: Results, what: str, key: str, arm: str, relation: str, limit: float) -> Condition:
        return Condition(what, tuple(results.per_seed(lambda f: f[key], arm)), relation, limit)

    def ratio(results: Results, what: str, key: str, above: str, below: str, relation: str, limit: float) -> Condition:
        values = results.per_seed(lambda a, b: a[key] / max(b[key], 1e-9), above, below)
        return Condition(what, tuple(values), relation, limit)

    def claim1(results: Results) -> Iterable[Condition]:
        voxels = results.per_seed(lambda f: f["error_mm"] / spacing_mm, "full")
        raters = results.per_seed(lambda f: f["annotated_error_mm"] / f["intra_rater_mm"], "full")
        return [
            Condition("mean error in voxels", tuple(voxels), "<=", limits["error_voxels"]),
            Condition("mean error over the intra-rater error", tuple(raters), "<=", limits["error_over_rater"]),
        ]

    def claim2(results: Results) -> Iterable[Condition]:
        what = "mean error without localisation over that with it"
        return [ratio(results, what, "error_mm", "naive", "full", ">=", limits["naive_ratio"])]

    def claim3(results: Results) -> Iterable[Condition]:
        nearer = results.per_seed(lambda f: f["start_distance_mm"] - f["last_distance_mm"], "from_centre")
        what = "distance to the true centre, at the start minus after the last iteration, in mm"
        share = "share of targets that stand after at most 6 iterations"
        return [
            one(results, share, "within_six", "from_centre", ">=", limits["within_six"]),
            Condition(what, tuple(nearer), ">", limits["nearer_mm"]),
        ]

    def claim4(results: Results) -> Iterable[Condition]:
        return [
            ratio(
                results,
                f"error of the centre, product over {arm}",
                "last_distance_mm",
                "full",
                arm,
                "<",
                limits["fusion_ratio"],
            )
            for arm in (*SINGLE, "mean")
        ]

    def claim5(results: Results) -> Iterable[Condition]:
        what = "mean error, with demons over rigid"
        return [ratio(results, what, "error_mm", "full", "rigid", "<", limits["refined_ratio"])]

    def claim6(results: Results) -> Iterable[Condition]:
        what = "mean error, with principal axes over without"
        flipped = "share of targets turned wrongly by more than 90 degrees"
        return [
            ratio(results, what, "error_mm", "full", "no_axes", "<", limits["axes_ratio"]),
            one(results, flipped, "flipped", "full", "<=", limits["flipped"]),
        ]

    return [
        Claim("1", "The error is that of a person's second look, 2 to 3 voxels.", ("full",), claim1),
        Claim("2", "Registration without localisation is many times worse.", ("full", "naive"), claim2),
        Claim("3", "The localisation converges within 6 iterations.", ("from_centre",), claim3),
        Claim("4", "The product of three views beats every view and their mean.", ("full", *SINGLE, "mean"), claim4),
        Claim("5", "The deformation refines the rigid transfer.", ("full", "rigid"), claim5),
        Claim("6", "Principal axes help, and no target is flipped.", ("full", "no_axes"), claim6),
    ]
