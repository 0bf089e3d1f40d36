"""The last words of a workflow that was started on the command line."""

from __future__ import annotations

import dis
import logging
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType

from tqdm import tqdm

__all__ = ["errors_as_sentences", "sentence_of"]

_PROGRAM = "monai.bundle.__main__"  # what `python -m monai.bundle` runs, under torchrun too
_FAULTS_OF_INPUT = (ValueError, OSError, ArithmeticError)
_IN_A_WORKER = re.compile(r"^medsynth_ext\.[\w.]+Error: (.+)$", re.MULTILINE)


def errors_as_sentences() -> None:
    """End ``python -m monai.bundle`` with ``error: `` and one sentence when what stops it is the user's to mend.

    The first entry of a workflow's ``initialize``. The exit status stays 1. Errors of a program keep their traceback,
    and with ``MEDSYNTH_TRACEBACK=1`` in the environment all do. Nothing changes in a program that is not
    ``python -m monai.bundle``: a script or a server that runs the workflow catches its exceptions as before.
    """
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if program is None or program.name != _PROGRAM or os.environ.get("MEDSYNTH_TRACEBACK") == "1":
        return
    sys.excepthook = partial(_say, sys.excepthook)
    for handler in logging.getLogger().handlers:  # MONAI's StatsHandler logs the error on its way
        handler.addFilter(_without_traceback)


def sentence_of(error: BaseException) -> str | None:
    """The sentence in an error that MONAI wrapped, when it is about files, settings or numbers of the user.

    That is the message of an error that is defined in this package, or of a ``ValueError``, ``OSError`` or
    ``ArithmeticError`` that the package raises outside of its operators, whose arguments a program chooses. Also of an
    ``OSError`` about a file, wherever it comes from.

    Returns:
        The sentence; ``None`` for an error of a program.
    """
    while error.__cause__ is not None and type(error) is RuntimeError and _place(error)[0].startswith("monai."):
        error = error.__cause__
    if "in DataLoader worker process" in str(error):  # torch makes the worker's traceback part of the message
        in_a_worker = _IN_A_WORKER.search(str(error))
        return in_a_worker and in_a_worker[1]
    if type(error).__module__.startswith("medsynth_ext."):
        return str(error)
    module, raised = _place(error)
    ours = raised and module.startswith("medsynth_ext.") and not module.startswith("medsynth_ext.ops.")
    if isinstance(error, _FAULTS_OF_INPUT) and ours:
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def _place(error: BaseException) -> tuple[str, bool]:
    """Module in which an error came up, and whether by a ``raise``: a built-in function has no frame of its own."""
    trace = error.__traceback__
    if trace is None:
        return "", False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_code
    return trace.tb_frame.f_globals.get("__name__", ""), dis.opname[code[trace.tb_lasti]] == "RAISE_VARARGS"


def _say(
    otherwise: Callable[[type[BaseException], BaseException, TracebackType | None], object],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    sentence = sentence_of(error)
    if sentence is None:
        otherwise(kind, error, trace)
        return
    for bar in list(tqdm._instances):  # else they are drawn again after the last words
        bar.close()
    print(f"error: {sentence}", file=sys.stderr)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep the line of a log about such an error, and drop the traceback below it."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and sentence_of(error) is not None:
        record.exc_info = None
    return True
