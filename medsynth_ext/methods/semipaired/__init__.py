"""MR to CT and back from a surrogate and unpaired CT (Paavilainen et al., DGM4MICCAI at MICCAI 2021)."""

from medsynth_ext.methods.semipaired.objectives import PairedObjective, SurrogateObjective, TwoDiscriminatorObjective

__all__ = ["PairedObjective", "SurrogateObjective", "TwoDiscriminatorObjective"]
