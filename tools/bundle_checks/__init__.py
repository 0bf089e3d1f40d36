"""The checks of a bundle's folder, by what they look at; tools/check_bundles.py runs them."""

from __future__ import annotations

from .bundle import Bundle, CheckError, NotApplicable
from .files import FILE_CHECKS, SOUND_FILES
from .licences import LICENCE_CHECKS
from .metadata import METADATA_CHECKS
from .unit_run import check_unit_run
from .workflows import WORKFLOW_CHECKS

__all__ = ["CHECKS", "SOUND_FILES", "Bundle", "CheckError", "NotApplicable", "check_unit_run"]

CHECKS = {**FILE_CHECKS, **METADATA_CHECKS, **LICENCE_CHECKS, **WORKFLOW_CHECKS}
