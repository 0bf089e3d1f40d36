"""A site's record of all that left it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.data.files import write_json
from medsynth_ext.engines.federated.privacy import gradient_norm

__all__ = ["SentReport"]


class SentReport:
    """Everything that left a site, by name and size.

    A line of ``sent.jsonl`` is written before a message leaves, so that the record is complete whenever the site dies,
    and is never taken back when the training is. ``sent.json`` is their summary.

    Args:
        site: its name.
        folder: of both files; a record that is there is continued.
    """

    def __init__(self, site: str, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.summary: dict[str, Any] = {"site": site, "messages": 0, "bytes": 0, "kinds": {}, "scalars": []}
        self.summary |= {"tensors": {}, "texts": []}
        self.lines = self.folder / "sent.jsonl"
        if self.lines.is_file():
            for line in self.lines.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):  # the last one of a site that was killed may be cut
                    self._count(json.loads(line))

    def message(
        self,
        kind: str,
        size: int,
        *,
        number: int,
        tensors: Mapping[str, Tensor] | None = None,
        scalars: Sequence[str] = (),
        text: str | None = None,
        norm_before: float | None = None,
    ) -> None:
        """Note one message, before it leaves.

        Args:
            kind: what it is.
            size: bytes of the whole message.
            number: of the exchange.
            tensors: what it carries, by name.
            scalars: names of the numbers that it carries.
            text: sentence that it carries.
            norm_before: of all tensors together before they were clipped; noted beside their norm.
        """
        row: dict[str, Any] = {"number": number, "kind": kind, "bytes": size, "scalars": list(scalars)}
        if text is not None:
            row["text"] = text
        if tensors:
            row["tensors"] = {name: _described(tensor) for name, tensor in tensors.items()}
            row["norm"] = gradient_norm(tensors)
            if norm_before is not None:
                row["norm_before_clipping"] = norm_before
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._count(row)

    def write(self) -> None:
        """Write the summary."""
        write_json(self.folder / "sent.json", self.summary)

    def _count(self, row: Mapping[str, Any]) -> None:
        summary = self.summary
        summary["messages"] += 1
        summary["bytes"] += row["bytes"]
        summary["kinds"][row["kind"]] = summary["kinds"].get(row["kind"], 0) + 1
        summary["scalars"] = sorted({*summary["scalars"], *row["scalars"]})
        if "text" in row:
            summary["texts"].append({"number": row["number"], "text": row["text"]})
        for name, tensor in row.get("tensors", {}).items():
            entry = summary["tensors"].setdefault(
                name, {"kind": row["kind"], "shape": tensor["shape"], "messages": 0, "bytes": 0, "norm_max": 0.0}
            )
            entry["messages"] += 1
            entry["bytes"] += tensor["bytes"]
            entry["norm_max"] = max(entry["norm_max"], tensor["norm"])
            entry["norm_last"] = tensor["norm"]


def _described(tensor: Tensor) -> dict[str, Any]:
    norm = float(torch.linalg.vector_norm(tensor.double()))
    return {"shape": list(tensor.shape), "bytes": tensor.numel() * tensor.element_size(), "norm": norm}
