"""Landmarks from one annotated volume: a slice network finds the structure, registration carries the points over.

Wang et al., One-Shot Learning for Landmarks Detection, DALI workshop at MICCAI 2021.
"""
