"""Plain PyTorch twins of the operators: what each computes, in the fewest words; slow, and right in float64."""

from medsynth_ext.ops.reference.random import philox_raw

__all__ = ["philox_raw"]
