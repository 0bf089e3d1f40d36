"""The study behind the claims."""

from medsynth_ext.methods.frequency_supervised.claims.study import FrequencyStudy

__all__ = ["FrequencyStudy"]
