"""Training engines: one trainer, and one step per training pattern."""

from medsynth_ext.engines.supervised_step import SupervisedStep
from medsynth_ext.engines.synthetic_step import SyntheticBatch, SyntheticStep
from medsynth_ext.engines.trainer import StepTrainer

__all__ = ["StepTrainer", "SupervisedStep", "SyntheticBatch", "SyntheticStep"]
