"""Checks of configs/metadata.json: schema, version, names, packages."""

from __future__ import annotations

import importlib.metadata
import re

from jsonschema import Draft201909Validator

import medsynth_ext

from .bundle import TEXTS, Bundle, NotApplicable, read_json, read_text, require
from .paths import TOOLS

SCHEMA_DATE = "20240725"


def check_schema(bundle: Bundle) -> str:
    """metadata.json names the schema that we know and obeys it."""
    named = str(bundle.metadata.get("schema", ""))
    dates = re.findall(r"meta_schema_(\d{8})\.json$", named)
    known = f"meta_schema_{SCHEMA_DATE}.json"
    require(dates, f"metadata.json must name its schema, .../{known}, got {named!r}")
    require(dates[0] <= SCHEMA_DATE, f"metadata.json is of the newer schema {named}; {known} is the newest known here")
    require(dates[0] == SCHEMA_DATE, f"metadata.json is of the old schema {named}; {known} is wanted")
    validator = Draft201909Validator(read_json(TOOLS / "metadata_schema.json"))
    errors = [
        f"{'.'.join(map(str, e.path)) or 'top level'}: {e.message}" for e in validator.iter_errors(bundle.metadata)
    ]
    require(not errors, "metadata.json: " + "; ".join(errors))
    return named.rsplit("/", 1)[-1]


def check_version(bundle: Bundle) -> str:
    """The version is x.y.z and has an entry in the changelog."""
    version = bundle.metadata.get("version", "")
    require(re.fullmatch(r"\d+\.\d+\.\d+", version), f"version must be x.y.z, got {version!r}")
    require(version in bundle.metadata.get("changelog", {}), f"the changelog has no entry for version {version}")
    return version


def check_names(bundle: Bundle) -> str:
    """Folder in snake_case, first input image, first output pred, no path of somebody's machine."""
    require(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", bundle.root.name), f"{bundle.root.name} is not snake_case")
    for path in bundle.files():
        if path.suffix in TEXTS:
            found = re.search(r"(/home/|/Users/|/root/|[A-Z]:\\\\|\.\./\.\.)\S*", read_text(path))
            require(found is None, f"{path.name} points out of the bundle: {found and found.group(0)}")
    try:
        ports = bundle.ports
    except NotApplicable as reason:
        return str(reason)
    first = next(iter(ports["inputs"]), None), next(iter(ports["outputs"]), None)
    require(first == ("image", "pred"), f"first input and output must be image and pred, got {first}")
    return ""


def check_packages(bundle: Bundle) -> str:
    """The versions in metadata.json are those that run here, without a local part."""
    pins = {
        "monai": bundle.metadata["monai_version"],
        "torch": bundle.metadata["pytorch_version"],
        "numpy": bundle.metadata["numpy_version"],
        **bundle.metadata["required_packages_version"],
    }
    wrong = [f"{name} {pin}, here {here}" for name, pin in pins.items() if (here := installed_version(name)) != pin]
    require(not wrong, f"pinned: {'; '.join(wrong)}")
    return ", ".join(f"{name} {pin}" for name, pin in pins.items())


def installed_version(name: str) -> str | None:
    """Version of an installed package without its local part, None when it is not there."""
    if name == "medsynth_ext":  # may run from a source tree
        return medsynth_ext.__version__
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


METADATA_CHECKS = {
    "schema": check_schema,
    "version": check_version,
    "names": check_names,
    "packages": check_packages,
}
