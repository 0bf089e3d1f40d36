"""Training engines: one trainer, and one step per training pattern."""

from medsynth_ext.engines.adversarial_step import AdversarialStep, checked_update
from medsynth_ext.engines.latent import LatentGaussian, LatentTable
from medsynth_ext.engines.supervised_step import SupervisedStep
from medsynth_ext.engines.synthetic_step import SyntheticBatch, SyntheticStep
from medsynth_ext.engines.trainer import StepTrainer

__all__ = [
    "AdversarialStep",
    "LatentGaussian",
    "LatentTable",
    "StepTrainer",
    "SupervisedStep",
    "SyntheticBatch",
    "SyntheticStep",
    "checked_update",
]
