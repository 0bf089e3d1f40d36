"""Writing scans as another reconstruction kernel would show them."""

from __future__ import annotations

from tqdm.auto import tqdm

from medsynth_ext.data.scans import ScanDataset

__all__ = ["rekernel_scans"]


def rekernel_scans(dataset: ScanDataset) -> None:
    """Run the data set's transform, which reconstructs and saves, over every scan.

    Raises:
        SystemExit: with status 1 and the sentences, when a scan could not be used.
    """
    for _ in tqdm(dataset, total=len(dataset.files), desc="reconstructing"):
        pass
    if dataset.failures:
        sentences = "\n".join(f"  {sentence}" for _, sentence in dataset.failures)
        total = len(dataset.files)
        raise SystemExit(f"error: {len(dataset.failures)} of {total} scans could not be reconstructed:\n{sentences}")
