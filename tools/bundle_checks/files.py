"""Checks of the files as such: which are there, whether they can be read, how they are written."""

from __future__ import annotations

import json
import re
from collections import Counter

from PIL import Image

from .bundle import TEXTS, Bundle, CheckError, read_json, read_text, require
from .paths import REPOSITORY, TEMPLATES

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
README_SECTIONS = ("segment|use|run", "train", "data", "results|performance|claims", "licen[cs]e")


def check_files(bundle: Bundle) -> str:
    """Every file of the layout is there and holds something."""
    missing = [name for name in FILES if not (bundle.root / name).is_file()]
    require(not missing, f"missing: {', '.join(missing)}")
    empty = [bundle.name(path) for path in bundle.files() if path.stat().st_size == 0]
    require(not empty, f"empty: {', '.join(empty)}")
    return f"{len(FILES)} files"


def check_readable(bundle: Bundle) -> str:
    """Text is UTF-8, JSON is JSON, pictures are pictures."""
    for path in bundle.files():
        if path.suffix == ".json":
            content = read_json(path)
            is_config = path.parent == bundle.configs
            require(not is_config or isinstance(content, dict), f"{bundle.name(path)} must be a JSON object")
        elif path.suffix in TEXTS:
            read_text(path)
        elif path.suffix == ".png":
            try:
                with Image.open(path) as picture:
                    picture.load()
            except (OSError, SyntaxError) as error:
                raise CheckError(f"{bundle.name(path)} is no whole picture: {error}") from error
    return ""


def check_no_python(bundle: Bundle) -> str:
    """A bundle is configuration, documents and weights: its code lives in the package."""
    code = [bundle.name(path) for path in bundle.root.rglob("*.py")]
    require(not code, f"Python files in the bundle: {', '.join(code)}")
    return ""


def check_json_format(bundle: Bundle) -> str:
    """JSON files are indented by four spaces and end with a line break."""
    wrong = []
    for path in bundle.files():
        if path.suffix == ".json":
            content = read_json(path)
            forms = [json.dumps(content, indent=4, ensure_ascii=flag) + "\n" for flag in (True, False)]
            if read_text(path) not in forms:
                wrong.append(path.name)
    require(not wrong, f"not as json.dumps(indent=4) writes them: {', '.join(wrong)}")
    return ""


def check_text_format(bundle: Bundle) -> str:
    """What the zoo's hooks ask of text: no space at an end of line, one line break at the end, no key, no twin name."""
    for path in bundle.files():
        if path.suffix in TEXTS or path.name == "LICENSE":
            text, name = read_text(path), bundle.name(path)
            spaces = [i for i, line in enumerate(text.splitlines(), 1) if line != line.rstrip()]
            require(not spaces, f"{name} has spaces at the end of line {spaces[:1]}")
            require(text.endswith("\n") and not text.endswith("\n\n"), f"{name} must end with one line break")
            require("PRIVATE KEY-----" not in text, f"{name} holds a private key")
    twins = [name for name, n in Counter(bundle.name(path).lower() for path in bundle.files()).items() if n > 1]
    require(not twins, f"names that differ in capitals alone: {', '.join(twins)}")
    return ""


def check_sizes(bundle: Bundle) -> str:
    """No file is too large for the model zoo, and the weights stay small."""
    limits = {path: MAX_WEIGHTS_BYTES if path.parent.name == "models" else MAX_FILE_BYTES for path in bundle.files()}
    large = [f"{p.name} {p.stat().st_size / 2**20:.1f} MiB" for p, limit in limits.items() if p.stat().st_size > limit]
    require(not large, f"larger than {MAX_WEIGHTS_BYTES >> 20} (weights) or {MAX_FILE_BYTES >> 20} MiB: {large}")
    return f"{sum(path.stat().st_size for path in limits) / 2**20:.1f} MiB in all"


def check_logging(bundle: Bundle) -> str:
    """logging.conf is the one file that all bundles share."""
    same = (bundle.configs / "logging.conf").read_bytes() == (TEMPLATES / "logging.conf").read_bytes()
    require(same, "logging.conf differs from tools/templates/logging.conf")
    return ""


def check_readme(bundle: Bundle) -> str:
    """The README has the sections of a bundle, a command per workflow, and links that lead somewhere."""
    text = read_text(bundle.root / "docs/README.md")
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


def check_licence_file(bundle: Bundle) -> str:
    """LICENSE is the repository's, word for word."""
    same = (bundle.root / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    require(same, "LICENSE differs from the Apache License 2.0 of the repository")
    return ""


# Without these the other checks would only say the same again.
SOUND_FILES = ("files", "readable")
FILE_CHECKS = {
    "files": check_files,
    "readable": check_readable,
    "no Python": check_no_python,
    "JSON format": check_json_format,
    "text format": check_text_format,
    "sizes": check_sizes,
    "logging": check_logging,
    "LICENSE": check_licence_file,
    "README": check_readme,
}
