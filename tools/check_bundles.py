"""Check bundles: files, formats, metadata, configurations, weights, exports.

    python tools/check_bundles.py [BUNDLE ...]

Without arguments all folders of bundles/ are checked. One line per check; exit status 1 when any failed. Nothing is
downloaded, and nothing is written into a bundle.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import logging
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jsonschema import Draft201909Validator
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.data import load_net_with_metadata

import medsynth_ext
from medsynth_ext.handlers import load_weights

TOOLS = Path(__file__).resolve().parent
REPOSITORY = TOOLS.parent
MAX_FILE_BYTES = 25 * 2**20
MAX_WEIGHTS_BYTES = 14 * 2**20
FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/train.json",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
)
KEYS = {
    "inference.json": "bundle_root device dataset_dir output_dir network_def inferer preprocessing postprocessing "
    "dataset evaluator",
    "train.json": "bundle_root device dataset_dir output_dir train#trainer train#trainer#max_epochs train#dataset "
    "train#dataset#data train#inferer train#handlers validate#evaluator validate#handlers validate#dataset "
    "validate#dataset#data",
    "evaluate.json": "validate#evaluator validate#handlers validate#dataset validate#dataset#data",
}
README_SECTIONS = ("segment|use|run", "train", "data", "results|performance|claims", "licen[cs]e")


class CheckError(Exception):
    """A bundle that breaks a rule; the message says which file, what was wanted and what is there."""


class Bundle:
    """A bundle's folder and what the checks read of it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self.configs = self.root / "configs"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The content of metadata.json."""
        return read_json(self.configs / "metadata.json")

    def files(self) -> Iterator[Path]:
        """The bundle's files, without what runs leave behind (eval/, data/, caches, hidden files)."""
        for path in sorted(self.root.rglob("*")):
            parts = path.relative_to(self.root).parts
            if path.is_file() and parts[0] not in ("eval", "data") and not any(p[0] in "._" for p in parts):
                yield path

    def workflow(self, *names: str, kind: str, **overrides: Any) -> ConfigWorkflow:
        """A workflow of the named configs that was parsed but not initialised: nothing is loaded."""
        workflow = ConfigWorkflow(
            config_file=[str(self.configs / name) for name in names],
            meta_file=str(self.configs / "metadata.json"),
            logging_file=False,  # type: ignore[arg-type]
            workflow_type=kind,
            bundle_root=str(self.root),
            device="cpu",
            initialize=[],
            **overrides,
        )
        workflow.initialize()
        return workflow


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CheckError(f"{path.name} cannot be read: {error}") from error


def require(condition: object, message: str) -> None:
    """Fail with ``message`` unless ``condition`` holds."""
    if not condition:
        raise CheckError(message)


def check_files(bundle: Bundle) -> str:
    """Every file of the layout is there."""
    missing = [name for name in FILES if not (bundle.root / name).is_file()]
    require(not missing, f"missing: {', '.join(missing)}")
    return f"{len(FILES)} files"


def check_no_python(bundle: Bundle) -> str:
    """A bundle is configuration, documents and weights: its code lives in the package."""
    code = [str(path.relative_to(bundle.root)) for path in bundle.root.rglob("*.py")]
    require(not code, f"Python files in the bundle: {', '.join(code)}")
    return ""


def check_json_format(bundle: Bundle) -> str:
    """JSON files are indented by four spaces and end with a line break."""
    wrong = []
    for path in bundle.files():
        if path.suffix == ".json":
            content = read_json(path)
            forms = [json.dumps(content, indent=4, ensure_ascii=flag) + "\n" for flag in (True, False)]
            if path.read_text() not in forms:
                wrong.append(path.name)
    require(not wrong, f"not as json.dumps(indent=4) writes them: {', '.join(wrong)}")
    return ""


def check_sizes(bundle: Bundle) -> str:
    """No file is too large for the model zoo, and the weights stay small."""
    limits = {path: MAX_WEIGHTS_BYTES if path.parent.name == "models" else MAX_FILE_BYTES for path in bundle.files()}
    large = [f"{p.name} {p.stat().st_size / 2**20:.1f} MiB" for p, limit in limits.items() if p.stat().st_size > limit]
    require(not large, f"larger than {MAX_WEIGHTS_BYTES >> 20} (weights) or {MAX_FILE_BYTES >> 20} MiB: {large}")
    return f"{sum(path.stat().st_size for path in limits) / 2**20:.1f} MiB in all"


def check_schema(bundle: Bundle) -> str:
    """metadata.json obeys the schema."""
    validator = Draft201909Validator(read_json(TOOLS / "metadata_schema.json"))
    errors = [
        f"{'.'.join(map(str, e.path)) or 'top level'}: {e.message}" for e in validator.iter_errors(bundle.metadata)
    ]
    require(not errors, "; ".join(errors))
    return ""


def check_version(bundle: Bundle) -> str:
    """The version is x.y.z and has an entry in the changelog."""
    version = bundle.metadata.get("version", "")
    require(re.fullmatch(r"\d+\.\d+\.\d+", version), f"version must be x.y.z, got {version!r}")
    require(version in bundle.metadata.get("changelog", {}), f"the changelog has no entry for version {version}")
    return version


def check_names(bundle: Bundle) -> str:
    """Folder in snake_case, first input image, first output pred, no path of somebody's machine."""
    require(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", bundle.root.name), f"{bundle.root.name} is not snake_case")
    ports = bundle.metadata["network_data_format"]
    first = next(iter(ports["inputs"]), None), next(iter(ports["outputs"]), None)
    require(first == ("image", "pred"), f"first input and output must be image and pred, got {first}")
    for path in bundle.files():
        if path.suffix in (".json", ".md", ".txt", ".conf"):
            found = re.search(r"(/home/|/Users/|/root/|[A-Z]:\\\\|\.\./\.\.)\S*", path.read_text())
            require(found is None, f"{path.name} points out of the bundle: {found and found.group(0)}")
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


def check_logging(bundle: Bundle) -> str:
    """logging.conf is the one file that all bundles share."""
    same = (bundle.configs / "logging.conf").read_bytes() == (TOOLS / "templates/logging.conf").read_bytes()
    require(same, "logging.conf differs from tools/templates/logging.conf")
    return ""


def check_licences(bundle: Bundle) -> str:
    """LICENSE is Apache-2.0; the licence of data and weights is stated."""
    require("Apache License" in (bundle.root / "LICENSE").read_text(), "LICENSE is not the Apache License")
    require(
        len((bundle.root / "docs/data_license.txt").read_text().split()) >= 10, "docs/data_license.txt says nothing"
    )
    return ""


def check_readme(bundle: Bundle) -> str:
    """The README has the sections of a bundle, a command per workflow, and links that lead somewhere."""
    text = (bundle.root / "docs/README.md").read_text()
    headings = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    missing = [name for name in README_SECTIONS if not any(re.search(name, heading) for heading in headings)]
    require(not missing, f"docs/README.md has no heading with {', '.join(missing)}")
    for config in ("train.json", "evaluate.json", "inference.json"):
        wanted = rf"monai\.bundle run[^`]*?{config}"
        require(re.search(wanted, text), f"docs/README.md has no command 'python -m monai.bundle run' with {config}")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    broken = [link for link in links if not (bundle.root / "docs" / link).exists()]
    require(not broken, f"docs/README.md links to missing files: {', '.join(broken)}")
    return ""


def check_keys(bundle: Bundle) -> str:
    """The ids that MONAI, its zoo, MONAI Label and Deploy look for are in the configs."""
    for name, keys in KEYS.items():
        parser = ConfigParser()
        parser.read_config(str(bundle.configs / name))
        missing = [key for key in keys.split() if key not in parser]
        require(not missing, f"{name} lacks {', '.join(missing)}")
        text = (bundle.configs / name).read_text()
        require("ValidationHandler" not in text or "val_interval" in parser, f"{name} validates without val_interval")
        require(not re.search(r"@device\.", text), f"{name} uses @device as a torch.device; it may be a string")
    return ", ".join(KEYS)


def check_properties(bundle: Bundle) -> str:
    """MONAI finds all properties of the inference, training and evaluation workflows, and they can be built."""
    for kind, names in (
        ("infer", ["inference.json"]),
        ("train", ["train.json"]),
        ("train", ["train.json", "evaluate.json"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            missing = bundle.workflow(*names, kind=kind, output_dir=folder).check_properties()
        require(not missing, f"{' + '.join(names)}: {missing}")
    return ""


def check_weights(bundle: Bundle) -> str:
    """models/model.pt is a state dict of the network that the configs build, its parameters in half precision."""
    path = bundle.root / "models/model.pt"
    parameters = 0
    for name, kind in (("inference.json", "infer"), ("train.json", "train")):
        network = bundle.workflow(name, kind=kind).parser.get_parsed_content("network_def")
        load_weights(network, path)
        parameters = sum(p.numel() for p in network.parameters())
    state = torch.load(path, weights_only=True)
    full = [name for name, _ in network.named_parameters() if state[name].dtype != torch.float16]
    require(not full, f"trained parameters must be in half precision, {len(full)} are not, the first is {full[:1]}")
    return f"{parameters} parameters"


def check_network(bundle: Bundle) -> str:
    """One forward pass of network_def gives what metadata.json says."""
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle.configs / "metadata.json"),
        config_file=str(bundle.configs / "inference.json"),
        bundle_root=str(bundle.root),
        device="cpu",
    )
    return ""


def check_torchscript(bundle: Bundle) -> str:
    """The exported file carries the configs and computes what the network with the shipped weights computes."""
    network = bundle.workflow("inference.json", kind="infer").parser.get_parsed_content("network_def").eval()
    load_weights(network, bundle.root / "models/model.pt")
    with tempfile.TemporaryDirectory() as folder:
        exported = f"{folder}/model.ts"
        ckpt_export(
            net_id="network_def",
            filepath=exported,
            ckpt_file=str(bundle.root / "models/model.pt"),
            meta_file=str(bundle.configs / "metadata.json"),
            config_file=str(bundle.configs / "inference.json"),
            bundle_root=str(bundle.root),
        )
        loaded, metadata, extra = load_net_with_metadata(exported, more_extra_files=["inference.json"])
    require(metadata.get("network_data_format"), "the exported file carries no metadata")
    require(extra.get("inference.json"), "the exported file carries no inference.json")
    image = bundle.metadata["network_data_format"]["inputs"]["image"]
    size = [32] * len(image["spatial_shape"])
    x = torch.rand(1, image["num_channels"], *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (loaded.eval()(x) - network(x)).abs().max().item()
    require(difference < 1e-4, f"the exported network differs by {difference:g}")
    return ""


CHECKS: dict[str, Callable[[Bundle], str]] = {
    "files": check_files,
    "no Python": check_no_python,
    "JSON format": check_json_format,
    "sizes": check_sizes,
    "schema": check_schema,
    "version": check_version,
    "names": check_names,
    "packages": check_packages,
    "logging": check_logging,
    "licences": check_licences,
    "README": check_readme,
    "keys": check_keys,
    "properties": check_properties,
    "weights": check_weights,
    "network": check_network,
    "TorchScript": check_torchscript,
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep MONAI's log, warnings and prints away from the table of checks."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def find_bundles(folder: Path = REPOSITORY / "bundles") -> list[Path]:
    """The bundles of the repository."""
    return sorted(path for path in folder.iterdir() if (path / "configs").is_dir())


def check_bundle(root: Path) -> list[str]:
    """Run every check on one bundle, print a line for each, and return the names of those that failed."""
    bundle = Bundle(root)
    failed = []
    for name, check in CHECKS.items():
        start = time.perf_counter()
        try:
            with quiet():
                note = check(bundle)
            outcome = "pass"
        except Exception as error:  # every failure is reported, none stops the rest
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            kind = "" if isinstance(cause, CheckError) else f"{type(cause).__name__}: "
            outcome, note = "FAIL", f"{kind}{cause}"
            failed.append(name)
        print(f"{outcome}  {bundle.root.name}  {name:<12} {time.perf_counter() - start:5.1f} s  {note}".rstrip())
    return failed


def main() -> int:
    """Check the bundles named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", type=Path, help="folders; all of bundles/ when none is given")
    bundles = parser.parse_args().bundles or find_bundles()
    failed = {root.name: names for root in bundles if (names := check_bundle(root))}
    for name, names in failed.items():
        print(f"{name} failed: {', '.join(names)}")
    print(f"{len(bundles) - len(failed)} of {len(bundles)} bundles pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
