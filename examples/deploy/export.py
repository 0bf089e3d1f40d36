"""Export a bundle as one TorchScript file that carries all that inference needs.

    python examples/deploy/export.py BUNDLE MODEL.ts

MONAI's ``ckpt_export`` writes the network with ``metadata.json`` and ``inference.json``. Beside these go the files that
``inference.json`` reads from the bundle's folder (a label table, a reference), so that the folder is not needed again.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.bundle import ckpt_export

_NAMED = re.compile(r"@bundle_root \+ '/([^']+)'")
_WEIGHTS = "models/model.pt"


def further_files(bundle: Path) -> list[str]:
    """What ``inference.json`` reads from the bundle's folder beside the weights, relative to it."""
    named = _NAMED.findall((bundle / "configs/inference.json").read_text(encoding="utf-8"))
    return sorted({name for name in named if name != _WEIGHTS and (bundle / name).is_file()})


def export(bundle: Path, model: Path) -> list[str]:
    """Write the file; returns the names of the further files in it."""
    model.parent.mkdir(parents=True, exist_ok=True)
    part = model.with_name(f"part.{model.name}")
    ckpt_export(
        net_id="network_def",
        filepath=str(part),
        ckpt_file=str(bundle / _WEIGHTS),
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(bundle / "configs/inference.json"),
        bundle_root=str(bundle),
    )
    extra: dict[str, str | bytes] = {"metadata.json": "", "inference.json": ""}
    network = torch.jit.load(part, _extra_files=extra)
    names = further_files(bundle)
    extra |= {name: (bundle / name).read_bytes() for name in names}
    part.unlink()
    torch.jit.save(network, model, _extra_files=extra)  # the folder in the archive has the name of the file
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("model", type=Path, help="file to write, with the ending .ts")
    args = parser.parse_args(arguments)
    if not (args.bundle / "configs/inference.json").is_file() or not (args.bundle / _WEIGHTS).is_file():
        parser.error(f"{args.bundle} must hold configs/inference.json and {_WEIGHTS}")
    if args.model.suffix != ".ts":
        parser.error(f"the model must end in .ts, got {args.model}")
    names = export(args.bundle, args.model)
    print(
        f"{args.model}: {args.model.stat().st_size / 2**20:.1f} MiB, with {', '.join(['the configurations', *names])}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
