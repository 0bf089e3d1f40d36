"""The study of the simulator's claims on phantom hospitals."""

from medsynth_ext.methods.fedsim.claims.study import FedSimStudy

__all__ = ["FedSimStudy"]
