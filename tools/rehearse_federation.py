"""Federate twice on this machine, once undisturbed and once with a site killed, and compare what came of it.

    python tools/rehearse_federation.py --output_dir DIR [--kill B:40 --kill B:100] [--set NAME=VALUE ...]

Three phantom hospitals of unequal size train the simulator of fedsim_cardiac_ct_synthesis, every site in a process of
its own, without NVIDIA FLARE between them (``make integration`` does the same over FLARE with a small model). In the
second run SITE's process gets SIGKILL as soon as NUMBER of its answers have left; its keeper starts it again.
DIR/rehearsal.json holds, per run, how well the shared networks fit the sites' patients, the faults, the time, and the
largest difference of a shared parameter between the runs. By default everybody waits for a missing site and every
exchange is saved; `--set minimum_sites=2 --set save_every=10` goes on without it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from monai.bundle import ConfigParser

from medsynth_ext.data.files import write_json
from medsynth_ext.engines.federated import ProcessSites, SiteProcess
from medsynth_ext.engines.federated.worker import build
from medsynth_ext.methods.fedsim.generation import render_volume
from medsynth_ext.methods.fedsim.phantom_sites import write_site
from medsynth_ext.methods.fedsim.site import Site

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "fedsim_cardiac_ct_synthesis"
CONFIGS = (BUNDLE / "configs/train_simulator.json", BUNDLE / "configs/federated.json")
CONFIG, STATE = "federation_config.json", "federation"
HOSPITALS = {"A": (8, 2), "B": (6, 2), "C": (10, 3)}  # patients, labels


def parse_setting(text: str) -> tuple[str, Any]:
    """Split ``NAME=VALUE``, the value as JSON."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"NAME=VALUE was wanted, got {text!r}")
    return name, json.loads(value)


def parse_kill(text: str) -> tuple[str, int]:
    """Split ``SITE:NUMBER``."""
    site, _, number = text.partition(":")
    if site not in HOSPITALS or not number.isdigit():
        raise argparse.ArgumentTypeError(f"SITE:NUMBER with a site of {', '.join(HOSPITALS)} was wanted, got {text!r}")
    return site, int(number)


def federate(folder: Path, settings: dict[str, Any], kills: Sequence[tuple[str, int]]) -> float:
    """Run a federation of the hospitals in ``folder``; returns its seconds.

    Raises:
        RuntimeError: when the run ends before every kill has happened.
    """
    parser = ConfigParser(ConfigParser.load_config_files([str(path) for path in CONFIGS]))
    parser.update({"bundle_root": str(BUNDLE), **settings})
    merged = folder / CONFIG
    write_json(merged, parser.get())
    processes = {}
    for site in HOSPITALS:
        state = folder / site / STATE
        own = {"site_name": site, "dataset_dir": str(folder / site), "output_dir": str(state)}
        processes[site] = SiteProcess(site, merged, own, log=state / "site.log")
    server = build(merged, "server", {"output_dir": str(folder / "out")})
    started = time.monotonic()
    killer = Thread(target=lambda: [_kill_site(folder / site / STATE, number) for site, number in kills], daemon=True)
    with ProcessSites(processes) as sites:
        killer.start()
        server.run(sites, progress=lambda _, text: print(f"\r{folder.name}: {text}", end="", flush=True))
    print()
    seconds = time.monotonic() - started
    if killer.is_alive():
        raise RuntimeError(f"the run ended before all kills, {list(kills)}; kill earlier")
    return seconds


def _kill_site(state: Path, number: int) -> None:
    """SIGKILL to the site's process once so many answers have left it."""
    sent = state / "sent.jsonl"
    while not sent.is_file() or sum(1 for _ in sent.open("rb")) < number:
        time.sleep(0.05)
    os.kill(int((state / "site.pid").read_text()), signal.SIGKILL)


@torch.no_grad()
def quality(folder: Path) -> dict[str, dict[str, float]]:
    """Fit of the shared networks to every site's patients, with the latents that the site found."""
    shared = torch.load(folder / "out/shared.pt", weights_only=True)
    run = json.loads((folder / "out/federation.json").read_text())["run"]
    figures = {}
    for name in HOSPITALS:
        own = {"site_name": name, "dataset_dir": str(folder / name), "output_dir": str(folder / name / STATE)}
        hospital = build(folder / CONFIG, "site", own).site
        hospital.prepare()
        newest = sorted((folder / name / STATE / run).glob("state=*.pt"))[-1]
        hospital.load_state_dict(torch.load(newest, weights_only=True)["site"])
        site: Site = hospital.site
        site.model.load_state_dict(shared)
        site.model.eval(), site.generator.eval()
        figures[name] = _fit(site)
    return figures


def _fit(site: Site) -> dict[str, float]:
    volumes, index = site.volumes, site.volumes.labelled
    z = site.latents(index)
    heart, target = site.model.heart(z), volumes.hearts(index)
    iou = (heart * target).flatten(1).sum(1) / torch.maximum(heart, target).flatten(1).sum(1)
    everybody = list(range(len(volumes)))
    error = (site.model.coarse_ct(site.latents(everybody)) - volumes.material).square().mean().sqrt()
    coarse = site.model.coarse_ct(z)
    slices = [render_volume(site.generator, c, h) for c, h in zip(coarse.split(1), target.split(1), strict=True)]
    away = [(shown[0] - volumes.images[i]).abs().mean() for i, shown in zip(index, slices, strict=True)]
    return {
        "shape_iou": float(iou.mean()),
        "coarse_ct_error": float(error / volumes.material.std()),
        "slices_mae_hu": 1000 * float(torch.stack(away).mean()),
    }


def rehearse(folder: Path, settings: dict[str, Any], kills: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Both runs and their comparison; also written to ``rehearsal.json``."""
    result: dict[str, Any] = {"settings": settings, "kills": [list(kill) for kill in kills], "runs": {}}
    shared = {}
    for site, (cases, labelled) in HOSPITALS.items():
        write_site(folder / "undisturbed" / site, site=site, cases=cases, labelled=labelled, size=32)
        shutil.copytree(folder / "undisturbed" / site, folder / "killed" / site)
    for name, disturbed in (("undisturbed", ()), ("killed", kills)):
        seconds = federate(folder / name, settings, disturbed)
        report = json.loads((folder / name / "out/federation.json").read_text())
        faults = [{key: fault[key] for key in ("number", "site", "reason", "times")} for fault in report["faults"]]
        figures = quality(folder / name)
        result["runs"][name] = {"seconds": seconds, "exchanges": report["done"], "faults": faults, "quality": figures}
        shared[name] = torch.load(folder / name / "out/shared.pt", weights_only=True)
    calm, killed = shared["undisturbed"], shared["killed"]
    result["largest_difference"] = max(float((calm[key] - killed[key]).abs().max()) for key in calm)
    write_json(folder / "rehearsal.json", result)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rehearsal and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="a new folder")
    parser.add_argument("--kill", type=parse_kill, action="append", help="SITE:NUMBER of its answers; may be repeated")
    parser.add_argument("--set", type=parse_setting, action="append", default=[], help="NAME=VALUE of the config, JSON")
    options = parser.parse_args(arguments)
    settings = {"minimum_sites": None, "save_every": 1, **dict(options.set)}
    folder = options.output_dir.resolve()
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"error: {folder} is not empty; a rehearsal begins anew")
    result = rehearse(folder, settings, options.kill or [("B", 40)])
    for name, run in result["runs"].items():
        print(f"{name}: {run['seconds']:.0f} s, {len(run['faults'])} exchanges with a fault")
        for site, figures in run["quality"].items():
            print(f"  {site}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    print(f"largest difference of a shared parameter: {result['largest_difference']:.3g}")


if __name__ == "__main__":
    main()
