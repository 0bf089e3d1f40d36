"""Write a new bundle and the room of its method: a small segmentation that runs as it stands.

    python tools/new_bundle.py NAME --method METHOD [--title TITLE] [--root FOLDER]

Writes bundles/NAME (configs, documents, initial weights), medsynth_ext/methods/METHOD (a network), and the tests:
tests/methods/METHOD and the tiny data for the contract tests, tests/bundles/tiny/NAME.py. What is written passes
tools/check_bundles.py; replace it piece by piece.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser

import medsynth_ext
from medsynth_ext.handlers import half_state_dict

TOOLS = Path(__file__).resolve().parent
REPOSITORY = TOOLS.parent
TEMPLATES = TOOLS / "templates"


def substitutions(method: str, title: str) -> dict[str, str]:
    """What the marks in the templates stand for."""
    packages = {
        "MONAI": "monai",
        "TORCH": "torch",
        "NUMPY": "numpy",
        "NIBABEL": "nibabel",
        "IGNITE": "pytorch-ignite",
        "TQDM": "tqdm",
    }
    marks = {mark: importlib.metadata.version(package).split("+")[0] for mark, package in packages.items()}
    marks |= {"MEDSYNTH_EXT": medsynth_ext.__version__, "METHOD": method, "TITLE": title}
    marks["CLASS"] = "".join(part.capitalize() for part in method.split("_")) + "Net"
    return {f"__{mark}__": value for mark, value in marks.items()}


def write(template: Path, target: Path, marks: dict[str, str]) -> None:
    """Copy a template with its marks replaced."""
    text = template.read_text()
    for mark, value in marks.items():
        text = text.replace(mark, value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def write_weights(bundle: Path, network_file: Path, marks: dict[str, str]) -> None:
    """Initial weights of the network that the bundle's configs name, always the same ones."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/train.json"))
    definition = {key: value for key, value in parser.get("network_def").items() if key != "_target_"}
    arguments = {key: parser.get(v[1:]) if str(v).startswith("@") else v for key, v in definition.items()}
    # By its file: the room may be outside of the installed package.
    spec = importlib.util.spec_from_file_location("new_network", network_file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    network = getattr(module, marks["__CLASS__"])(**arguments)
    (bundle / "models").mkdir()
    torch.save(half_state_dict(network), bundle / "models/model.pt")


def new_bundle(name: str, method: str, *, title: str | None = None, root: Path = REPOSITORY) -> list[Path]:
    """Write a bundle, its method's room and their tests under ``root``.

    Returns:
        The folders and files that were written.

    Raises:
        ValueError: for a name that is not snake_case.
        FileExistsError: when the bundle or the room is there already.
    """
    for kind, value, pattern in (("NAME", name, r"[a-z0-9]+(_[a-z0-9]+)+"), ("METHOD", method, r"[a-z][a-z0-9_]*")):
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{kind} must be snake_case such as fbpaug_ct_segmentation, got {value!r}")
    bundle, room = root / "bundles" / name, root / "medsynth_ext/methods" / method
    test, tiny = (
        root / "tests/methods" / method / f"test_{method}_network.py",
        root / "tests/bundles/tiny" / f"{name}.py",
    )
    for path in (bundle, room, test, tiny):
        if path.exists():
            raise FileExistsError(f"{path} exists already")
    marks = substitutions(method, title or name.replace("_", " ").capitalize())
    for folder, target in ((TEMPLATES / "bundle", bundle), (TEMPLATES / "method", room)):
        for template in sorted(path for path in folder.rglob("*") if path.is_file()):
            write(template, target / template.relative_to(folder).with_name(template.name.removesuffix(".in")), marks)
    write(TEMPLATES / "test_network.py.in", test, marks)
    write(TEMPLATES / "tiny.py.in", tiny, marks)
    shutil.copy(TEMPLATES / "logging.conf", bundle / "configs/logging.conf")
    shutil.copy(REPOSITORY / "LICENSE", bundle / "LICENSE")
    write_weights(bundle, room / "network.py", marks)
    return [bundle, room, test, tiny]


def main() -> int:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="folder of the bundle: method first, then task")
    parser.add_argument("--method", required=True, help="room under medsynth_ext/methods")
    parser.add_argument("--title", help="name to show; made from NAME when not given")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="where bundles/, medsynth_ext/ and tests/ are")
    options = parser.parse_args()
    try:
        written = new_bundle(options.name, options.method, title=options.title, root=options.root)
    except (ValueError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
