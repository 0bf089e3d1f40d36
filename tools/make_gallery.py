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

from gallery_claims import Figures, claims_table, number, outcomes, pips, summary, unknown_figures

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
    def held(self) -> list[bool]:
        """Whether each measured claim held."""
        return outcomes(self.runs)

    @cached_property
    def paper(self) -> tuple[Figures, str]:
        """The paper's own figures for what was measured, and what the paper measured them on.

        Raises:
            GalleryError: for a figure of something that was not measured.
        """
        path = self.bundle / "docs/paper_figures.json"
        if not path.is_file():
            return {}, ""
        record = read_json(path)
        unknown = unknown_figures(record["claims"], self.runs)
        if unknown:
            raise GalleryError(f"{path} must name what docs/claims.json measured, got {unknown[0]!r}")
        return record["claims"], record["data"]

    @property
    def weights_mb(self) -> float:
        """Size of the shipped weights."""
        return sum(path.stat().st_size for path in (self.bundle / "models").iterdir()) / 1e6

    @property
    def size(self) -> str:
        """The same in words."""
        return f"{self.weights_mb:.1f}\u00a0MB"

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


def card(exhibit: Exhibit) -> str:
    """The entry of a bundle in the table of contents."""
    source, _ = exhibit.picture
    return (
        f'<a href="#{exhibit.name}"><img src="{source}" alt=""><b>{escape(exhibit.metadata["name"])}</b>'
        f"<span>{escape(exhibit.metadata['task'])}</span>"
        f"<span>{pips(exhibit.held)}{summary(exhibit.held)}, {exhibit.size}</span></a>"
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
        "Paper": "<br>".join(escape(reference) for reference in metadata["references"]),
        "Speed": exhibit.speed,
        "Weights": f"{exhibit.size}, version {escape(metadata['version'])}",
        "Licence": licence,
        "Claims": pips(exhibit.held) + summary(exhibit.held),
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
            "".join(claims_table(run, *exhibit.paper) for run in exhibit.runs),
            '<p><a href="#top">All bundles</a></p></article>',
        ]
    )


def in_order(bundles: list[Path]) -> list[Path]:
    """The bundles as README.md lists them, any others after them."""
    listed = re.findall(r"\(bundles/(\w+)/docs/README\.md\)", read_text(REPOSITORY / "README.md"))
    places = {name: place for place, name in enumerate(listed)}
    return sorted(bundles, key=lambda bundle: (places.get(bundle.name, len(places)), bundle.name))


def welcome(exhibits: list[Exhibit]) -> str:
    """The head of the page: what this is, how much of it, and how to begin."""
    held = [one for exhibit in exhibits for one in exhibit.held]
    megabytes = sum(exhibit.weights_mb for exhibit in exhibits)
    facts = {
        str(len(exhibits)): "MONAI bundles of published methods",
        f"{megabytes:.0f} MB": "of weights, all in the bundles' folders",
        f"{sum(held)} of {len(held)}": "claims of the papers held when measured; the others are shown with the reason",
    }
    picture = escape(Path(os.path.relpath(REPOSITORY / "docs/demo.png", exhibits[0].folder)).as_posix())
    return "\n".join(
        [
            '<header><div><h1>medsynth</h1><p class="lead">Synthesise, translate, augment or cheaply label medical '
            "images when labels are few: published methods as MONAI bundles on compiled CPU and CUDA operators.</p>",
            "<pre>make demo    # segments a real T1 head scan\nmake test    # every test</pre>",
            "<dl>" + "".join(f"<dt>{fact}</dt><dd>{text}</dd>" for fact, text in facts.items()) + "</dl></div>",
            f'<figure><img src="{picture}" alt="A T1 head scan and its segmentation"><figcaption>What <code>make demo'
            "</code> makes: a real scan, segmented by a network that never saw one</figcaption></figure></header>",
        ]
    )


def page(bundles: list[Path], out: Path) -> str:
    """The whole page, as it will lie at ``out``."""
    exhibits = [Exhibit(bundle, out.parent) for bundle in in_order(bundles)]
    style = read_text(TOOLS / "templates/gallery.css")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    parts = [
        f'<!doctype html>\n<html lang="en"><head>{head}<link rel="icon" href="data:,"><title>medsynth: gallery</title>',
        f'<style>\n{style}</style></head>\n<body id="top">{welcome(exhibits)}',
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
    bundles = [path.parent.parent for path in args.bundles.glob("*/configs/metadata.json")]
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
