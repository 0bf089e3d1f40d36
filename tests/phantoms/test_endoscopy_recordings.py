"""Phantom recordings of both domains as files."""

from __future__ import annotations

from pathlib import Path

import torch

from medsynth_ext.data.point_frames import find_point_frames, read_frame, read_points
from medsynth_ext.phantoms.endoscopy import endoscopy_recording
from medsynth_ext.phantoms.endoscopy_recordings import INTRAOP_SEEDS, write_domains


def test_both_domains_are_written_with_valves_of_their_own(tmp_path: Path) -> None:
    write_domains(tmp_path, sim=1, intraop=2, frames=3, size=(36, 64), seed=5)
    frames = {domain: find_point_frames(tmp_path / domain) for domain in ("sim", "intraop")}
    assert [frame["surgery"] for frame in frames["sim"]] == ["sim_005"] * 3
    assert [frame["surgery"] for frame in frames["intraop"]] == ["intraop_005"] * 3 + ["intraop_006"] * 3
    want = endoscopy_recording(INTRAOP_SEEDS + 5, domain="intraop", frames=3, size=(36, 64))
    for item, frame in zip(frames["intraop"], want, strict=False):
        assert torch.allclose(read_frame(item["image"]), frame.image.clamp(0, 1), atol=0.5 / 255 + 1e-6)
        assert torch.allclose(read_points(item["points"]), frame.points, atol=1e-3)
