"""Cross-validation over a site's patients: who trains, who chooses the weights, and who is scored."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import run
from monai.data import partition_dataset

from medsynth_ext.data.files import write_json
from medsynth_ext.methods.fedsim.cases import find_site_cases, find_training_pairs

__all__ = ["cross_validate", "fold_cases", "fold_pairs"]

PARTS = ("train", "validation", "test")


def fold_cases(folder: str | Path, part: str, *, fold: int | None, folds: int = 5) -> list[dict[str, str]]:
    """The patients of one part of a fold, with or without a label.

    A site's patients are dealt out to ``folds`` groups by the name of their image, in an order that is always the
    same. Group ``fold`` is the test set, the next one validates, the others train: 20 patients and 5 folds make the
    paper's 12, 4 and 4.

    Args:
        folder: with ``images/NAME`` and, for some, ``labels/NAME``.
        part: ``train``, ``validation`` or ``test``.
        fold: from 0; ``None`` for all patients of the folder.
        folds: number of groups.

    Raises:
        ValueError: for another part, a fold that is out of range, or fewer patients than folds.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    cases = find_site_cases(folder)
    if fold is None or not cases:  # a workflow can be built before the data are there
        return cases
    if folds < 3 or not 0 <= fold < folds:
        raise ValueError(f"fold must be from 0 to below folds, which is at least 3, got {fold} and {folds}")
    if len(cases) < folds:
        raise ValueError(f"{folds} folds need as many patients, {folder} has {len(cases)}")
    names = sorted(Path(case["image"]).name for case in cases)
    groups = partition_dataset(names, num_partitions=folds, shuffle=True, seed=0)
    after = (fold + 1) % folds
    numbers = {"test": [fold], "validation": [after]}.get(part, [i for i in range(folds) if i not in (fold, after)])
    chosen = {name for i in numbers for name in groups[i]}
    return [case for case in cases if Path(case["image"]).name in chosen]


def fold_pairs(
    folder: str | Path,
    part: str,
    *,
    fold: int | None,
    folds: int = 5,
    val_pairs: int = 2,
    labelled: int | None = None,
) -> list[dict[str, str]]:
    """The labelled patients of one part of a fold, for the segmenter.

    Without a fold the last ``val_pairs`` by name validate and the others train, or all are scored: those of a folder,
    or of generated patients with a ``manifest.json``.

    Args:
        folder: of a site, or of generated patients when there is no fold.
        part: ``train``, ``validation`` or ``test``.
        fold: as for :func:`fold_cases`.
        folds: number of groups.
        val_pairs: without a fold, how many validate.
        labelled: train only with the first so many; all when ``None``.

    Raises:
        ValueError: as for :func:`fold_cases`, and for a part of a fold in which nobody has a label.
    """
    if fold is None:
        pairs = find_training_pairs(folder)
        pairs = {"train": pairs[:-val_pairs], "validation": pairs[-val_pairs:]}.get(part, pairs)
    else:
        cases = fold_cases(folder, part, fold=fold, folds=folds)
        pairs = [case for case in cases if "label" in case]
        if cases and not pairs:
            raise ValueError(f"the {part} part of fold {fold} of {folder} has {len(cases)} patients, none with a label")
    return pairs[:labelled] if part == "train" else pairs


def cross_validate(
    *,
    bundle_root: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    folds: int = 5,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train and score the segmenter once per fold; a fold that was scored before is not done again.

    Writes ``fold=K/model.pt`` with its logs, ``fold=K/metrics.csv``, and ``cross_validation.json`` with every fold's
    metrics, their mean and their deviation over folds.

    Args:
        bundle_root: folder of the bundle.
        dataset_dir: labelled patients.
        output_dir: where everything is written.
        folds: their number.
        settings: entries of ``train.json`` to replace; those that ``evaluate.json`` has too go to both.

    Raises:
        ValueError: when a part of a fold has no labelled patient; before anything is trained.
    """
    for fold in range(folds):
        for part in PARTS:
            if not fold_pairs(dataset_dir, part, fold=fold, folds=folds):
                raise ValueError(f"{dataset_dir} has no patient: wanted images/NAME.nii.gz and labels/NAME.nii.gz")
    configs, settings = Path(bundle_root) / "configs", dict(settings or {})
    found: list[dict[str, float]] = []
    for fold in range(folds):
        folder = Path(output_dir) / f"fold={fold}"
        if not (folder / "metrics.csv").is_file():
            common: dict[str, Any] = {
                "bundle_root": str(bundle_root),
                "dataset_dir": str(dataset_dir),
                "fold": fold,
                "folds": folds,
            }
            common |= {"output_dir": str(folder), "ckpt_dir": str(folder)}
            run(config_file=str(configs / "train.json"), **common, **settings)
            shared = {
                name: settings[name] for name in ("size", "fov_mm", "features", "norm", "device") & settings.keys()
            }
            run(config_file=str(configs / "evaluate.json"), weights=str(folder / "model.pt"), **common, **shared)
        found.append(_read_metrics(folder / "metrics.csv"))
    summary = {
        name: {
            "mean": statistics.fmean(row[name] for row in found),
            "deviation": statistics.stdev(row[name] for row in found),
        }
        for name in found[0]
    }
    result = {"folds": found, "summary": summary}
    write_json(Path(output_dir) / "cross_validation.json", result)
    return result


def _read_metrics(path: Path) -> dict[str, float]:
    with path.open(newline="") as file:
        return {name: float(value) for name, value in csv.reader(file)}
