"""Build docs/gallery/index.html: every bundle with a picture, its claims, sizes, licence and a command.

    python tools/make_gallery.py [--out docs/gallery/index.html]

The page is one file without scripts; it shows the pictures of the bundles where they are, so open it from the tree.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from medsynth_ext.data.files import OutputError, replacing

REPOSITORY = Path(__file__).resolve().parents[1]
STYLE = """
:root { color-scheme: light dark; --line: #8884; --held: #2a7f4f; --missed: #b5382a; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
article { border-top: 1px solid var(--line); padding: 1rem 0; }
img { max-width: 100%; max-height: 28rem; background: #000; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { border-bottom: 1px solid var(--line); padding: .2rem .5rem; text-align: left; vertical-align: top; }
.scroll { overflow-x: auto; }
.held { color: var(--held); } .missed { color: var(--missed); }
pre { overflow-x: auto; padding: .5rem; border: 1px solid var(--line); font-size: .8rem; }
nav a { margin-right: .8rem; } dt { font-weight: 600; } dd { margin: 0 0 .3rem 0; }
"""


class GalleryError(ValueError):
    """A bundle that cannot be shown; the message names the file, what was wanted and what came."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        GalleryError: for a file that is missing or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GalleryError(f"{path} must be a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise GalleryError(f"{path} must be a JSON object, got {type(found).__name__}")
    return found


def first_picture(bundle: Path) -> tuple[Path, str]:
    """File and caption of the first picture in the bundle's README that is no figure of claims.

    Raises:
        GalleryError: when there is none, or it is not there.
    """
    readme = bundle / "docs/README.md"
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+\.png)\)", readme.read_text(encoding="utf-8"))
    chosen = [(caption, name) for caption, name in pictures if not name.startswith("claims_")]
    if not chosen:
        raise GalleryError(f"{readme} must show a picture of what the bundle makes, got none")
    caption, name = chosen[0]
    if not (bundle / "docs" / name).is_file():
        raise GalleryError(f"{readme} shows {name}, which is not in {bundle / 'docs'}")
    return bundle / "docs" / name, caption


def number(value: Any) -> str:
    """A measured value to four digits."""
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def claims_table(record: dict[str, Any]) -> str:
    """The claims of one run as a table: what the paper says, what was wanted of it, what was measured."""
    rows = []
    for claim in record["claims"]:
        measured = "<br>".join(
            f"{escape(part['what'])}: <b>{escape(number(part['measured']))}</b> (wanted {escape(part['wanted'])})"
            for part in claim["measured"]
        )
        kind, outcome = ("held", "held") if claim["held"] else ("missed", "not held")
        reason = f"<br>{escape(claim['reason'])}" if claim.get("reason") else ""
        rows.append(
            f"<tr><td>{escape(str(claim['claim']))}</td><td>{escape(claim['sentence'])}</td><td>{measured}</td>"
            f'<td><span class="{kind}">{outcome}</span>{reason}</td></tr>'
        )
    machine, seeds = record["machine"], {len(arm["seeds"]) for arm in record["arms"].values()}
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} core(s)"
    heading = f"Claims at scale {record['scale']}: {record['date']}, {where}, {max(seeds, default=0)} seed(s)"
    head = "<tr><th></th><th>the paper's claim</th><th>measured on phantoms</th><th>outcome</th></tr>"
    return f'<p>{escape(heading)}</p><div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def article(bundle: Path, out: Path) -> str:
    """The part of the page about one bundle.

    Raises:
        GalleryError: for a bundle that lacks a file or a picture.
    """
    metadata = read_json(bundle / "configs/metadata.json")
    picture, caption = first_picture(bundle)
    docs = os.path.relpath(bundle / "docs", out.parent)
    weights = sum(path.stat().st_size for path in (bundle / "models").iterdir()) / 2**20
    licence = (bundle / "docs/data_license.txt").read_text(encoding="utf-8").strip()
    command = f"python -m monai.bundle run --config_file bundles/{bundle.name}/configs/inference.json \\\n"
    command += f"    --bundle_root bundles/{bundle.name} --dataset_dir DIR --output_dir OUT"
    claims = ""
    if (bundle / "docs/claims.json").is_file():
        runs = read_json(bundle / "docs/claims.json")["runs"]
        claims = "".join(claims_table(record) for record in runs.values())
    return "\n".join(
        [
            f'<article id="{escape(bundle.name)}">',
            f"<h2>{escape(metadata['name'])}</h2>",
            f"<p>{escape(metadata['description'])}</p>",
            f'<a href="{escape(docs)}/README.md"><img src="{escape(os.path.relpath(picture, out.parent))}" '
            f'alt="{escape(caption)}"></a>',
            f"<p><small>{escape(caption)}</small></p>",
            f"<pre>{escape(command)}</pre>",
            f"<dl><dt>Task</dt><dd>{escape(metadata['task'])}</dd>",
            f"<dt>Paper</dt><dd>{escape('; '.join(metadata['references']))}</dd>",
            f"<dt>Weights</dt><dd>{weights:.1f} MB, version {escape(metadata['version'])}</dd>",
            f"<dt>Licence of data and weights</dt><dd>{escape(licence)}</dd></dl>",
            claims or "<p>No claims of the paper were measured yet.</p>",
            "</article>",
        ]
    )


def page(bundles: list[Path], out: Path) -> str:
    """The whole page, as it will lie at ``out``."""
    links = " ".join(f'<a href="#{escape(b.name)}">{escape(b.name)}</a>' for b in bundles)
    parts = "\n".join(article(bundle, out) for bundle in bundles)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>medsynth: gallery</title><style>{STYLE}</style></head>\n'
        "<body><h1>medsynth</h1>\n<p>One MONAI bundle per published method; all pictures and figures are its own.</p>\n"
        f"<nav>{links}</nav>\n{parts}\n</body></html>\n"
    )


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
