"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def make_claims(limits: Mapping[str, float], *, real: bool) -> list[Claim]:
    """All claims.

    Args:
        limits: what is wanted.
        real: whether there are arms on projections of a real chest CT (claim 8).
    """

    def ratio(results: Results, better: str, worse: str, key: str = "mean_px") -> tuple[float, ...]:
        return tuple(results.per_seed(lambda a, b: a[key] / max(b[key], 1e-9), better, worse))

    def compare(results: Results, better: str, worse: str, limit: str, relation: str = "<=") -> Condition:
        return Condition(f"mean error, {better} over {worse}", ratio(results, better, worse), relation, limits[limit])

    def learned(results: Results, arm: str) -> Condition:
        """Differences between networks that have learned nothing mean nothing."""
        values = tuple(results.per_seed(lambda f: f["validation_share"], arm))
        what = f"precondition: validation error of {arm} as a share of the width"
        return Condition(what, values, "<=", limits["converged"])

    def claim1(results: Results) -> Iterable[Condition]:
        return [compare(results, "teacher_10", "dag_10", "stage2_gain"), learned(results, "dag_10")]

    def claim2(results: Results) -> Iterable[Condition]:
        return [
            compare(results, "teacher_js_5", "teacher_5", "js_at_5"),
            compare(results, "teacher_js_50", "teacher_50", "js_at_50"),
            learned(results, "dag_5"),
        ]

    def claim3(results: Results) -> Iterable[Condition]:
        for arm in ("teacher_10", "teacher_js_10"):
            values = results.per_seed(lambda a, b: a["failure_rate"] - b["failure_rate"], arm, "dag_10")
            yield Condition(f"failure rate, {arm} minus dag_10", tuple(values), "<", 0.0)

    def claim4(results: Results) -> Iterable[Condition]:
        values = results.per_seed(
            lambda a, b, c, d: (1 - a["mean_px"] / b["mean_px"]) - (1 - c["mean_px"] / d["mean_px"]),
            "teacher_js_5",
            "dag_5",
            "teacher_js_50",
            "dag_50",
        )
        return [
            Condition("relative gain with 5 labelled minus that with 50", tuple(values), ">", 0.0),
            learned(results, "dag_5"),
        ]

    def claim5(results: Results) -> Iterable[Condition]:
        return [compare(results, "dag_10", "heatmap_10", "over_heatmap")]

    def claim6(results: Results) -> Iterable[Condition]:
        return [
            compare(results, "teacher_10", "pi_10", "over_pi", "<"),  # equal where neither improved on stage 1
            compare(results, "teacher_10", "pseudo_10", "over_pseudo"),
        ]

    def claim7(results: Results) -> Iterable[Condition]:
        error = tuple(results.per_seed(lambda f: f["validation_share"], "dag_1"))
        said = tuple(results.per_seed(lambda f: float(f["refused"]), "dag_1"))
        return [
            Condition("validation error with one label as a share of the width", error, ">", limits["converged"]),
            Condition("share of seeds in which the workflow refuses to go on", said, ">=", 1.0),
        ]

    def claim8(results: Results) -> Iterable[Condition]:
        what = "share of points of the real chest within 5 % of the width"
        found = results.per_seed(lambda f: 1 - f["failure_rate"], "chest_teacher_js_10")
        return [
            compare(results, "chest_teacher_js_10", "chest_dag_10", "real_gain", "<"),
            Condition(what, tuple(found), ">=", limits["real_success"]),
            learned(results, "chest_dag_10"),
        ]

    semi = ("teacher_10", "teacher_js_10")
    ends = ("dag_5", "teacher_js_5", "dag_50", "teacher_js_50")
    claims = [
        Claim("1", "The semi-supervised stage lowers the error.", ("dag_10", "teacher_10"), claim1),
        Claim(
            "2",
            "Feature consistency lowers it further with 5 labels and does no harm with 50.",
            ("dag_5", "teacher_5", "teacher_js_5", "teacher_50", "teacher_js_50"),
            claim2,
        ),
        Claim("3", "Both semi-supervised variants fail less often.", ("dag_10", *semi), claim3),
        Claim("4", "The gain shrinks with more labels.", ends, claim4),
        Claim("5", "The graph beats heatmaps in mean error with 10 labels.", ("dag_10", "heatmap_10"), claim5),
        Claim(
            "6",
            "The mean teacher beats the Pi-model and is no worse than pseudo-labels.",
            ("teacher_10", "pi_10", "pseudo_10", "temporal_10"),
            claim6,
        ),
        Claim("7", "With one labelled image stage 1 does not converge, and the workflow says so.", ("dag_1",), claim7),
    ]
    if real:
        sentence = "The same on projections of a real chest CT: ribs and vertebrae are found, the second stage helps."
        claims.append(Claim("8", sentence, ("chest_dag_10", "chest_teacher_js_10"), claim8))
    return claims
