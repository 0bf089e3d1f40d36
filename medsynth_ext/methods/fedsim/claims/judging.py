"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def _mean(figures: Figures, name: str = "dice") -> float:
    """Mean over sites and numbers of labels."""
    return statistics.fmean(cell[name] for cell in figures.values())


def _worst_gap(better: Figures, worse: Figures) -> float:
    return min(better[cell]["dice"] - worse[cell]["dice"] for cell in better)


def make_claims(limits: Mapping[str, float], *, sites: Sequence[str], seeds: int) -> list[Claim]:
    """The claims that one hospital at a time can decide."""

    def gap(results: Results, better: str, worse: str, limit: float, *, relation: str = ">=") -> Condition:
        values = results.per_seed(lambda a, b: _mean(a) - _mean(b), better, worse)
        return Condition(f"Dice in points, {better} minus {worse}", tuple(values), relation, limit)

    def learned(results: Results) -> Condition:
        values = results.per_seed(_mean, "lower")
        return Condition("precondition: Dice of the lower bound", tuple(values), ">=", limits["learned"])

    def claim1(results: Results) -> Iterable[Condition]:
        worst = results.per_seed(lambda p, f, b: min(_worst_gap(p, b), _worst_gap(f, b)), "pre", "full", "lower")
        return [
            gap(results, "pre", "lower", limits["gain"]),
            gap(results, "full", "lower", limits["gain"]),
            Condition("Dice in points, worst cell of pre and full minus lower", tuple(worst), ">=", limits["worst"]),
            learned(results),
        ]

    def claim2(results: Results) -> Iterable[Condition]:
        values = results.per_seed(lambda p, f, m: (_mean(p) + _mean(f)) / 2 - _mean(m), "pre", "full", "fix_mat")
        tie = results.per_seed(lambda p, f: abs(_mean(f) - _mean(p)), "pre", "full")
        what = "Dice in points, mean of pre and full minus fix_mat"
        return [
            Condition(what, tuple(values), ">=", limits["material_gain"]),
            Condition("Dice in points, difference of full and pre", tuple(tie), "<=", limits["tie"]),
        ]

    def claim3(results: Results) -> Iterable[Condition]:
        return [
            gap(results, "alpha", "random_shape", 0.0, relation=">"),
            gap(results, "poisson", "alpha", 0.0),
            gap(results, "learned_shape", "poisson", 0.0, relation=">"),
            gap(results, "learned_shape", "random_shape", limits["ablation_gap"]),
        ]

    def claim5(results: Results) -> Iterable[Condition]:
        def drop(figures: Figures) -> float:
            gaps = [
                c["dice"] - d for cell, c in figures.items() if cell[0] == sites[0] for d in c["elsewhere"].values()
            ]
            return statistics.fmean(gaps)

        values = results.per_seed(drop, "lower")
        what = f"Dice in points that the lower bound of site {sites[0]} loses elsewhere"
        return [Condition(what, tuple(values), ">", 0.0)]

    def claim6(results: Results) -> Iterable[Condition]:
        conditions = []
        for kind, what in (("label", "1 - Dice of labels"), ("volume", "RMSE of volumes")):

            def ratio(figures: Figures, kind: str = kind) -> float:
                return _mean(figures, f"{kind}_distance") / _mean(figures, f"{kind}_distance_inside")

            values = results.per_seed(ratio, "samples")
            text = f"nearest training patient of a sample over that of a training patient, {what}"
            conditions.append(Condition(text, tuple(values), ">=", limits["novelty"]))
        return conditions

    def claim7(results: Results) -> Iterable[Condition]:
        ratio = results.per_seed(lambda f: _mean(f, "dice_on_full") / _mean(f), "upper")
        seams = results.per_seed(lambda f: _mean(f, "dice_on_fixed") - _mean(f, "dice_on_alpha"), "upper")
        return [
            Condition("Dice on generated over Dice on real volumes", tuple(ratio), ">=", limits["fidelity"]),
            Condition("Dice in points, generated hearts minus pasted ones", tuple(seams), ">", 0.0),
        ]

    def claim8(results: Results) -> Iterable[Condition]:
        shape = results.per_seed(lambda f: _mean(f, "shape_iou"), "samples")
        material = results.per_seed(lambda f: _mean(f, "material_error"), "samples")
        return [
            Condition("IoU of fitted and true hearts after stage A", tuple(shape), ">=", limits["shape_iou"]),
            Condition("error of the coarse CT over its deviation", tuple(material), "<=", limits["material_error"]),
        ]

    def claim9(results: Results) -> Iterable[Condition]:
        def read(measure: Callable[[Figures], float]) -> tuple[float, ...]:
            return tuple(results.per_seed(measure, "gradients"))

        return [
            Condition("cosine of both shape gradients", read(lambda f: f["cosine"]), ">=", limits["cosine"]),
            Condition(
                "time of differences over surface", read(lambda f: f["fd_s"] / f["surface_s"]), ">=", limits["speed"]
            ),
            Condition(
                "relative error of the simulator's gradient", read(lambda f: f["simulator_gradient_error"]), "<=", 1e-6
            ),
        ]

    def claim10(results: Results) -> Iterable[Condition]:
        conditions = [gap(results, "full", "unfrozen", 0.0)]
        if seeds > 1:
            spread = [statistics.pstdev(results.per_seed(_mean, name)) for name in ("unfrozen", "full")]
            conditions.append(
                Condition("deviation over seeds, unfrozen minus full", (spread[0] - spread[1],), ">=", 0.0)
            )
        return conditions

    ablation = ("random_shape", "alpha", "poisson", "learned_shape")
    claims = [
        Claim("1", "Training on generated patients first helps.", ("lower", "pre", "full"), claim1),
        Claim("2", "A learned material helps; the last stage is level.", ("pre", "full", "fix_mat"), claim2),
        Claim("3", "Random shapes < pasted < blended < learned shapes.", ablation, claim3),
        Claim("6", "Generated patients are new.", ("samples",), claim6),
        Claim("7", "Generated volumes fit their labels.", ("upper",), claim7),
        Claim("8", "Shape and material fit the labelled patients.", ("samples",), claim8),
        Claim("9", "The exact shape gradient agrees with differences and is faster.", ("gradients",), claim9),
        Claim("10", "A frozen discriminator makes the last stage stable.", ("full", "unfrozen"), claim10),
    ]
    if len(sites) > 1:
        federated = "a simulator of all sites against direct federated training: arms of the federated study"
        claims.insert(
            3, Claim("5", "Other scanners are harder for a segmenter of one site.", ("lower",), claim5, (federated,))
        )
    return claims
