"""Runs a bundle's claims: arms times seeds on stand-in data; for every claim what was wanted and what was measured."""

from medsynth_ext.claims.claim import Claim, Condition, Outcome, Results
from medsynth_ext.claims.run import run_bundle, run_study
from medsynth_ext.claims.settings_study import SettingsStudy
from medsynth_ext.claims.study import Arm, Progress, Study

__all__ = [
    "Arm",
    "Claim",
    "Condition",
    "Outcome",
    "Progress",
    "Results",
    "SettingsStudy",
    "Study",
    "run_bundle",
    "run_study",
]
