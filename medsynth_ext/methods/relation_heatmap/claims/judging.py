"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def _score(name: str, rule: str = "v2") -> Callable[[Figures], float]:
    return lambda figures: float(figures["rules"][rule][name])


def make_claims(limits: Mapping[str, float]) -> list[Claim]:
    """All claims; networks are compared under rule v2 with bounds from the training's counts.

    Args:
        limits: what is wanted.
    """
    f1 = _score("f1")

    def gain(results: Results, better: str, worse: str, limit: str) -> Condition:
        values = results.per_seed(lambda a, b: f1(a) - f1(b), better, worse)
        return Condition(f"F1, {better} minus {worse}", tuple(values), ">=", limits[limit])

    def learned(results: Results) -> Condition:
        """Differences between networks that have learned nothing are small and mean nothing."""
        what = "precondition: F1 of joint training"
        return Condition(what, tuple(results.per_seed(f1, "joint")), ">=", limits["learned"])

    def rule_gain(results: Results, name: str, relation: str, limit: str) -> Condition:
        values = results.per_seed(lambda f: _score(name)(f) - _score(name, "v1")(f), "joint")
        return Condition(f"{name}, rule v2 minus rule v1", tuple(values), relation, limits[limit])

    def claim1(results: Results) -> Iterable[Condition]:
        return [
            gain(results, "joint", "half_weight", "order"),
            gain(results, "half_weight", "surgery_only", "order"),
            gain(results, "joint", "surgery_only", "simulator_gain"),
            learned(results),
        ]

    def claim2(results: Results) -> Iterable[Condition]:
        return [
            rule_gain(results, "f1", ">=", "rule_gain"),
            rule_gain(results, "precision", ">", "rule_precision"),
            rule_gain(results, "sensitivity", "<", "rule_sensitivity"),
            learned(results),
        ]

    def claim3(results: Results) -> Iterable[Condition]:
        return [gain(results, "joint", "collaborative", "collaborative_loss"), learned(results)]

    def claim4(results: Results) -> Iterable[Condition]:
        values = results.per_seed(lambda a, b: abs(f1(a) - f1(b)), "adversarial", "joint")
        what = "F1, adversarial against joint training, either direction (reported, no direction is claimed)"
        return [Condition(what, tuple(values), ">=", 0.0), learned(results)]

    def claim5(results: Results) -> Iterable[Condition]:
        spread = results.per_seed(lambda *f: max(map(f1, f)) - min(map(f1, f)), "joint", *variants)
        what = "F1, largest minus smallest over the targets"
        return [Condition(what, tuple(spread), "<", limits["target_spread"]), learned(results)]

    def claim6(results: Results) -> Iterable[Condition]:
        found = results.per_seed(lambda a, b: f1(a) - b["f1"], "joint", "suture")
        close = results.per_seed(
            lambda a, b: _score("close_sensitivity")(a) - b["close_sensitivity"], "joint", "suture"
        )
        return [
            Condition("F1, joint minus suture", tuple(found), ">=", limits["over_suture"]),
            Condition("sensitivity on close pairs, joint minus suture", tuple(close), ">", limits["close_over_suture"]),
            learned(results),
        ]

    def claim7(results: Results) -> Iterable[Condition]:
        drop = results.per_seed(lambda f: f["known_sites"]["f1"] - f1(f), "joint")
        what = "F1 on new valves under the training's endoscopes minus F1 under other ones"
        return [Condition(what, tuple(drop), ">=", limits["site_drop"]), learned(results)]

    def claim8(results: Results) -> Iterable[Condition]:
        return [
            Condition(
                "peaks that kernel and twin find differently",
                tuple(results.per_seed(lambda f: f["different"], "speed")),
                "<=",
                0,
            ),
            Condition(
                "time of the twin over the kernel's, one thread",
                tuple(results.per_seed(lambda f: f["twin_s"] / f["kernel_s"], "speed")),
                ">=",
                limits["speed_ratio"],
            ),
        ]

    variants = ("small_sigma", "large_sigma", "small_window")
    gpu = "equality with CUDA and the milliseconds on a graphics card: there is none in this run"
    return [
        Claim(
            "1",
            "Simulator frames help where frames of surgery are scarce, the more the more they count.",
            ("joint", "half_weight", "surgery_only"),
            claim1,
        ),
        Claim("2", "Bounds on the number of points beat the rule of at least ten.", ("joint",), claim2),
        Claim(
            "3",
            "A network per domain with distillation is worse than joint training.",
            ("joint", "collaborative"),
            claim3,
        ),
        Claim("4", "Adversarial against joint training under one rule.", ("joint", "adversarial"), claim4),
        Claim("5", "Width and extent of the targets matter little.", ("joint", *variants), claim5),
        Claim(
            "6",
            "Better than regions of a heatmap on the same frames, on close pairs as well.",
            ("joint", "suture"),
            claim6,
        ),
        Claim("7", "Recordings of other sites are harder than others of the training's sites.", ("joint",), claim7),
        Claim("8", "Kernel and twin decode alike, the kernel quickly.", ("speed",), claim8, (gpu,)),
    ]
