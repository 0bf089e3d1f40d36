"""Checks that the licences of weights and data are stated, by docs/data_license.txt and metadata.json alike."""

from __future__ import annotations

import fnmatch
import re

from .bundle import Bundle, read_text, require

# Names as SPDX has them; "none" where no data were used.
KNOWN = re.compile(
    r"\b(Apache-2\.0|MIT|BSD-[23]-Clause|CC0-1\.0|CC-BY(-NC)?(-SA|-ND)?-\d\.\d|LicenseRef-[\w-]+|none)\b"
)
FORM = "'Weights (models/FILE, ...): LICENCE' and 'Training data: LICENCE' at the beginning of lines"


def check_data_licence(bundle: Bundle) -> str:
    """docs/data_license.txt names a licence for every file of models/ and for what it was trained on."""
    text = read_text(bundle.root / "docs/data_license.txt")
    heads = re.findall(r"^Weights \(([^)]+)\): (.+)$", text, flags=re.M)
    data = re.findall(r"^Training data: (.+)$", text, flags=re.M)
    require(heads and data, f"docs/data_license.txt must have {FORM}")
    for _, licence in heads:
        require(KNOWN.search(licence), f"docs/data_license.txt names no known licence of weights: {licence!r}")
    for licence in data:
        require(KNOWN.search(licence), f"docs/data_license.txt names no known licence of training data: {licence!r}")
    named = [pattern.strip() for files, _ in heads for pattern in files.split(",")]
    here = [bundle.name(path) for path in bundle.files() if path.parent.name == "models"]
    without = [name for name in here if not any(fnmatch.fnmatch(name, pattern) for pattern in named)]
    require(not without, f"docs/data_license.txt says nothing of {', '.join(without)}")
    lost = [pattern for pattern in named if not any(fnmatch.fnmatch(name, pattern) for name in here)]
    require(not lost, f"docs/data_license.txt speaks of {', '.join(lost)}, which the bundle has not")
    return ", ".join(dict.fromkeys(licence for _, licence in heads))


def check_licence_in_metadata(bundle: Bundle) -> str:
    """In metadata.json copyright names the weights' licence, data_source that of the training data."""
    text = read_text(bundle.root / "docs/data_license.txt")
    for field, head in (("copyright", r"Weights \([^)]+\)"), ("data_source", "Training data")):
        stated = str(bundle.metadata.get(field, ""))
        wanted = {m.group(0) for line in re.findall(rf"^{head}: (.+)$", text, flags=re.M) for m in KNOWN.finditer(line)}
        missing = sorted(wanted - {m.group(0) for m in KNOWN.finditer(stated)})
        require(stated and not missing, f"{field} in metadata.json must name {', '.join(missing)}, got {stated!r}")
    return ""


LICENCE_CHECKS = {"data licence": check_data_licence, "metadata licence": check_licence_in_metadata}
