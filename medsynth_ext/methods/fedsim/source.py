"""A trained simulator as a source of labelled CT volumes for bulk generation."""

from __future__ import annotations

from typing import Any

from medsynth_ext.bulk import Sample
from medsynth_ext.methods.fedsim.generation import HeartSimulator
from medsynth_ext.methods.fedsim.writer import case_facts, case_volumes, file_hash

__all__ = ["HeartSource"]


class HeartSource:
    """New patients with their labels.

    Args:
        simulator: trained.
        files: what it was loaded from, for their checksums, by name.
        settings: of the networks and the scanner, for the description.
        site: hospital, for the description.
        save_parts: write the seven parts beside the heart.
    """

    def __init__(
        self,
        simulator: HeartSimulator,
        *,
        files: dict[str, str],
        settings: dict[str, Any],
        site: str = "A",
        save_parts: bool = True,
    ) -> None:
        self.simulator = simulator
        self.files = dict(files)
        self.settings = dict(settings)
        self.site = site
        self.save_parts = save_parts

    def describe(self) -> dict[str, Any]:
        """Settings, and checksums of weights and shape model."""
        simulator = self.simulator
        return {
            "kind": "fedsim",
            "site": self.site,
            "device": next(simulator.model.parameters()).device.type,
            "files": {name: file_hash(path) for name, path in self.files.items()},
            "settings": self.settings,
            "blend": simulator.blend,
            "random_shapes": simulator.random_shapes,
            "context": simulator.context,
            "slices_at_once": simulator.slices_at_once,
            "fixed_material": simulator.fixed_material is not None,
            "save_parts": self.save_parts,
        }

    def make(self, index: int, *, seed: int) -> Sample:
        """Patient number ``index``."""
        case = self.simulator.generate(index, seed=seed)
        volumes = case_volumes(case, self.simulator, save_parts=self.save_parts)
        return Sample(volumes, case_facts(case))
