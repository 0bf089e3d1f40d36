"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]
_BACKBONES = ("unet", "fc_net", "res_net")


def _method(backbone: str) -> str:
    return "method" if backbone == "unet" else f"{backbone}_method"


def _gain(better: Figures, worse: Figures, region: str) -> float:
    """Relative fall of the HU error in a region."""
    return 1 - better["mae_hu"][region] / worse["mae_hu"][region]


def make_claims(limits: Mapping[str, float]) -> list[Claim]:
    """All claims, for the limits of a scale."""

    def over(
        results: Results, measure: Callable[[Figures], float], a: str, b: str, what: str, limit: str, relation: str
    ) -> Condition:
        values = results.per_seed(lambda f, g: measure(f) / measure(g), a, b)
        return Condition(f"{what}, {a} over {b}", tuple(values), relation, limits[limit])

    def whole(figures: Figures) -> float:
        return figures["mae_hu"]["whole"]

    def flat_curve(results: Results, arm: str) -> Condition:
        values = results.per_seed(lambda f: f["last_fall"], arm)
        return Condition(f"precondition: fall of {arm}'s loss in the last fifth", tuple(values), "<=", limits["flat"])

    def claim1(results: Results) -> Iterable[Condition]:
        gain = results.per_seed(lambda a, b: _gain(a, b, "whole"), "method", "unet")
        edges = results.per_seed(lambda a, b: _gain(a, b, "edges") - _gain(a, b, "flat"), "method", "unet")
        return [
            Condition("relative gain of the whole-volume HU error", tuple(gain), ">=", limits["gain"]),
            Condition("gain at edges minus gain elsewhere", tuple(edges), ">", 0.0),
            flat_curve(results, "unet"),
            flat_curve(results, "method"),
        ]

    def claim2(results: Results) -> Iterable[Condition]:
        for name in _BACKBONES:
            gain = results.per_seed(lambda a, b: _gain(a, b, "whole"), _method(name), name)
            yield Condition(f"gain of the HU error on {name}", tuple(gain), ">", 0.0)
            ssim = results.per_seed(lambda a, b: a["ssim"] - b["ssim"], _method(name), name)
            yield Condition(f"SSIM gained on {name}", tuple(ssim), ">=", limits["ssim_gain"])

    def claim3(results: Results) -> Iterable[Condition]:
        return [
            over(results, whole, "method", "stacked", "HU error", "tie", "<="),
            over(results, whole, "method", "k3", "HU error", "better", "<"),
        ]

    def claim4(results: Results) -> Iterable[Condition]:
        return [
            over(results, whole, "no_high_loss", "unet", "HU error", "better", "<"),
            over(results, whole, "method", "no_high_loss", "HU error", "better", "<"),
        ]

    def claim5(results: Results) -> Iterable[Condition]:
        sharper = results.per_seed(
            lambda a, b: abs(1 - b["gradient_ratio"]) - abs(1 - a["gradient_ratio"]), "adversarial", "method"
        )
        return [
            Condition("how much nearer to 1 the gradient at edges comes", tuple(sharper), ">", 0.0),
            over(results, whole, "adversarial", "method", "HU error", "price", "<="),
            over(results, whole, "adversarial", "gan", "HU error", "better", "<"),
        ]

    def claim6(results: Results) -> Iterable[Condition]:
        gain = results.per_seed(lambda a, b: a["dice"]["bone"] - b["dice"]["bone"], "method", "unet")
        return [Condition("Dice of bone, method minus unet", tuple(gain), ">", 0.0)]

    pairs = tuple(name for b in _BACKBONES for name in (b, _method(b)))
    return [
        Claim(
            "1",
            "Frequency supervision lowers the HU error of the U-Net, mostly at edges.",
            ("unet", "method", "boundary"),
            claim1,
        ),
        Claim("2", "It does so on every backbone, and SSIM rises.", pairs, claim2),
        Claim(
            "3",
            "The factorised refinement is as good as stacked layers and gains by its length.",
            ("method", "stacked", "k3"),
            claim3,
        ),
        Claim(
            "4", "The loss on the high band matters, not only the layers.", ("unet", "no_high_loss", "method"), claim4
        ),
        Claim(
            "5",
            "A judge of the high band sharpens edges at little cost; a judge of the CT is worse.",
            ("method", "adversarial", "gan"),
            claim5,
        ),
        Claim("6", "Bone is found better.", ("unet", "method"), claim6),
    ]
