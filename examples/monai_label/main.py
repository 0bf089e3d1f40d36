"""The monaibundle app with answers that say what was wrong: a status and a sentence in place of a bare 500.

``serve.sh`` puts this file into the app, whose own ``main.py`` becomes ``monaibundle.py``.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monaibundle
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from nibabel.filebasedimages import ImageFileError

from medsynth_ext.data import LandmarkFileError, OutputError, ScanError, check_header

logger = logging.getLogger(__name__)

OURS = (LandmarkFileError, OutputError, ScanError)
BAD_INPUT = (ScanError, LandmarkFileError, ValueError, OSError, EOFError, zlib.error, ImageFileError)


def cause(error: BaseException, path: str) -> BaseException:
    """The first error of ours in a chain of errors, else the one that started it."""
    while not isinstance(error, OURS):
        origin = error.__cause__ or error.__context__
        if origin is None:
            break
        error = origin
    if isinstance(error, RuntimeError) and path.endswith((".nii", ".nii.gz")):
        try:  # MONAI says only that no reader fits
            check_header(path)
        except ScanError as clearer:
            return clearer
    return error


@contextmanager
def clear_answers(doing: str, path: str = "", shown: str = "") -> Iterator[None]:
    """Turns an error into an answer with one sentence: 422 for bad input, 507 for a full disk, 500 for the rest.

    The image's path in it becomes what is shown instead.
    """
    try:
        yield
    except Exception as error:
        logger.exception(doing)
        found = cause(error, path)
        status = 422 if isinstance(found, BAD_INPUT) else 500
        if isinstance(found, OutputError) or getattr(found, "errno", None) == errno.ENOSPC:
            status = 507
        text = str(found).replace(path, shown) if path else str(found)
        sentence = " ".join(text.split()) or type(found).__name__
        raise HTTPException(status, f"{doing} failed: {sentence}"[:1000]) from error


# MONAI Label takes the class that has MONAILabelApp itself among its bases.
class AnsweringApp(monaibundle.MyApp, MONAILabelApp):
    """Checks a request before the work and names what is wrong with it."""

    def init_infers(self) -> dict[str, Any]:
        """The numbers of /info are channels; where none is the background, images hold them from 1."""
        infers = super().init_infers()
        for task in infers.values():
            if task.is_valid() and 0 in task.labels.values():
                task.labels = {name: channel + 1 for name, channel in task.labels.items()}
        return infers

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        image = request.get("image")
        uploaded = isinstance(image, str) and Path(image).parent == Path(tempfile.gettempdir())
        try:
            self._check_model(request.get("model"), self._infers)
            path = self._path(image, datastore or self.datastore())
            shown = "the uploaded image" if uploaded else Path(path).name
            with clear_answers(f"running {request['model']}", path, shown):
                return super().infer(request, datastore)
        except HTTPException:
            if uploaded:  # MONAI Label deletes it only after a good answer
                Path(image).unlink(missing_ok=True)
            raise

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        model = request.get("model")
        self._check_model(model, self._trainers)
        if not self.datastore().datalist():
            raise HTTPException(422, f"training {model} needs labels, and no image of the studies has one (tag final)")
        with clear_answers(f"training {model}"):
            return super().train(request)

    def _check_model(self, model: str | None, tasks: dict[str, Any]) -> None:
        if model not in tasks:
            raise HTTPException(404, f"there is no model {model!r}: this server has {', '.join(sorted(tasks))}")

    def _path(self, image: Any, datastore: Any) -> str:
        path = image if not isinstance(image, str) or os.path.exists(image) else datastore.get_image_uri(image)
        if not path:
            raise HTTPException(404, f"there is no image {image!r} among the studies of this server")
        return str(path)
