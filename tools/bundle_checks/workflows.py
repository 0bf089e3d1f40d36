"""Checks of what the configs build: ids, properties, weights, one forward pass, export."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out
from monai.data import load_net_with_metadata

from medsynth_ext.handlers import load_weights

from .bundle import Bundle, CheckError, read_text, require

KEYS = {
    "inference.json": "bundle_root device dataset_dir output_dir network_def inferer preprocessing postprocessing "
    "dataset evaluator",
    "train.json": "bundle_root device dataset_dir output_dir train#trainer train#trainer#max_epochs train#dataset "
    "train#dataset#data train#inferer train#handlers validate#evaluator validate#handlers validate#dataset "
    "validate#dataset#data",
    "evaluate.json": "validate#evaluator validate#handlers validate#dataset validate#dataset#data",
}


def check_keys(bundle: Bundle) -> str:
    """The ids that MONAI, its zoo, MONAI Label and Deploy look for are in the configs."""
    for name, keys in KEYS.items():
        parser = ConfigParser()
        parser.read_config(str(bundle.configs / name))
        missing = [key for key in keys.split() if key not in parser]
        require(not missing, f"{name} lacks {', '.join(missing)}")
        text = read_text(bundle.configs / name)
        require("ValidationHandler" not in text or "val_interval" in parser, f"{name} validates without val_interval")
        require(not re.search(r"@device\.", text), f"{name} uses @device as a torch.device; it may be a string")
    return ", ".join(KEYS)


def check_properties(bundle: Bundle) -> str:
    """MONAI finds all properties of the inference, training and evaluation workflows, and they can be built."""
    for kind, names in (
        ("infer", ["inference.json"]),
        ("train", ["train.json"]),
        ("train", ["train.json", "evaluate.json"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            missing = bundle.workflow(*names, kind=kind, output_dir=folder).check_properties()
        require(not missing, f"{' + '.join(names)}: {missing}")
    return ""


def check_weights(bundle: Bundle) -> str:
    """models/model.pt is a state dict of the network that the configs build, its parameters in half precision."""
    path = bundle.root / "models/model.pt"
    parameters = 0
    for name, kind in (("inference.json", "infer"), ("train.json", "train")):
        network = bundle.workflow(name, kind=kind).parser.get_parsed_content("network_def")
        load_weights(network, path)
        parameters = sum(p.numel() for p in network.parameters())
    state = torch.load(path, weights_only=True)
    full = [name for name, _ in network.named_parameters() if state[name].dtype != torch.float16]
    require(not full, f"trained parameters must be in half precision, {len(full)} are not, the first is {full[:1]}")
    return f"{parameters} parameters"


def tensors_of(content: Any) -> Iterator[torch.Tensor]:
    """All tensors of a nest of mappings and sequences."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from tensors_of(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from tensors_of(value)


def read_tensors(path: Path) -> list[torch.Tensor]:
    """The tensors of a .pt or .npz file, read without running anything that it may hold.

    Raises:
        CheckError: for a file that cannot be read so.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return [torch.from_numpy(arrays[k]) for k in arrays.files if arrays[k].dtype.kind in "biuf"]
        return list(tensors_of(torch.load(path, weights_only=True, map_location="cpu")))
    except Exception as error:  # of both libraries' many kinds
        raise CheckError(f"models/{path.name} is damaged or holds more than tensors: {error}") from error


def check_other_models(bundle: Bundle) -> str:
    """Every other file of models/ holds finite tensors, and a config names it."""
    configs = "".join(read_text(path) for path in bundle.configs.glob("*.json"))
    others = [p for p in bundle.files() if p.parent.name == "models" and p.name != "model.pt"]
    for path in others:
        require(path.suffix in (".pt", ".npz"), f"models/{path.name} must be a .pt or .npz file")
        tensors = read_tensors(path)
        require(tensors, f"models/{path.name} holds no tensor")
        finite = all(torch.isfinite(t).all() for t in tensors if t.is_floating_point())
        require(finite, f"models/{path.name} holds values that are not finite")
        require(path.name in configs, f"no config names models/{path.name}")
    return ", ".join(path.name for path in others)


def check_network(bundle: Bundle) -> str:
    """One forward pass of network_def gives what metadata.json says."""
    assert bundle.ports
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle.configs / "metadata.json"),
        config_file=str(bundle.configs / "inference.json"),
        bundle_root=str(bundle.root),
        device="cpu",
    )
    return ""


def check_torchscript(bundle: Bundle) -> str:
    """The exported file carries the configs and computes what the network with the shipped weights computes."""
    image = bundle.ports["inputs"]["image"]
    network = bundle.workflow("inference.json", kind="infer").parser.get_parsed_content("network_def").eval()
    load_weights(network, bundle.root / "models/model.pt")
    with tempfile.TemporaryDirectory() as folder:
        exported = f"{folder}/model.ts"
        ckpt_export(
            net_id="network_def",
            filepath=exported,
            ckpt_file=str(bundle.root / "models/model.pt"),
            meta_file=str(bundle.configs / "metadata.json"),
            config_file=str(bundle.configs / "inference.json"),
            bundle_root=str(bundle.root),
        )
        loaded, metadata, extra = load_net_with_metadata(exported, more_extra_files=["inference.json"])
    require(metadata.get("network_data_format"), "the exported file carries no metadata")
    require(extra.get("inference.json"), "the exported file carries no inference.json")
    size = [32] * len(image["spatial_shape"])
    x = torch.rand(1, image["num_channels"], *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (loaded.eval()(x) - network(x)).abs().max().item()
    require(difference < 1e-4, f"the exported network differs by {difference:g}")
    return ""


WORKFLOW_CHECKS = {
    "keys": check_keys,
    "properties": check_properties,
    "weights": check_weights,
    "other models": check_other_models,
    "network": check_network,
    "TorchScript": check_torchscript,
}
