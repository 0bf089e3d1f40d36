"""Synthetic volumes in bulk: sharded, resumable, over processes or machines."""

from medsynth_ext.bulk.job import Job, JobError
from medsynth_ext.bulk.phantoms import PHANTOMS, PhantomSource
from medsynth_ext.bulk.run import generate, generated_samples
from medsynth_ext.bulk.sample import Sample, SampleSource, Volume, on_grid, sample_number

__all__ = [
    "PHANTOMS",
    "Job",
    "JobError",
    "PhantomSource",
    "Sample",
    "SampleSource",
    "Volume",
    "generate",
    "generated_samples",
    "on_grid",
    "sample_number",
]
