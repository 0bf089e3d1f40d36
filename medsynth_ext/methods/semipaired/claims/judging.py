"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]


def _value(name: str, direction: str) -> Callable[[Figures], float]:
    """A figure of one direction of an arm."""
    if name == "dice":
        return lambda figures: figures[direction]["dice"]["mean"]
    return lambda figures: figures[direction][name]


def make_claims(limits: Mapping[str, float]) -> list[Claim]:
    """All claims.

    Args:
        limits: what is wanted.
    """

    def gap(
        results: Results, name: str, direction: str, better: str, worse: str, relation: str, limit: float
    ) -> Condition:
        measure = _value(name, direction)
        values = results.per_seed(lambda a, b: measure(a) - measure(b), better, worse)
        return Condition(f"{name.upper()}, {better} minus {worse}", tuple(values), relation, limit)

    def ratio(results: Results, name: str, direction: str, better: str, worse: str, limit: float) -> Condition:
        measure = _value(name, direction)
        values = results.per_seed(lambda a, b: measure(a) / max(measure(b), 1e-9), better, worse)
        return Condition(f"{name.upper()}, {better} over {worse}", tuple(values), "<=", limit)

    def sane(results: Results) -> Condition:
        values = results.per_seed(lambda f: f["segmenter_dice"]["ct"]["mean"], "mr2ct")
        what = "precondition: Dice of the CT segmenter on real CT"
        return Condition(what, tuple(values), ">=", limits["segmenter"])

    def claim1(results: Results) -> Iterable[Condition]:
        return [
            ratio(results, "fid", "mr2ct", "mr2ct", "mr2ct_pix2pix", limits["over_pix2pix"]),
            ratio(results, "kid", "mr2ct", "mr2ct", "mr2ct_pix2pix", limits["over_pix2pix"]),
            ratio(results, "fid", "mr2ct", "mr2ct", "mr2ct_pix2pixhd", limits["over_pix2pix"]),
            gap(results, "fid", "mr2ct", "mr2ct", "cyclegan", "<=", 0.0),
        ]

    def claim2(results: Results) -> Iterable[Condition]:
        return [
            gap(results, "dice", "mr2ct", "mr2ct", "cyclegan", ">=", limits["dice_over_cyclegan"]),
            gap(results, "dice", "mr2ct", "mr2ct", "mr2ct_pix2pix", ">=", -limits["dice_below_pix2pix"]),
            gap(results, "hu_dif", "mr2ct", "mr2ct", "mr2ct_pix2pix", "<", 0.0),
            sane(results),
        ]

    def claim3(results: Results) -> Iterable[Condition]:
        pix2pix = "ct2mr_pix2pix"
        return [
            *(gap(results, name, "ct2mr", "ct2mr", "cyclegan", "<=", 0.0) for name in ("fid", "kid")),
            *(gap(results, name, "ct2mr", "ct2mr", pix2pix, "<=", 0.0) for name in ("fid", "kid")),
            gap(results, "fid", "ct2mr", "ct2mr", "ct2mr_pix2pixhd", "<=", 0.0),
            gap(results, "dice", "ct2mr", "ct2mr", "cyclegan", ">=", limits["dice_over_cyclegan_to_mr"]),
            gap(results, "dice", "ct2mr", "ct2mr", pix2pix, ">=", -limits["tie"]),
        ]

    def claim4(results: Results) -> Iterable[Condition]:
        both, gan, l1 = "mr2ct", "mr2ct_gan", "mr2ct_l1"
        return [
            gap(results, "fid", "mr2ct", both, gan, "<", 0.0),
            gap(results, "fid", "mr2ct", gan, l1, "<", 0.0),
            gap(results, "dice", "mr2ct", both, l1, ">=", -limits["dice_below_l1"]),
            *(gap(results, "dice", "mr2ct", arm, gan, ">=", limits["dice_over_gan"]) for arm in (both, l1)),
        ]

    def claim5(results: Results) -> Iterable[Condition]:
        order = ("ct2mr_gan", "ct2mr_cgan", "ct2mr")
        steps = list(zip(order[1:], order[:-1], strict=True))
        return [
            *(gap(results, "dice", "ct2mr", better, worse, ">", 0.0) for better, worse in steps),
            *(gap(results, "fid", "ct2mr", better, worse, "<=", 0.0) for better, worse in steps),
        ]

    def claim6(results: Results) -> Iterable[Condition]:
        return [gap(results, "body_mae_hu", "mr2ct", "mr2ct", "mr2ct_pix2pix", "<=", 0.0)]

    real = "patients: the paper's scans are not public"
    return [
        Claim(
            "1",
            "CT from MR looks more like real CT than pix2pix's and no less than CycleGAN's.",
            ("mr2ct", "mr2ct_pix2pix", "mr2ct_pix2pixhd", "cyclegan"),
            claim1,
            (real,),
        ),
        Claim("2", "It stays aligned, and its HU are right.", ("mr2ct", "mr2ct_pix2pix", "cyclegan"), claim2),
        Claim(
            "3",
            "MR from CT is best in likeness and in alignment.",
            ("ct2mr", "ct2mr_pix2pix", "ct2mr_pix2pixhd", "cyclegan"),
            claim3,
        ),
        Claim("4", "From MR to CT both terms are needed.", ("mr2ct", "mr2ct_gan", "mr2ct_l1"), claim4),
        Claim("5", "From CT to MR every term adds alignment.", ("ct2mr", "ct2mr_cgan", "ct2mr_gan"), claim5),
        Claim("6", "HU come nearer to the hidden CT than pix2pix's.", ("mr2ct", "mr2ct_pix2pix"), claim6),
    ]
