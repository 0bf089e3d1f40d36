"""Train a bundle's weights for a given time, going on from where an earlier run stopped.

    python tools/train_weights.py BUNDLE --labels-dir DIR --out OUT --minutes M [--from WEIGHTS] [--set KEY=VALUE ...]

It drives the bundle's own configs/train.json. OUT gets model.pt (averaged weights in half precision, renewed after
every epoch), checkpoints/, loss.csv, epochs.json, pictures/ and tensorboard/. It may be killed at any time: run again
with the same OUT, it goes on from the last complete epoch.

    --set crop_size=[96,96,96] --set batch_size=2 --set "train#sampler#seed=3"

sets any value of the configuration; the value is read as JSON, else taken as a string.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from medsynth_ext.engines import sentence_of


def parse_setting(text: str) -> tuple[str, Any]:
    """Split ``key=value``; the value is JSON where it can be read as such."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"wanted KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--labels-dir", type=Path, required=True, help="folder of the training data")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, checkpoints and logs")
    parser.add_argument("--minutes", type=float, required=True, help="stop at the end of an epoch after this time")
    parser.add_argument("--from", dest="start", type=Path, help="weights to start from when OUT holds no checkpoint")
    parser.add_argument("--set", dest="settings", type=parse_setting, action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args(arguments)


def train(options: argparse.Namespace) -> None:
    """Run the bundle's training with the settings of the command line."""
    settings: dict[str, Any] = {
        "bundle_root": str(options.bundle),
        "dataset_dir": str(options.labels_dir),
        "output_dir": str(options.out),
        "ckpt_dir": str(options.out),
        "epochs": 1_000_000,
        "max_minutes": options.minutes,
        "write_weights": "latest",
        "resume": True,
        "init_weights": None if options.start is None else str(options.start),
    }
    config = options.bundle / "configs" / "train.json"
    workflow = ConfigWorkflow(config_file=str(config), workflow_type="train", **(settings | dict(options.settings)))
    unknown = [key for key in settings if key not in json.loads(config.read_text())]
    if unknown:
        raise ValueError(f"{config} has no {', '.join(unknown)}, which this program sets")
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def first_cause(error: BaseException) -> BaseException:
    """The error at the bottom of the chain: a configuration wraps what went wrong in several layers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def main() -> int:
    """Train; a failure ends in one sentence and exit status 1."""
    options = parse_arguments()
    try:
        train(options)
    except (RuntimeError, ValueError, OSError, ArithmeticError) as error:
        print(f"training failed: {sentence_of(error) or first_cause(error)}", file=sys.stderr)
        return 1
    print(f"weights: {options.out / 'model.pt'}   figures: {options.out / 'loss.csv'}, {options.out / 'epochs.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
