"""Every Python snippet of every page runs as it stands, the snippets of one page one after another."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import one_thread
from doc_pages import ROOT, Block, blocks, name, pages
from monai.data import MetaTensor

import medsynth_ext.ops as ops
from medsynth_ext.bulk import Job, generate
from medsynth_ext.ops import CTGeometry

HALF = {"X": 6.0, "Y": 6.0, "Z": 4.0}
ENDS = (("Min", -1.0), ("Max", 1.0))


def ct_names() -> dict[str, Any]:
    """Scans as ASTRA, TIGRE, LEAP and C-arms describe them, small ones."""
    angles = torch.linspace(0, 2 * math.pi, 9)[:-1]
    vol_geom = {
        "GridRowCount": 12,
        "GridColCount": 12,
        "GridSliceCount": 8,
        "option": {
            f"Window{end}{axis}": sign * n for axis, n in zip("XYZ", (6, 6, 4), strict=True) for end, sign in ENDS
        },
    }
    proj_geom = {
        "type": "cone",
        "DetectorSpacingX": 1.0,
        "DetectorSpacingY": 1.0,
        "DetectorRowCount": 10,
        "DetectorColCount": 14,
        "ProjectionAngles": angles.double().numpy(),
        "DistanceOriginSource": 100.0,
        "DistanceOriginDetector": 50.0,
    }
    geo = SimpleNamespace(
        mode="cone",
        nVoxel=np.array([8, 12, 12]),
        dVoxel=np.ones(3),
        nDetector=np.array([10, 14]),
        dDetector=np.ones(2),
        DSO=100.0,
        DSD=150.0,
        offOrigin=np.zeros(3),
        offDetector=np.zeros(2),
    )
    cone = CTGeometry.from_astra(vol_geom, proj_geom)
    return {
        "torch": torch,
        "ops": ops,
        "CTGeometry": CTGeometry,
        "vol_geom": vol_geom,
        "proj_geom": proj_geom,
        "astra_volume": torch.rand(8, 12, 12),
        "astra_projections": torch.rand(10, 8, 14),
        "geo": geo,
        "angles": angles.double().numpy(),
        "vol": torch.rand(1, 1, 8, 12, 12),
        "phis": torch.rad2deg(angles).numpy(),
        "matrices": cone.projection_matrices(),
        "det_shape": (10, 14),
        "vol_shape": (8, 12, 12),
        "spacing": (1.0, 1.0, 1.0),
        "theta": torch.arange(0.0, 180.0, 30.0),
        "N": 13,
    }


def mesh_names() -> dict[str, Any]:
    """An image with a place in the world, and vertices in its millimetres."""
    image = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    return {"image": image, "world": torch.rand(1, 5, 3)}


def label_map_names() -> dict[str, Any]:
    """A label table in the folder, and a batch of one label map."""
    table = ROOT / "bundles/synthseg_brain_segmentation/configs/labels.json"
    Path("TABLE.json").write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    labels = torch.zeros(1, 1, 120, 120, 120, dtype=torch.int32)
    labels[..., 30:90, 30:90, 30:90] = 2
    return {"labels": labels}


def scan_names() -> dict[str, Any]:
    """Files that a page's reader has."""
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), "scan.nii.gz")
    return {}


def series_names() -> dict[str, Any]:
    """A DICOM series that a page's reader has."""
    nifti_to_dicom = pytest.importorskip("nifti_to_dicom", reason="pydicom writes the series")
    nifti_to_dicom.write_series("scans/bert", np.arange(64.0).reshape(4, 4, 4), np.eye(4))
    return {}


def generated_names() -> dict[str, Any]:
    """A finished run of bulk generation."""
    source = {"_target_": "medsynth_ext.bulk.PhantomSource", "phantom": "head", "size": 16}
    generate(Job({"source": source}, "build/hearts", 1))
    return {}


# What a reader of these pages has already, as small as it can be.
READERS_OWN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/ct_geometries.md": ct_names,
    "docs/dicom.md": series_names,
    "docs/generate.md": generated_names,
    "docs/meshes.md": mesh_names,
    "docs/use_your_label_maps.md": label_map_names,
    "docs/use_your_data.md": scan_names,
}


def snippets(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a snippet in a namespace; errors name the page and the line."""
    code = compile("\n" * block.line + block.text, str(block.page), "exec")
    with one_thread(), contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)


@pytest.mark.parametrize("page", [page for page in pages() if snippets(page)], ids=name)
def test_every_snippet_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__page__"}
    names |= READERS_OWN.get(name(page), dict)()
    for block in snippets(page):
        if block.not_run is None:
            run(block, names)
        else:
            compile(block.text, block.place, "exec")


def test_a_snippet_that_fails_is_found(tmp_path: Path) -> None:
    page = ROOT / "README.md"
    with pytest.raises(AttributeError, match="no_such_operator"):
        run(Block(page, 7, "python", "from medsynth_ext import ops\nops.no_such_operator()", None), {})


def test_every_reason_for_not_running_a_snippet_is_a_sentence() -> None:
    for page in pages():
        for block in blocks(page):
            assert block.not_run is None or len(block.not_run.split()) >= 3, block.place
