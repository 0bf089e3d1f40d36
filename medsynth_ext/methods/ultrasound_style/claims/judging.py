"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def make_claims(limits: Mapping[str, float], targets: Sequence[int]) -> list[Claim]:
    """All claims.

    Args:
        limits: what is wanted.
        targets: numbers of labelled target frames, the largest first.
    """
    most, least = str(targets[0]), str(targets[-1])

    def dice(figures: Figures, count: str | int) -> float:
        return float(figures[str(count)]["mean"])

    def differ(results: Results, what: str, other: str, count: str | int, relation: str, limit: float) -> Condition:
        values = results.per_seed(lambda a, b: dice(a, count) - dice(b, count), "vt", other)
        return Condition(f"{what}, {count} target frames", tuple(values), relation, limit)

    def claim1(results: Results) -> Iterable[Condition]:
        known = results.per_seed(lambda f: f["judge_accuracy"], "transfer")
        moved = results.per_seed(lambda f: f["style_moved"], "transfer")
        lost = results.per_seed(lambda f: f["dice_before"] - f["dice_after"], "transfer")
        return [
            Condition("precondition: accuracy of the machine judge", tuple(known), ">=", limits["judge"]),
            Condition("share of outputs told as the style's machine", tuple(moved), ">=", limits["style_moved"]),
            Condition("Dice lost by the segmenter of all machines", tuple(lost), "<=", limits["content_lost"]),
        ]

    def claim2(results: Results) -> Iterable[Condition]:
        for other in ("target_aug", "ph"):
            for count in targets:
                tie = -limits["tie"] if str(count) == most else 0.0
                yield differ(results, f"Dice, vt + target minus {other}", other, count, ">=" if tie else ">", tie)
        yield differ(results, "Dice, vt + target minus target only", "target", least, ">=", limits["small_gain"])
        values = results.per_seed(
            lambda a, b: (dice(a, least) - dice(b, least)) - (dice(a, most) - dice(b, most)), "vt", "target"
        )
        what = f"that gain with {least} target frames minus the gain with {most}"
        yield Condition(what, tuple(values), ">", 0.0)

    def claim3(results: Results) -> Iterable[Condition]:
        values = results.per_seed(lambda a, b: sum(dice(a, n) - dice(b, n) for n in targets) / len(targets), "vt", "dt")
        yield Condition("Dice, vt minus dt, mean over all counts", tuple(values), ">=", -limits["tie"])
        yield differ(results, "Dice, vt minus dt", "dt", least, ">", 0.0)

    def claim4(results: Results) -> Iterable[Condition]:
        for other, limit in (("original", "over_original"), ("reference", "over_reference")):
            values = results.per_seed(
                lambda a, b: a["unobserved"]["mean"] - b["unobserved"]["mean"],
                "robust_posterior_mix",
                f"robust_{other}",
            )
            what = f"Dice on machines 7 and 8, drawn styles minus {other}"
            yield Condition(what, tuple(values), ">=", limits[limit])

    def claim5(results: Results) -> Iterable[Condition]:
        values = results.per_seed(lambda f: f["prior_distance"] / f["reference_distance"], "transfer")
        what = "distance between samples of the prior over that between machines' styles"
        return [Condition(what, tuple(values), ">=", limits["diversity"])]

    robust = ("robust_original", "robust_reference", "robust_posterior_mix")
    return [
        Claim("1", "Style moves, content stays.", ("transfer",), claim1),
        Claim(
            "2",
            "Re-rendered phantom frames help a segmenter of the target more than augmentation or raw phantom frames.",
            ("vt", "target", "target_aug", "ph"),
            claim2,
        ),
        Claim("3", "The variational transfer is no worse than the deterministic one.", ("vt", "dt"), claim3),
        Claim("4", "Styles beyond the observed ones help on machines that nobody observed.", robust, claim4),
        Claim("5", "Codes from the prior give different looks.", ("transfer",), claim5),
    ]
