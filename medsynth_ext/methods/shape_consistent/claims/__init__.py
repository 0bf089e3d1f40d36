"""Claims of the shape-consistent translation, on phantom hearts of two domains."""

from medsynth_ext.methods.shape_consistent.claims.study import ShapeConsistentStudy

__all__ = ["ShapeConsistentStudy"]
