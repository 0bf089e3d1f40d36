"""MONAI Deploy's bundle operator, taught what these bundles need."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from monai.deploy.core import AppContext, Fragment
from monai.deploy.core.domain import Image
from monai.deploy.core.io_type import IOType
from monai.deploy.operators.monai_bundle_inference_operator import (
    BundleConfigNames,
    IOMapping,
    MonaiBundleInferenceOperator,
    get_bundle_config,
)

from medsynth_ext.methods.ultrasound_style.inferer import StyleInferer

LOADERS = ("Load", "SaveImage")  # what reads files is done by the operator before, with the bundle's own transform


def read_config(model: Path, folder: Path, output_dir: Path) -> ConfigParser:
    """The configuration inside an exported file; what else it carries is unpacked into a folder.

    Args:
        model: TorchScript file of ``export.py``.
        folder: becomes the root of the bundle.
        output_dir: where its post-processing writes, if it does.
    """
    with zipfile.ZipFile(model) as archive:
        prefix = f"{model.stem}/extra/"
        for name in archive.namelist():
            if name.startswith(prefix):
                target = (folder / name[len(prefix) :]).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise ValueError(f"{model} carries a file outside of its folder: {name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    parser = get_bundle_config(str(model), ["inference"])
    parser["bundle_root"], parser["output_dir"] = str(folder), str(output_dir)
    return parser


@dataclass(frozen=True)
class Result:
    """What a post-processing gave; a plain dictionary of tensors would lose their metadata on the way."""

    values: dict[str, Any]


class BundleOperator(MonaiBundleInferenceOperator):
    """Runs an exported bundle on an image and hands on everything that its post-processing gives.

    The SDK's operator casts every result to 8 bits and drops all but ``pred``; a synthetic CT has more, and landmarks
    are no image. Its configuration points to the files beside it, which here come out of the exported file.

    Named input:
        image: Image, (X, Y, Z) or as the bundle's own loader gives it, with MONAI's metadata.
    Named output:
        pred: Result, the dictionary of the post-processing, with ``image`` as the network saw it.
    """

    def __init__(self, fragment: Fragment, *args: Any, model: Path, parser: ConfigParser, **options: Any) -> None:
        self.config = parser
        super().__init__(
            fragment,
            *args,
            app_context=AppContext({"model": str(model)}),
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Result, IOType.IN_MEMORY)],
            bundle_config_names=BundleConfigNames(config_names=["inference"]),
            **options,
        )

    def _init_config(self, config_names: list[str]) -> None:
        names = self._bundle_config_names
        self._parser = self.config
        self._device = self.config.get_parsed_content("device")
        self._inferer = self.config.get_parsed_content(names.inferer_name)
        formats = self.config["_meta_"]["network_data_format"]
        self._inputs, self._outputs = formats["inputs"], formats["outputs"]
        self._preproc = self._get_compose(names.preproc_name, LOADERS)
        self._postproc = self._get_compose(names.postproc_name, LOADERS)
        self._meta_key_postfix = self._get_meta_key_postfix(self._preproc)
        # Whatever else of the configuration holds the network holds its weights, too.
        network = self.config.get_parsed_content("network_def").eval()
        network.load_state_dict(self._model_network.predictor.state_dict())

    def predict(self, data: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """The result of the one image, without the axis of the batch."""
        network = self._model_network
        if isinstance(self._inferer, StyleInferer):
            # It calls parts of the network that a TorchScript file does not have; these have the file's weights.
            network = self.config.get_parsed_content("network")
        # The SDK adds the axis of the batch alone; collated, the metadata and operations are those of a sample, too.
        batch = list_data_collate([data[0]])
        return decollate_batch(self._inferer(batch, network, *args, **kwargs))

    def post_process(self, data: Any, *args: Any, preprocessed_inputs: dict, **kwargs: Any) -> dict[str, Any]:
        """What the post-processing makes of the prediction and the image, under the one name of the output."""
        return {"pred": dict(self._postproc({**preprocessed_inputs, "pred": data}))}

    def _send_output(self, value: Any, name: str, metadata: dict, op_output: Any, context: Any) -> None:
        op_output.emit(Result(value), name)
