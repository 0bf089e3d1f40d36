"""Lets torchvision be imported beside a CPU build of torch; ``install.sh`` has it imported when Python starts.

The wheels of torchvision that the registry offers hold CUDA operators that cannot load there, and the import ends with
"operator torchvision::nms does not exist". Declaring the operators is enough; calling them still fails.
"""

from __future__ import annotations

import importlib.abc
import sys


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Finds nothing; declares the operators when torchvision is first asked for."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if not torch.version.cuda:
                self.library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


finder = DeclareOperators()  # kept: with the library the operators would go
sys.meta_path.insert(0, finder)
