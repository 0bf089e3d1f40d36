"""Build docs/gallery/index.html: every bundle with a picture, its claims, speed, size, licence and a command.

    python tools/make_gallery.py [--out docs/gallery/index.html]

The page is one file without scripts; it shows the pictures of the bundles where they are, so open it from the tree.
It is built when it is wanted and never kept: everything on it is in the bundles.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from medsynth_ext.data.files import OutputError, replacing

TOOLS = Path(__file__).resolve().parent
REPOSITORY = TOOLS.parent


class GalleryError(ValueError):
    """A bundle that cannot be shown; the message names the file, what was wanted and what came."""


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        GalleryError: for a file that is missing or holds no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GalleryError(f"{path} must be a text file: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        GalleryError: for a file that is missing or holds something else.
    """
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise GalleryError(f"{path} must be a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise GalleryError(f"{path} must be a JSON object, got {type(found).__name__}")
    return found


@dataclass(frozen=True)
class Exhibit:
    """A bundle as the page shows it; ``folder`` is the page's own, from which it refers to pictures."""

    bundle: Path
    folder: Path

    @property
    def name(self) -> str:
        return escape(self.bundle.name)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return read_json(self.bundle / "configs/metadata.json")

    def reference(self, path: Path) -> str:
        """How the page refers to a file."""
        return escape(Path(os.path.relpath(path, self.folder)).as_posix())

    @cached_property
    def picture(self) -> tuple[str, str]:
        """Reference and caption of the first picture in the bundle's README that is no figure of claims.

        Raises:
            GalleryError: when there is none, or it is not there.
        """
        readme = self.bundle / "docs/README.md"
        pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+\.png)\)", read_text(readme))
        chosen = [(caption, name) for caption, name in pictures if not name.startswith("claims_")]
        if not chosen:
            raise GalleryError(f"{readme} must show a picture of what the bundle makes, got none")
        caption, name = chosen[0]
        if not (self.bundle / "docs" / name).is_file():
            raise GalleryError(f"{readme} shows {name}, which is not in {self.bundle / 'docs'}")
        return self.reference(self.bundle / "docs" / name), escape(caption)

    @cached_property
    def runs(self) -> list[dict[str, Any]]:
        """The runs of the study of claims."""
        path = self.bundle / "docs/claims.json"
        return list(read_json(path)["runs"].values()) if path.is_file() else []

    @property
    def claims(self) -> str:
        """How many claims of the paper were measured, and how many held."""
        outcomes = [claim["held"] for run in self.runs for claim in run["claims"]]
        return f"{sum(outcomes)} of {len(outcomes)} measured claims held" if outcomes else "no claim measured yet"

    @property
    def size(self) -> str:
        """Size of the shipped weights."""
        return f"{sum(path.stat().st_size for path in (self.bundle / 'models').iterdir()) / 1e6:.1f}\u00a0MB"

    @cached_property
    def speed(self) -> str:
        """Time per scan and its setting, as tools/measure_speed.py measured them."""
        path = self.bundle / "docs/speed.json"
        if not path.is_file():
            return "not measured"
        record = read_json(path)
        machine = record["machine"]
        clock = "wall" if machine["gpu"] else "processor"
        size = " x ".join(str(n) for n in record["input_size"])
        where = machine["gpu"] or f"{machine['threads']} thread of {machine['cpu']}"
        return escape(
            f"{number(record[f'{clock}_seconds_per_file'])} s of {clock} time per file, all but start-up included "
            f"({record['input']}, {size}; {where}); peak memory {record['peak_memory_mib'] / 1024:.1f} GiB"
        )

    @cached_property
    def licences(self) -> tuple[str, str]:
        """What docs/data_license.txt says in short, and the whole of it."""
        text = read_text(self.bundle / "docs/data_license.txt").strip()
        weights = dict.fromkeys(re.findall(r"^Weights \([^)]*\): (.+)$", text, re.M))
        data = dict.fromkeys(re.findall(r"^Training data: (.+)$", text, re.M))
        return escape(f"weights {', '.join(weights)}; training data {', '.join(data)}"), escape(text)


def number(value: Any) -> str:
    """A measured value to three digits."""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def claims_table(record: dict[str, Any]) -> str:
    """The claims of one run as a table: what the paper says, what was wanted of it, what was measured."""
    rows = []
    for claim in record["claims"]:
        measured = "<br>".join(
            f"{escape(part['what'])}: <b>{escape(number(part['measured']))}</b> "
            f'<span class="wanted">(wanted {escape(part["wanted"])})</span>'
            for part in claim["measured"]
        )
        kind, outcome = ("held", "held") if claim["held"] else ("missed", "not held")
        reason = f"<br>{escape(claim['reason'])}" if claim.get("reason") else ""
        rows.append(
            f"<tr><td>{escape(str(claim['claim']))}</td><td>{escape(claim['sentence'])}</td><td>{measured}</td>"
            f'<td><span class="{kind}">{outcome}</span>{reason}</td></tr>'
        )
    machine, seeds = record["machine"], {len(arm["seeds"]) for arm in record["arms"].values()}
    where = machine["gpu"] or f"{machine['threads']} thread of {machine['cpu']}"
    heading = f"Claims, scale {record['scale']}: {record['date']}, {where}, seeds per arm: {max(seeds, default=0)}"
    head = "<tr><th></th><th>the paper claims</th><th>measured here</th><th>outcome</th></tr>"
    return f"<h3>{escape(heading)}</h3><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def card(exhibit: Exhibit) -> str:
    """The entry of a bundle in the table of contents."""
    source, _ = exhibit.picture
    return (
        f'<a href="#{exhibit.name}"><img src="{source}" alt=""><b>{escape(exhibit.metadata["name"])}</b>'
        f"<span>{escape(exhibit.metadata['task'])}<br>{exhibit.claims}, {exhibit.size}</span></a>"
    )


def article(exhibit: Exhibit) -> str:
    """The part of the page about one bundle.

    Raises:
        GalleryError: for a bundle that lacks a file or a picture.
    """
    metadata = exhibit.metadata
    source, caption = exhibit.picture
    licence, terms = exhibit.licences
    bundle = f"bundles/{exhibit.bundle.name}"
    command = f"python -m monai.bundle run --config_file {bundle}/configs/inference.json \\\n"
    command += f"    --bundle_root {bundle} --dataset_dir DIR --output_dir OUT"
    facts = {
        "Paper": escape("; ".join(metadata["references"])),
        "Speed": exhibit.speed,
        "Weights": f"{exhibit.size}, version {escape(metadata['version'])}",
        "Licence": licence,
        "Claims": exhibit.claims,
    }
    return "\n".join(
        [
            f'<article id="{exhibit.name}">',
            '<div class="top">',
            f'<figure><a href="{source}"><img src="{source}" alt="{caption}"></a>',
            f"<figcaption>{caption}</figcaption></figure>",
            f"<div><h2>{escape(metadata['name'])}</h2>",
            f"<p>{escape(metadata['description'])}</p>",
            "<dl>" + "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in facts.items()) + "</dl>",
            f'<p><a href="{exhibit.reference(exhibit.bundle / "docs/README.md")}">How to use and train it</a></p>',
            "</div></div>",
            f"<pre>{escape(command)}</pre>",
            f"<details><summary>Licences of weights and data in full</summary><pre>{terms}</pre></details>",
            "".join(claims_table(run) for run in exhibit.runs),
            "</article>",
        ]
    )


def page(bundles: list[Path], out: Path) -> str:
    """The whole page, as it will lie at ``out``."""
    exhibits = [Exhibit(bundle, out.parent) for bundle in bundles]
    style = read_text(TOOLS / "templates/gallery.css")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    lead = (
        "Methods for medical images with too few labels, one MONAI bundle each. Every picture and figure comes from "
        "the bundle itself; claims that did not hold stand beside those that did."
    )
    parts = [
        f'<!doctype html>\n<html lang="en"><head>{head}<link rel="icon" href="data:,"><title>medsynth: gallery</title>',
        f"<style>\n{style}</style></head>\n<body><h1>medsynth</h1>",
        f'<p class="lead">{lead}</p>',
        f"<nav>{''.join(card(exhibit) for exhibit in exhibits)}</nav>",
        *(article(exhibit) for exhibit in exhibits),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, default=REPOSITORY / "bundles", help="the folder of bundles")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/gallery/index.html")
    args = parser.parse_args(arguments)
    bundles = sorted(path.parent.parent for path in args.bundles.glob("*/configs/metadata.json"))
    try:
        if not bundles:
            raise GalleryError(f"{args.bundles} must hold bundles, got none")
        text = page(bundles, args.out.resolve())
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(args.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except (GalleryError, OutputError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {len(bundles)} bundles, {args.out.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
