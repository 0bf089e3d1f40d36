"""One-shot landmark detection's claims, on temporal bone phantoms."""

from medsynth_ext.methods.oneshot.claims.study import OneShotStudy

__all__ = ["OneShotStudy"]
