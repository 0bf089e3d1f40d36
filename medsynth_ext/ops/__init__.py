"""The operators, one module per family."""

from medsynth_ext.ops.labels import map_labels
from medsynth_ext.ops.random import philox_raw

__all__ = ["map_labels", "philox_raw"]
