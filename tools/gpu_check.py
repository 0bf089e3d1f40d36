"""Build, test, measure and train on a GPU machine without a network; called by gpu_check.sh.

    tools/gpu_check.sh [OUT] [--minutes M] [--labels-dir DIR] [--set KEY=VALUE ...]

Stages, in order: wheels (those in .whl/ beside the sources, for packages the machine lacks), build, tests, benchmarks,
generator, training. Each writes its results at once; one that fails does not stop the next. OUT gets status.json,
report.md, log.txt, tests.xml, benchmarks.json, generator.json, model.pt and loss.csv; the rest stays in --work. A
second call with the same --work goes on with the training where the first stopped. --device cpu rehearses all of it at
small sizes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from gpu_run import ROOT, Check, Stopped
from gpu_stages import BUNDLE, STAGES

FAMILIES = "gmm,diffeo,blur,heatmap,ct_kernel,mesh,projector,generator"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "gpu_check" / "out", help="results")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu_check", help="build and training files")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=15.0, help="length of the training")
    parser.add_argument("--labels-dir", type=Path, default=os.environ.get("MEDSYNTH_LABELS"), help="or MEDSYNTH_LABELS")
    parser.add_argument("--weights", type=Path, default=BUNDLE / "models" / "model.pt", help="weights to start from")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the benchmarks")
    parser.add_argument("--families", default=FAMILIES, help="families of the benchmarks")
    parser.add_argument("--size", type=int, help="edge of the volumes; 160, on the CPU 32")
    parser.add_argument(
        "--tests", action="append", default=[], metavar="ARG", help="arguments of pytest instead of -m gpu"
    )
    parser.add_argument("--patience", type=float, default=1.0, help="factor on the time limits, for a busy machine")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="stop everything after this time")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="training setting"
    )
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    unknown = [name for name in options.only if name not in STAGES]
    if unknown:
        parser.error(f"--only must name some of {', '.join(STAGES)}, got {unknown[0]}")
    if not options.patience > 0:
        parser.error(f"--patience must be positive, got {options.patience}")
    if not options.minutes > 0:
        parser.error(f"--minutes must be positive, got {options.minutes}")
    options.size = options.size or (160 if options.device == "cuda" else 32)
    options.out, options.work = options.out.resolve(), options.work.resolve()
    return options


def main() -> int:
    """Run; 0 when every stage succeeded."""
    options = parse_arguments()

    def stop(number: int, frame: object) -> None:
        for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)  # what follows takes seconds and must not be cut short
        raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    succeeded = Check(options).run(STAGES)
    print(f"\n{(options.out / 'report.md').read_text()}\nwritten to {options.out}")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
