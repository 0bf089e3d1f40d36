"""How each claim of the card is judged from the figures of the arms. Dice in points (percent), means over people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from medsynth_ext.claims import Claim, Condition, Results
from medsynth_ext.methods.synthseg.claims.settings import EvaluationSettings

__all__ = ["Judge", "make_claims"]

Figures = Mapping[str, Any]


def cohens_d(controls: list[float], patients: list[float]) -> float:
    """Difference of the means over the pooled standard deviation."""
    n, m = len(controls), len(patients)
    pooled = ((n - 1) * statistics.variance(controls) + (m - 1) * statistics.variance(patients)) / (n + m - 2)
    difference = statistics.fmean(controls) - statistics.fmean(patients)
    return difference / math.sqrt(pooled) if pooled > 0 else math.nan


class Judge:
    """The conditions of every claim.

    Args:
        limits: the thresholds, by name.
        evaluation: what was tested.
        native_mm: voxel size of the networks.
    """

    def __init__(self, limits: Mapping[str, float], evaluation: EvaluationSettings, *, native_mm: float) -> None:
        self.limits = limits
        self.evaluation = evaluation
        self.native_mm = native_mm
        self.baseline, self.others = evaluation.contrasts[0], evaluation.contrasts[1:]

    # Figures in points

    def points(self, figures: Figures, contrast: str, spacing_mm: float | None = None, group: str = "main") -> float:
        """Mean Dice of a contrast at a spacing, native by default."""
        spacing = self.native_mm if spacing_mm is None else spacing_mm
        return 100 * statistics.fmean(figures["dice"][f"{group}/{contrast}/{spacing:g}"])

    def overall(self, figures: Figures) -> float:
        """Mean over contrasts and resolutions."""
        spacings = (self.native_mm, *self.evaluation.coarse_mm)
        return statistics.fmean(self.points(figures, c, s) for c in self.evaluation.contrasts for s in spacings)

    def spread(self, figures: Figures) -> float:
        """Best minus worst contrast."""
        means = [self.points(figures, contrast) for contrast in self.evaluation.contrasts]
        return max(means) - min(means)

    def coarse_loss(self, figures: Figures) -> float:
        """Native minus coarsest spacing, mean over contrasts and directions."""
        coarsest = max(self.evaluation.coarse_mm)
        contrasts = self.evaluation.contrasts
        return statistics.fmean(self.points(figures, c) - self.points(figures, c, coarsest) for c in contrasts)

    def condition(self, what: str, values: list[float], relation: str, limit: str | float) -> Condition:
        """A condition with a limit by name or number."""
        return Condition(what, tuple(values), relation, self.limits[limit] if isinstance(limit, str) else limit)

    def harm(self, results: Results, arm: str) -> list[float]:
        """Points that the method loses without a part."""
        return results.per_seed(lambda full, less: self.overall(full) - self.overall(less), "synthseg", arm)

    def learned(self, results: Results) -> Condition:
        """Differences between networks that have learned nothing are small and mean nothing."""
        ours = results.per_seed(lambda f: self.points(f, self.baseline), "synthseg")
        return self.condition(f"precondition: SynthSeg on {self.baseline}, Dice points", ours, ">=", "learned_dice")

    # Claims

    def in_domain(self, results: Results) -> Iterable[Condition]:
        gap = results.per_seed(
            lambda base, ours: self.points(base, self.baseline) - self.points(ours, self.baseline),
            "t1_baseline",
            "synthseg",
        )
        yield self.condition("T1 baseline minus SynthSeg on T1, Dice points", gap, "<=", "in_domain_gap")
        yield self.learned(results)

    def out_of_domain(self, results: Results) -> Iterable[Condition]:
        for contrast in self.others:
            ours = results.per_seed(lambda f, c=contrast: self.points(f, c), "synthseg")
            yield self.condition(f"SynthSeg on {contrast}, Dice points", ours, ">=", "out_of_domain_dice")
            gain = results.per_seed(
                lambda f, base, c=contrast: self.points(f, c) - self.points(base, c), "synthseg", "t1_baseline"
            )
            yield self.condition(
                f"SynthSeg minus T1 baseline on {contrast}, Dice points", gain, ">=", "out_of_domain_gain"
            )
        spread = results.per_seed(self.spread, "synthseg")
        yield self.condition("SynthSeg's best minus worst contrast, Dice points", spread, "<=", "contrast_spread")

    def shifted_t1(self, results: Results) -> Iterable[Condition]:
        gain = results.per_seed(
            lambda ours, base: (
                self.points(ours, self.baseline, group="shifted") - self.points(base, self.baseline, group="shifted")
            ),
            "synthseg",
            "t1_baseline",
        )
        yield self.condition("SynthSeg minus T1 baseline on shifted T1 with strong bias, Dice points", gain, ">=", 0.0)
        yield self.learned(results)

    def resolution(self, results: Results) -> Iterable[Condition]:
        loss = results.per_seed(self.coarse_loss, "synthseg")
        yield self.condition("SynthSeg's loss at the coarsest spacing, Dice points", loss, "<=", "coarse_loss")
        gain = results.per_seed(
            lambda less, full: self.coarse_loss(less) - self.coarse_loss(full), "no_resolution", "synthseg"
        )
        what = "loss without random resolution minus SynthSeg's loss, Dice points"
        yield self.condition(what, gain, ">=", "resolution_gain")
        yield self.learned(results)

    def ablations(self, results: Results) -> Iterable[Condition]:
        names = {"no_deformation": "deformation", "no_bias": "bias field", "tight_2": "wide priors"}
        harms = {arm: self.harm(results, arm) for arm in names}
        for arm, name in names.items():
            yield self.condition(f"lost without {name}, Dice points", harms[arm], ">=", "ablation_harm")
        for first, second in (("no_deformation", "no_bias"), ("no_bias", "tight_2")):
            gap = [a - b for a, b in zip(harms[first], harms[second], strict=True)]
            what = f"lost without {names[first]} minus lost without {names[second]}, Dice points"
            yield self.condition(what, gap, ">=", 0.0)
        tight = self.harm(results, "tight_1")
        mean = statistics.fmean(tight)
        # The size of the mean difference counts, so the sign is that of the mean.
        size = [value if mean >= 0 else -value for value in tight]
        yield self.condition("difference with slightly tighter priors, Dice points", size, "<=", "tight_difference")
        yield self.learned(results)

    def lesions(self, results: Results) -> Iterable[Condition]:
        for group, relation, limit in (("lesions", ">=", "lesion_harm"), ("no lesions", "<", "no_lesion_harm")):
            harm = results.per_seed(
                lambda full, less, g=group: self.points(full, "FLAIR", group=g) - self.points(less, "FLAIR", group=g),
                "synthseg",
                "no_lesions",
            )
            what = "with" if group == "lesions" else "without"
            yield self.condition(
                f"lost without lesion labels on FLAIR {what} lesions, Dice points", harm, relation, limit
            )
        yield self.learned(results)

    def maps(self, results: Results) -> Iterable[Condition]:
        def gap(a: str, b: str) -> list[float]:
            return results.per_seed(lambda x, y: self.overall(x) - self.overall(y), a, b)

        yield self.condition("five maps minus one map, Dice points", gap("five_maps", "one_map"), ">", 0.0)
        yield self.condition(
            "all young maps minus five, Dice points", gap("synthseg", "five_maps"), "<=", "five_maps_gap"
        )
        old = results.per_seed(
            lambda more, less: (
                self.points(more, self.baseline, group="large") - self.points(less, self.baseline, group="large")
            ),
            "all_maps",
            "synthseg",
        )
        yield self.condition(
            "gain of old people's maps on the largest ventricles, Dice points", old, ">=", "old_maps_gain"
        )
        yield self.learned(results)

    def groups(self, results: Results) -> Iterable[Condition]:
        def ratio(figures: Figures) -> float:
            volumes = figures["hippocampus_mm3"]
            found = cohens_d(volumes["control"]["predicted"], volumes["patient"]["predicted"])
            return found / cohens_d(volumes["control"]["true"], volumes["patient"]["true"])

        what = "Cohen's d of hippocampal volume over the d of true volumes"
        yield self.condition(what, results.per_seed(ratio, "all_maps"), ">=", "group_ratio")

    def flip(self, results: Results) -> Iterable[Condition]:
        def change(figures: Figures, name: str) -> float:
            values = figures["flip"]
            return statistics.fmean(values[f"{name} with"]) - statistics.fmean(values[f"{name} without"])

        gain = results.per_seed(lambda f: 100 * change(f, "dice"), "synthseg")
        yield self.condition("gain of the mirrored image, Dice points", gain, ">=", "flip_gain")
        asymmetry = results.per_seed(lambda f: 100 * change(f, "asymmetry"), "synthseg")
        yield self.condition("change of left-right volume difference, percent of the volume", asymmetry, "<", 0.0)
        yield self.learned(results)

    def repeatability(self, results: Results) -> Iterable[Condition]:
        def largest(figures: Figures) -> float:
            return max(part["largest"] for part in [*figures["threads"].values(), figures["one_by_one"]])

        limit = "repeat_difference"
        what = "largest difference with other threads and batches, image in [0, 1]"
        yield self.condition(what, results.per_seed(largest, "repeatability"), "<=", limit)
        other = results.per_seed(lambda f: f["other_index"]["largest"], "repeatability")
        yield self.condition("largest difference of other samples, image in [0, 1]", other, ">", 0.1)
        cuda = [f["cuda"]["largest"] for f in results.figures["repeatability"].values() if "cuda" in f]
        if cuda:
            yield self.condition("largest difference between CPU and CUDA, image in [0, 1]", cuda, "<=", limit)

    def speed(self, results: Results) -> Iterable[Condition]:
        def fastest(figures: Figures, kind: str) -> float:
            plain = min(figures[name][kind] for name in ("composition", "twins"))
            return plain / figures["generator"][kind]

        def on_cpu(figures: Figures) -> bool:
            return figures["device"] == "cpu"

        # On a busy CPU wall time measures the neighbours; processor time does not.
        ratio = results.per_seed(lambda f: fastest(f, "cpu_s" if on_cpu(f) else "wall_s"), "speed")
        yield self.condition("time of plain PyTorch, its faster form, over the generator's", ratio, ">=", "speed_ratio")
        twins = results.per_seed(lambda f: f["twins"]["wall_s"] / f["generator"]["wall_s"], "speed")
        yield self.condition("wall time of the plain twins over the generator's", twins, ">=", "speed_ratio")
        seconds = results.per_seed(lambda f: f["generator"]["wall_s"], "speed")
        cpu = all(on_cpu(f) for f in results.figures["speed"].values())
        yield self.condition("seconds per pair", seconds, "<=", "cpu_seconds" if cpu else "cuda_seconds")


def make_claims(
    limits: Mapping[str, float], evaluation: EvaluationSettings, *, native_mm: float, device: str, cuda: bool
) -> list[Claim]:
    """The claims of the card that a head phantom can test; claim 10 is the heart's."""
    judge = Judge(limits, evaluation, native_mm=native_mm)
    no_cuda = () if cuda else ("CPU against CUDA: this machine has no CUDA device",)
    no_gpu_time = () if device.startswith("cuda") else ("the time on a graphics card: this run used the CPU",)
    both = ("synthseg", "t1_baseline")
    ablations = ("synthseg", "no_deformation", "no_bias", "tight_1", "tight_2")
    rows = [
        (
            "1",
            "In domain, SynthSeg is at most 5 Dice points below a network trained on T1 scans.",
            both,
            judge.in_domain,
        ),
        (
            "2",
            "Out of domain, SynthSeg segments T2, PD, FLAIR and CT, where the T1 network fails, about equally well.",
            both,
            judge.out_of_domain,
        ),
        ("3", "On T1 with shifted means and strong bias SynthSeg is at least as good.", both, judge.shifted_t1),
        (
            "4",
            "SynthSeg loses little at coarse slice spacing, and less than without random resolution.",
            ("synthseg", "no_resolution"),
            judge.resolution,
        ),
        (
            "5",
            "Deformation, bias field and wide priors each help, in this order; slightly tighter priors do not matter.",
            ablations,
            judge.ablations,
        ),
        (
            "6",
            "Lesion labels help on scans with lesions and do not matter on others.",
            ("synthseg", "no_lesions"),
            judge.lesions,
        ),
        (
            "7",
            "Five maps are better than one and about as good as twenty; old people's maps help with large ventricles.",
            ("synthseg", "one_map", "five_maps", "all_maps"),
            judge.maps,
        ),
        ("8", "Hippocampal volumes from coarse FLAIR show most of a group difference.", ("all_maps",), judge.groups),
        ("9", "The mirrored image does not hurt and makes volumes more symmetric.", ("synthseg",), judge.flip),
    ]
    claims = [Claim(name, sentence, arms, decide) for name, sentence, arms, decide in rows]
    repeat = "A sample is the same for any number of threads, any batch and any device."
    fast = "A training pair takes a tenth of the time of plain PyTorch."
    claims.append(Claim("11", repeat, ("repeatability",), judge.repeatability, no_cuda))
    claims.append(Claim("12", fast, ("speed",), judge.speed, no_gpu_time))
    return claims
