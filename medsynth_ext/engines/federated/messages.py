"""What travels between a federation's server and its sites: plain tensors and numbers, as bytes that can be checked."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["MessageError", "pack", "unpack"]

_DIGEST = hashlib.sha256().digest_size


class MessageError(ValueError):
    """A message that cannot be read, or that holds something else than what was asked for."""


def pack(content: Mapping[str, Any]) -> bytes:
    """Bytes of a dict of tensors, numbers, texts, lists and dicts; a checksum comes first."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    body = buffer.getvalue()
    return hashlib.sha256(body).digest() + body


def unpack(message: bytes) -> dict[str, Any]:
    """The dict of :func:`pack`; no code of the sender is run.

    >>> unpack(pack({"number": 3}))
    {'number': 3}

    Raises:
        MessageError: for bytes that were cut or changed on their way, or that hold other things.
    """
    if not isinstance(message, bytes | bytearray):
        raise MessageError(f"a message must be bytes, got {type(message).__name__}")
    body = bytes(message[_DIGEST:])
    if len(message) <= _DIGEST or hashlib.sha256(body).digest() != bytes(message[:_DIGEST]):
        raise MessageError(f"a message of {len(message)} bytes is damaged: its checksum does not fit")
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise MessageError(f"a message must hold tensors and plain values only: {reason}") from error
    if not isinstance(content, dict):
        raise MessageError(f"a message must hold a dict, got {type(content).__name__}")
    return content
