"""Check bundles as the model zoo would: files, metadata, licences, configurations, weights, exports, a run if asked.

    python tools/check_bundles.py [BUNDLE ...] [--unit-run] [--model-info FILE]

Without arguments all folders of bundles/ are checked. One line per check; exit status 1 when any failed, 2 for a folder
that is no bundle. Nothing is downloaded, and nothing is written into a bundle. Of the zoo's own checks only the export
to TensorRT is missing, which needs a graphics card.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from bundle_checks import CHECKS, SOUND_FILES, Bundle, CheckError, NotApplicable, check_unit_run
from bundle_checks.paths import REPOSITORY

from medsynth_ext.handlers import WeightsError

__all__ = [
    "CHECKS",
    "REPOSITORY",
    "Bundle",
    "CheckError",
    "NotApplicable",
    "check_bundle",
    "find_bundles",
    "main",
    "quiet",
]
WORDED = (CheckError, WeightsError)  # errors that are a sentence for the reader, whatever caused them


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep MONAI's log, warnings, prints and progress bars away from the table of checks."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def find_bundles(folder: Path = REPOSITORY / "bundles") -> list[Path]:
    """The bundles of the repository."""
    return sorted(path for path in folder.iterdir() if (path / "configs").is_dir())


def run_check(check: Callable[[Bundle], str], bundle: Bundle) -> tuple[str, str]:
    """Outcome (``pass``, ``n/a`` or ``FAIL``) and what there is to say about it in one line."""
    try:
        with quiet():
            return "pass", check(bundle)
    except NotApplicable as reason:
        return "n/a", str(reason)
    except Exception as error:  # every failure is reported, none stops the rest
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, WORDED):
            cause = cause.__cause__
        kind = "" if isinstance(cause, WORDED) else f"{type(cause).__name__}: "
        return "FAIL", f"{kind}{cause}".replace("\n", " ")


def check_bundle(root: Path, checks: dict[str, Callable[[Bundle], str]]) -> list[str]:
    """Run checks on one bundle, print a line for each, and return the names of those that failed."""
    bundle = Bundle(root)
    failed = []
    for name, check in checks.items():
        start = time.perf_counter()
        outcome, note = run_check(check, bundle)
        print(f"{outcome:<4}  {bundle.root.name}  {name:<16} {time.perf_counter() - start:5.1f} s  {note}".rstrip())
        if outcome == "FAIL":
            failed.append(name)
            if name in SOUND_FILES:
                print(f"      {bundle.root.name}  the other checks need these files and were left out")
                break
    return failed


def not_released(path: Path) -> Callable[[Bundle], str]:
    """The check that a version was not published before, by the zoo's models/model_info.json."""
    released = json.loads(path.read_text(encoding="utf-8"))

    def check(bundle: Bundle) -> str:
        name = f"{bundle.root.name}_v{bundle.metadata['version']}"
        if name in released:
            raise CheckError(f"{name} is released already: a change needs a new version")
        return name

    return check


def main(arguments: list[str] | None = None) -> int:
    """Check the bundles named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", type=Path, help="folders; all of bundles/ when none is given")
    parser.add_argument("--unit-run", action="store_true", help="run the workflows on tiny data too, as the tests do")
    parser.add_argument("--model-info", type=Path, help="the zoo's list of released bundles, to find versions in use")
    options = parser.parse_args(arguments)
    for root in options.bundles:
        if not (root / "configs").is_dir():
            parser.error(f"{root} is no bundle: it must be a folder with configs/")
    checks = dict(CHECKS)
    if options.model_info is not None:
        try:
            checks["not released"] = not_released(options.model_info)
        except (OSError, json.JSONDecodeError) as error:
            parser.error(f"--model-info must be a JSON file: {error}")
    if options.unit_run:
        checks["unit run"] = check_unit_run
    bundles = options.bundles or find_bundles()
    failed = {root.name: names for root in bundles if (names := check_bundle(root, checks))}
    for name, names in failed.items():
        print(f"{name} failed: {', '.join(names)}")
    print(f"{len(bundles) - len(failed)} of {len(bundles)} bundles pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
