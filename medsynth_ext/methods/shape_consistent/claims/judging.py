"""The sentences of the card and the numbers that decide them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results

__all__ = ["make_claims"]

Figures = Mapping[str, Any]
MODALITIES = ("ct", "mr")
UNIT = "Dice points"


def _dice(figures: Figures, modality: str) -> float:
    """Mean over the test hearts, in points."""
    return 100 * statistics.fmean(figures[modality])


def make_claims(limits: Mapping[str, float], segmenters: Sequence[str], *, half_sources: bool = True) -> list[Claim]:
    """All claims.

    Args:
        limits: what is wanted.
        segmenters: kinds that were compared.
        half_sources: whether half of the translated volumes were tried (claim 7).
    """
    first = segmenters[0]
    joint = {kind: tuple(f"joint_{kind}_{m}" for m in MODALITIES) for kind in segmenters}

    offline = tuple(name for kind in segmenters for name in (f"ada_{kind}", f"real_{kind}"))

    def reference_learned(results: Results) -> Condition:
        """A reference that sees no organ cannot tell whether one moved."""
        values = results.per_seed(lambda f: min(_dice(f["reference_dice"], m) for m in MODALITIES), "without")
        return Condition(f"precondition: {UNIT} of the worse reference", tuple(values), ">=", limits["learned"])

    def claim1(results: Results) -> Iterable[Condition]:
        for m in MODALITIES:
            values = results.per_seed(
                lambda a, b, m=m: 100 * (a[f"from_{m}"]["s_score"] - b[f"from_{m}"]["s_score"]), "with", "without"
            )
            yield Condition(
                f"S-score, with minus without, from {m}, points", tuple(values), ">=", limits["s_score_gain"]
            )
        yield reference_learned(results)

    def claim2(results: Results) -> Iterable[Condition]:
        for m in MODALITIES:
            for name, relation, what in (
                ("displacement_mm", "<=", f"displacement of organs, with over without, from {m}"),
                ("mae", "<=", f"error to the hidden truth, with over without, from {m}"),
            ):
                values = results.per_seed(
                    lambda a, b, m=m, n=name: a[f"from_{m}"][n] / b[f"from_{m}"][n], "with", "without"
                )
                yield Condition(what, tuple(values), relation, limits[f"{name}_ratio"])
        yield reference_learned(results)

    def gains(kind: str, other: str, limit: str) -> Callable[[Results], Iterable[Condition]]:
        def judge(results: Results) -> Iterable[Condition]:
            for m in MODALITIES:
                values = results.per_seed(
                    lambda a, b, m=m: _dice(a, m) - _dice(b, m), f"joint_{kind}_{m}", f"{other}_{kind}"
                )
                yield Condition(f"{UNIT} on {m}, {kind}, ours minus {other}", tuple(values), ">=", limits[limit])

        return judge

    def claim3(results: Results) -> Iterable[Condition]:
        yield from gains(first, "real", "gain")(results)
        yield from gains(first, "ada", "over_ada")(results)

    def claim4(results: Results) -> Iterable[Condition]:
        values = results.per_seed(
            lambda *f: min(_dice(a, m) - _dice(b, m) for a, b in zip(f[::2], f[1::2], strict=True) for m in MODALITIES),
            *offline,
        )
        yield Condition(
            f"{UNIT}, off-line tuning minus real alone, the worst network and domain",
            tuple(values),
            "<",
            limits["ada_worst"],
        )

    def claim5(results: Results) -> Iterable[Condition]:
        for kind in segmenters:
            yield from gains(kind, "real", "any_gain")(results)

        def mean(figures: Figures) -> float:
            return statistics.fmean(_dice(figures, m) for m in MODALITIES)

        order = [kind for kind in ("psp", "unet", "refine") if kind in segmenters]
        for small, large in pairwise(order):
            values = results.per_seed(lambda a, b: mean(b) - mean(a), f"real_{small}", f"real_{large}")
            yield Condition(f"{UNIT} on real volumes alone, {large} minus {small}", tuple(values), ">", 0.0)

    def claim6(results: Results) -> Iterable[Condition]:
        for m in MODALITIES:
            values = results.per_seed(
                lambda a, b, c, d, m=m: (_dice(a, m) - _dice(b, m)) - (_dice(c, m) - _dice(d, m)),
                f"joint_{first}_{m}", f"real_{first}", "with", "real_all",
            )  # fmt: skip
            yield Condition(f"gain in {UNIT} on {m} with few labels minus that with all", tuple(values), ">", 0.0)

    def claim7(results: Results) -> Iterable[Condition]:
        for m in MODALITIES:
            values = results.per_seed(lambda a, b, m=m: _dice(a, m) - _dice(b, m), f"half_{m}", f"ada_{first}")
            what = f"{UNIT} on {m}, ours with half of the generated volumes minus off-line tuning with all"
            yield Condition(what, tuple(values), ">=", limits["half_over_ada"])

    def claim8(results: Results) -> Iterable[Condition]:
        better: list[list[float]] = []
        for kind in segmenters:
            for m in MODALITIES:
                better.append(
                    results.per_seed(
                        lambda a, b, m=m: float(min(a[m]) > min(b[m])), f"joint_{kind}_{m}", f"real_{kind}"
                    )
                )
        values = tuple(sum(column) / len(better) for column in zip(*better, strict=True))
        yield Condition(
            "share of networks and domains whose worst heart is better", values, ">=", limits["worst_share"]
        )

    def claim9(results: Results) -> Iterable[Condition]:
        for arm, relation, limit in (("without", "<=", "nearest_energy"), ("transposed", ">=", "transposed_energy")):
            what = "nearest" if arm == "without" else "transposed"
            values = results.per_seed(lambda f: f["spectrum"], arm)
            yield Condition(
                f"energy in the top octave over that of real volumes, {what}", tuple(values), relation, limits[limit]
            )

    everything = tuple(name for kind in segmenters for name in (*joint[kind], f"real_{kind}"))
    missing = sorted({"psp", "unet", "refine"} - set(segmenters))
    left_out = (f"{' and '.join(missing)}: not trained at this scale",) if missing else ()
    claims = [
        Claim("1", "Translations with shape consistency keep more of the anatomy.", ("with", "without"), claim1),
        Claim(
            "2",
            "They move the organs less and are no farther from the hidden truth.",
            ("with", "without"),
            claim2,
        ),
        Claim(
            "3",
            "With few labels, segmenters learn more with generated volumes on line than without or off line.",
            (*joint[first], f"real_{first}", f"ada_{first}"),
            claim3,
        ),
        Claim("4", "Off-line tuning can hurt.", offline, claim4),
        Claim("5", "The gain does not depend on the segmenter.", everything, claim5, left_out),
        Claim(
            "6",
            "The gain shrinks with more real labels.",
            (*joint[first], f"real_{first}", "with", "real_all"),
            claim6,
        ),
        Claim(
            "7",
            "Half of the generated volumes on line are worth all of them off line.",
            ("half_ct", "half_mr", f"ada_{first}"),
            claim7,
        ),
        Claim("8", "The worst heart is segmented better.", everything, claim8, left_out),
        Claim(
            "9",
            "Nearest up-sampling makes fewer artefacts than transposed convolution.",
            ("without", "transposed"),
            claim9,
        ),
    ]
    return [claim for claim in claims if half_sources or claim.id != "7"]
