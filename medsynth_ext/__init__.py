"""medsynth_ext: operators, generators and methods for synthetic medical images and cheap labels."""

from __future__ import annotations

from medsynth_ext._extension import build_info, operator_library

__all__ = ["__version__", "build_info", "operator_library"]

__version__ = "0.1.0"
