"""SynthSeg's generative model as a source of labelled images for bulk generation."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsynth_ext.bulk import Sample, Volume, on_grid
from medsynth_ext.data.label_maps import LabelMaps
from medsynth_ext.generators import SynthSegGenerator

__all__ = ["SynthSegSource"]


class SynthSegSource:
    """Images of random contrast and resolution with their labels, from a folder of label maps.

    Sample number i is made from map i, beginning again after the last one, so that all maps are used as often.

    Args:
        generator: makes image and target.
        maps: label maps.
        levels: whole number that the intensity 1 is stored as; images are int16.

    Raises:
        ValueError: for a map that cannot be read or used, or when there is none.
    """

    def __init__(self, generator: SynthSegGenerator, maps: LabelMaps, *, levels: int = 1000) -> None:
        if not 1 <= levels <= 32767:
            raise ValueError(f"levels must be from 1 to 32767, got {levels}")
        self.generator = generator
        self.maps = maps.load()
        self.levels = levels
        self.values = torch.tensor(generator.label_table.target_values, dtype=torch.int32)
        self.files = [
            {"name": Path(item["label"]).name, "sha256": hashlib.sha256(Path(item["label"]).read_bytes()).hexdigest()}
            for item in maps.data
        ]

    def describe(self) -> dict[str, Any]:
        """Settings of the generator, the label table and the checksums of the maps."""
        generator = self.generator
        settings = {
            "crop_size": list(generator.crop_size),
            "spacing_mm": generator.spacing_mm,
            "map_spacing_mm": generator.map_spacing_mm,
            "channels": generator.channels,
            "steps": generator.steps,
            "nearest_downsampling": generator.nearest_downsampling,
            "ranges": asdict(generator.ranges),
        }
        return {
            "kind": "synthseg",
            "device": self.maps.device.type,
            "levels": self.levels,
            "generator": settings,
            "label_table": asdict(generator.label_table),
            "center_labels": self.maps.center_labels,
            "maps": self.files,
        }

    def make(self, index: int, *, seed: int) -> Sample:
        """Image (one volume per channel) and label with the values of the table."""
        number = index % len(self.maps)
        item = self.maps[number]
        image, target = self.generator(item["label"][None], seed=seed, index=index, center=item["center"][None])
        label = self.values.to(target.device)[target[0, 0].long()]
        names = ["image"] if len(image[0]) == 1 else [f"image_{c + 1}" for c in range(len(image[0]))]
        volumes = {
            name: Volume(on_grid((channel.cpu() * self.levels).round(), self.generator.spacing_mm), np.int16)
            for name, channel in zip(names, image[0], strict=True)
        }
        volumes["label"] = Volume(on_grid(label.cpu(), self.generator.spacing_mm), np.int16)
        return Sample(volumes, {"map": self.files[number]["name"]})
