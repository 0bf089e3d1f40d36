"""``python -m medsynth_ext.claims BUNDLE --scale small``: run the claims of a bundle."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from medsynth_ext.claims.run import run_bundle
from medsynth_ext.data.files import OutputError


def main(arguments: list[str] | None = None) -> int:
    """Run the claims; 0 when they were measured, whether they held or not."""
    parser = argparse.ArgumentParser(prog="python -m medsynth_ext.claims", description="Run the claims of a bundle.")
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--scale", default="small", help="a size that the bundle's configs/claims.json lists")
    parser.add_argument("--out", help="folder of claims.json and the figure; the bundle's docs by default")
    parser.add_argument("--work", help="folder of intermediate results; the bundle's eval/claims by default")
    parser.add_argument(
        "--only", nargs="+", metavar="CLAIM", help="run single claims; the report goes to the work folder"
    )
    parser.add_argument("--workers", type=int, help="processes of one thread each; as the scale says by default")
    parser.add_argument("--split", help="which people are tested; 'validation' is for choices, 'test' for results")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="use what an earlier run has finished"
    )
    options = parser.parse_args(arguments)
    overrides: dict[str, Any] = {"scale": options.scale, "resume": options.resume}
    for name in ("out", "work", "only", "workers", "split"):
        if getattr(options, name) is not None:
            overrides[name] = getattr(options, name)
    try:
        run_bundle(options.bundle, **overrides)
    except (FileNotFoundError, ValueError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
