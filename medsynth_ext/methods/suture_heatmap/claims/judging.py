"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def _f1(figures: Figures, decoder: str) -> float:
    return float(figures[decoder]["f1"])


def make_claims(limits: Mapping[str, float], *, translated: bool) -> list[Claim]:
    """All claims.

    Args:
        limits: what is wanted.
        translated: whether there are translated simulator frames (claim 3).
    """

    def gain(results: Results, ours: str, theirs: str, limit: str) -> Condition:
        values = results.per_seed(lambda a, b: _f1(a, "kappa_1.5") - _f1(b, "threshold"), ours, theirs)
        return Condition(f"F1, {ours} (kappa 1.5) minus {theirs}", tuple(values), ">=", limits[limit])

    def learned(results: Results) -> Condition:
        """Differences between networks that have learned nothing mean nothing."""
        values = results.per_seed(lambda f: _f1(f, "kappa_1.5"), "method")
        return Condition("precondition: F1 of the method on surgery", tuple(values), ">=", limits["learned"])

    def baseline_learned(results: Results) -> Condition:
        """A baseline that training was too short for is no baseline."""
        values = results.per_seed(lambda f: _f1(f, "threshold"), "baseline")
        what = "precondition: F1 of the baseline on surgery"
        return Condition(what, tuple(values), ">=", limits["baseline_learned"])

    def claim1(results: Results) -> Iterable[Condition]:
        sim = gain(results, "method_sim", "baseline_sim", "sim_gain")
        return [gain(results, "method", "baseline", "intraop_gain"), sim, learned(results), baseline_learned(results)]

    def claim2(results: Results) -> Iterable[Condition]:
        for score, relation in (("sensitivity", ">"), ("precision", "<")):
            values = results.per_seed(lambda a, b, s=score: a["kappa_1"][s] - b["threshold"][s], "method", "baseline")
            yield Condition(f"{score}, the paper's preset minus the baseline", tuple(values), relation, 0.0)
        yield baseline_learned(results)

    def claim3(results: Results) -> Iterable[Condition]:
        def both(figures: Figures) -> float:
            return (_f1(figures, "kappa_1") + _f1(figures, "kappa_1.5")) / 2

        for other in ("method", "joint"):
            values = results.per_seed(lambda a, b: both(a) - both(b), "translated", other)
            relation, limit = (">", "translated_gain") if other == "method" else (">=", "over_joint")
            yield Condition(
                f"F1 on surgery, mean of both kappas, translated minus {other}", tuple(values), relation, limits[limit]
            )
        yield learned(results)

    def claim4(results: Results) -> Iterable[Condition]:
        for arm in ("method", "method_sim"):
            values = results.per_seed(lambda f: _f1(f, "kappa_1.5") - _f1(f, "kappa_1"), arm)
            yield Condition(f"F1 with kappa 1.5 minus kappa 1, {arm}", tuple(values), ">=", limits["kappa_gain"])
        yield learned(results)

    def claim5(results: Results) -> Iterable[Condition]:
        def close(figures: Figures) -> float:
            return float(figures["kappa_1.5"]["close_sensitivity"])

        values = results.per_seed(lambda a, b, c: max(close(a), close(b)) - close(c), "squared", "mse", "method")
        what = "sensitivity on close pairs, the better of squared Dice and mean square minus linear Dice"
        return [Condition(what, tuple(values), ">=", limits["close_gain"]), learned(results)]

    def claim6(results: Results) -> Iterable[Condition]:
        values = results.per_seed(lambda a, b: _f1(a, "kappa_1.5") - _f1(b, "kappa_1.5"), "method_sim", "method")
        easier = Condition("F1 on simulator minus F1 on surgery", tuple(values), ">", limits["sim_easier"])
        return [easier, learned(results)]

    def claim7(results: Results) -> Iterable[Condition]:
        ratio = results.per_seed(lambda f: f["scipy_s"] / f["ours_s"], "speed")
        same = results.per_seed(lambda f: f["largest_difference"], "speed")
        return [
            Condition("time of the SciPy loop over ours, one thread", tuple(ratio), ">=", limits["speed_ratio"]),
            Condition("largest difference between the points, pixels", tuple(same), "<=", 1e-9),
        ]

    gpu = "equality of CPU and CUDA, at most 2 ms a batch and 20 times SciPy's speed on a GPU: there was none"
    claims = [
        Claim(
            "1",
            "Heatmap regions with Dice loss find more than the baseline, on surgery and on the simulator.",
            ("baseline", "method", "baseline_sim", "method_sim"),
            claim1,
        ),
        Claim("2", "They are more sensitive and less precise than the baseline.", ("baseline", "method"), claim2),
        Claim("4", "Cutting only regions above 1.5 mean areas is no worse.", ("method", "method_sim"), claim4),
        Claim("5", "Losses that keep peaks tell close pairs apart.", ("method", "squared", "mse"), claim5),
        Claim("6", "Simulator frames are easier than surgery.", ("method", "method_sim"), claim6),
        Claim(
            "7",
            "The operators are quicker than a loop over SciPy and scikit-image, with the same points.",
            ("speed",),
            claim7,
            (gpu,),
        ),
    ]
    if translated:
        sentence = "Translated simulator frames add to surgery's own, and more than untranslated ones."
        claims.insert(2, Claim("3", sentence, ("method", "joint", "translated"), claim3))
    return claims
