"""__TITLE__: what this method alone has."""

from medsynth_ext.methods.__METHOD__.network import __CLASS__

__all__ = ["__CLASS__"]
