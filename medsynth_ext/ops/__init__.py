"""The operators, one module per family."""

from medsynth_ext.ops.random import philox_raw

__all__ = ["philox_raw"]
