"""Engines: one trainer, one step per training pattern, the run over a folder of scans, and the last words."""

from medsynth_ext.engines.adversarial_step import AdversarialStep, checked_update
from medsynth_ext.engines.cycle_step import CycleStep, frozen
from medsynth_ext.engines.errors_as_sentences import errors_as_sentences, sentence_of
from medsynth_ext.engines.image_label_step import ImageLabelStep
from medsynth_ext.engines.image_pool import ImagePool
from medsynth_ext.engines.joint_cycle_step import DomainBatch, JointCycleStep
from medsynth_ext.engines.latent import LatentGaussian, LatentTable
from medsynth_ext.engines.mean_teacher_step import MeanTeacherStep, SemiSupervisedTask
from medsynth_ext.engines.point_batch import prepare_point_batch
from medsynth_ext.engines.sample_states import sample_states
from medsynth_ext.engines.segmentation_run import SegmentationRun
from medsynth_ext.engines.stages import Stages
from medsynth_ext.engines.supervised_step import SupervisedStep
from medsynth_ext.engines.synthetic_step import SyntheticBatch, SyntheticStep
from medsynth_ext.engines.trainer import StepTrainer
from medsynth_ext.engines.translation_step import TranslationObjective, TranslationStep

__all__ = [
    "AdversarialStep",
    "CycleStep",
    "DomainBatch",
    "ImageLabelStep",
    "ImagePool",
    "JointCycleStep",
    "LatentGaussian",
    "LatentTable",
    "MeanTeacherStep",
    "SegmentationRun",
    "SemiSupervisedTask",
    "Stages",
    "StepTrainer",
    "SupervisedStep",
    "SyntheticBatch",
    "SyntheticStep",
    "TranslationObjective",
    "TranslationStep",
    "checked_update",
    "errors_as_sentences",
    "frozen",
    "prepare_point_batch",
    "sample_states",
    "sentence_of",
]
