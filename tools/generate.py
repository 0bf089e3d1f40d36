"""Write N synthetic labelled volumes in shards with a manifest; may be killed and run again at any time.

    python tools/generate.py WHAT --out OUT --count N [--seed S] [--shard-size K] [--workers W] [--ray ADDRESS]
                                  [--set KEY=VALUE ...] [--verify]

WHAT is the folder of a bundle that has configs/generate.json (laid over its train.json where it has one), a JSON
configuration with a "source", or one of the phantoms: head, head_mr_ct, heart_ct, heart_mr, inner_ear.

OUT gets shard_00000/, shard_00001/, ... and at the end manifest.json with every file's number, seed, shape, spacing and
sha256. The files are the same for any number of processes, with Ray and without, and however often the run was killed.

    --set dataset_dir=MAPS --set crop_size=[96,96,96]

sets any value of the configuration, or an option of the phantom; the value is read as JSON, else taken as a string.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from train_weights import parse_setting

from medsynth_ext.bulk import PHANTOMS, Job, JobError, generate
from medsynth_ext.data import OutputError


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", metavar="WHAT", help="bundle folder, JSON configuration or phantom")
    parser.add_argument("--out", type=Path, required=True, help="output folder; one that all of Ray's machines see")
    parser.add_argument("--count", type=int, required=True, help="number of samples")
    parser.add_argument("--seed", type=int, default=0, help="of all samples (default: 0)")
    parser.add_argument("--shard-size", type=int, default=16, help="samples in a shard (default: 16)")
    parser.add_argument("--threads", type=int, default=1, help="of every process (default: 1)")
    parser.add_argument("--workers", type=int, help="processes (default: 1), with Ray shards at a time (default: all)")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster's address, auto, or local to begin one here")
    parser.add_argument("--set", dest="settings", type=parse_setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--verify", action="store_true", help="compare all files with their checksums at the end")
    return parser.parse_args(arguments)


def read_config(what: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The configuration that ``what`` stands for, with the settings in it.

    Raises:
        JobError: when it stands for nothing, or a setting for nothing in it.
    """
    if what in PHANTOMS and not Path(what).exists():
        return {"source": {"_target_": "medsynth_ext.bulk.PhantomSource", "phantom": what, **settings}}
    path = Path(what)
    if path.is_dir():
        files = [path / "configs" / name for name in ("train.json", "generate.json")]
        if not files[1].is_file():
            raise JobError(f"{files[1]} does not exist: this bundle generates no labelled volumes")
        settings = {"bundle_root": str(path.resolve()), **settings}
    else:
        files = [path]
        if not path.is_file():
            names = ", ".join(PHANTOMS)
            raise JobError(f"{what} is no bundle folder, no configuration and none of the phantoms {names}")
    parser = ConfigParser()
    try:
        parser.read_config([str(file) for file in files if file.is_file()])
    except ValueError as error:
        raise JobError(f"{files[-1]} cannot be read: {error}") from error
    for key, value in settings.items():
        if key not in parser:
            raise JobError(f"{files[-1]} has no {key} to be set")
        parser[key] = value
    return parser.get()


def sentence(error: BaseException) -> str:
    """What went wrong, without the layers that MONAI's parser wraps around it."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def main() -> int:
    """Generate; a failure ends in one sentence and exit status 1."""
    options = parse_arguments()
    try:
        job = Job(
            config=read_config(options.what, dict(options.settings)),
            out=str(options.out.resolve()),
            count=options.count,
            seed=options.seed,
            shard_size=options.shard_size,
            threads=options.threads,
        )
        default = 1 if options.ray is None else 0
        workers = default if options.workers is None else options.workers
        manifest = generate(job, workers=workers, ray=options.ray, verify=options.verify)
    except (JobError, OutputError, RuntimeError, ValueError, OSError) as error:
        print(f"generation stopped: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("generation stopped: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    print(f"{options.count} samples in {job.shards} shards: {manifest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
