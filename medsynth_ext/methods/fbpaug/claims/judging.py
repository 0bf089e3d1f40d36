"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def make_claims(
    limits: Mapping[str, float], *, held_out: tuple[str, ...], sharp: tuple[str, ...], real: bool
) -> list[Claim]:
    """All claims.

    Args:
        limits: what is wanted.
        held_out: kernels beside the training's.
        sharp: the sharp ones of them.
        real: whether the arms were tested on real anatomy as well (claim 8).
    """

    def agreement(figures: Figures) -> float:
        return sum(figures["agreement"][kernel] for kernel in held_out) / len(held_out)

    def truth(figures: Figures) -> float:
        return sum(figures["dice"][kernel] for kernel in sharp) / len(sharp)

    def bias(figures: Figures) -> float:
        return sum(abs(figures["volume_bias"][kernel]) for kernel in sharp) / len(sharp)

    def gap(
        results: Results, measure: Callable[[Figures], float], better: str, worse: str, what: str, limit: str
    ) -> Condition:
        values = results.per_seed(lambda a, b: measure(a) - measure(b), better, worse)
        return Condition(f"{what}, {better} minus {worse}", tuple(values), ">=", limits[limit])

    def learned(results: Results) -> Condition:
        """Differences between networks that have learned nothing are small and mean nothing."""
        values = results.per_seed(lambda f: f["dice"]["soft"], "baseline")
        return Condition("precondition: Dice of the baseline in its domain", tuple(values), ">=", limits["learned"])

    def claim1(results: Results) -> Iterable[Condition]:
        return [gap(results, agreement, "fbpaug", "baseline", "agreement", "agreement_gain"), learned(results)]

    def claim2(results: Results) -> Iterable[Condition]:
        return [
            gap(results, agreement, "fbpaug", "noise", "agreement", "over_noise"),
            gap(results, agreement, "fbpaug", "gamma", "agreement", "over_gamma"),
            gap(results, agreement, "fbpaug", "windowing", "agreement", "over_windowing"),
            learned(results),
        ]

    def claim3(results: Results) -> Iterable[Condition]:
        return [
            gap(
                results, lambda f: f["dice"]["soft"], "fbpaug", "baseline", "Dice in the training's domain", "in_domain"
            ),
            learned(results),
        ]

    def claim4(results: Results) -> Iterable[Condition]:
        return [gap(results, truth, "fbpaug", "baseline", "Dice with the truth on sharp series", "truth_gain")]

    def claim5(results: Results) -> Iterable[Condition]:
        ratio = results.per_seed(lambda a, b: bias(a) / max(bias(b), 1e-9), "fbpaug", "baseline")
        what = "bias of the volume, fbpaug over baseline"
        return [Condition(what, tuple(ratio), "<=", limits["bias_ratio"]), learned(results)]

    def claim6(results: Results) -> Iterable[Condition]:
        same = results.per_seed(lambda a, b: abs(agreement(a) - agreement(b)), "fft2", "fbpaug")
        return [
            gap(results, agreement, "sharpen_only", "smooth_only", "agreement", "sharpening_gain"),
            Condition("agreement, fft2 against the full chain", tuple(same), "<=", limits["fft2_gap"]),
            gap(results, agreement, "preserve_hu", "baseline", "agreement", "preserve_gain"),
            gap(results, agreement, "streaks", "baseline", "agreement", "streaks_gain"),
        ]

    def claim7(results: Results) -> Iterable[Condition]:
        ratio = results.per_seed(lambda f: f["scikit_image_s"] / f["ours_s"], "speed")
        return [Condition("time of scikit-image over ours, one thread", tuple(ratio), ">=", limits["speed_ratio"])]

    def claim8(results: Results) -> Iterable[Condition]:
        def on_real(measure: Callable[[Figures], float]) -> Callable[[Figures], float]:
            return lambda figures: measure(figures["real"])

        what = "agreement on the real chest"
        return [
            gap(results, on_real(agreement), "fbpaug", "baseline", what, "agreement_gain"),
            gap(results, on_real(truth), "fbpaug", "baseline", "Dice on sharp series of the real chest", "truth_gain"),
            learned(results),
        ]

    others = ("gamma", "noise", "windowing")
    ablations = ("smooth_only", "sharpen_only", "preserve_hu", "fft2", "streaks")
    gpu = "slices per second on a graphics card: there is none in this run"
    claims = [
        Claim("1", "Masks of two kernels agree better with FBPAug than without.", ("baseline", "fbpaug"), claim1),
        Claim("2", "No other augmentation makes them agree as well.", ("baseline", "fbpaug", *others), claim2),
        Claim("3", "FBPAug costs nothing on the training's kernel.", ("baseline", "fbpaug"), claim3),
        Claim("4", "Masks on sharp series come closer to the truth as well.", ("baseline", "fbpaug"), claim4),
        Claim("5", "FBPAug halves the volume's bias between kernels.", ("baseline", "fbpaug"), claim5),
        Claim(
            "6", "Sharpening carries most; the quick mode does the same.", ("baseline", "fbpaug", *ablations), claim6
        ),
        Claim("7", "The chain is many times quicker than with scikit-image.", ("speed",), claim7, (gpu,)),
    ]
    if real:
        sentence = "The same holds for simulated kernels and lesions in the anatomy of a real chest CT."
        claims.append(Claim("8", sentence, ("baseline", "fbpaug"), claim8))
    return claims
