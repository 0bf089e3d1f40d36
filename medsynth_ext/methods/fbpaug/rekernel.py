"""Writing scans as another reconstruction kernel would show them."""

from __future__ import annotations

from tqdm.auto import tqdm

from medsynth_ext.data.scans import ScanDataset, run_all

__all__ = ["rekernel_scans"]


def rekernel_scans(dataset: ScanDataset) -> None:
    """Run the data set's transform, which reconstructs and saves, over every scan.

    Raises:
        SystemExit: with status 1 and the sentences, when a scan could not be used.
    """

    def run() -> None:
        for _ in tqdm(dataset, total=len(dataset.files), desc="reconstructing"):
            pass

    run_all(run, dataset)
