"""Writing scans as another reconstruction kernel would show them."""

from __future__ import annotations

import os

from tqdm.auto import tqdm

from medsynth_ext.data.files import OutputError, check_writable
from medsynth_ext.data.scans import ScanDataset
from medsynth_ext.handlers import NiftiWriter

__all__ = ["rekernel_scans"]


def rekernel_scans(dataset: ScanDataset, output_dir: str | os.PathLike) -> None:
    """Run the data set's transform, which reconstructs, over every scan and write ``<case>_rekernel.nii.gz`` in HU.

    Raises:
        SystemExit: with status 1 and the sentences, when a scan could not be used or the folder cannot be written.
    """
    writer = NiftiWriter(output_dir, postfix="rekernel", dtype="float32")
    try:
        check_writable(output_dir)
        for sample in tqdm(dataset, total=len(dataset.files), desc="reconstructing"):
            writer.write(sample["image"])
    except OutputError as error:
        raise SystemExit(f"error: {error}") from None
    if dataset.failures:
        sentences = "\n".join(f"  {sentence}" for _, sentence in dataset.failures)
        total = len(dataset.files)
        raise SystemExit(f"error: {len(dataset.failures)} of {total} scans could not be reconstructed:\n{sentences}")
