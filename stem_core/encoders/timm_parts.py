"""timm, imported when an encoder is asked for and never before.

timm imports torchvision, which fails to import beside a torch of another build (a CPU wheel of
torch beside PyPI's torchvision): its compiled operators cannot be loaded, and it declares shapes
for two of them. No vision transformer uses these operators, so they are declared here, as
unavailable, and the import is tried again.
"""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

from stem_core.errors import EncoderMissingError, missing_extra

__all__ = ["import_timm"]

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []  # a torch.library.Library ends when it is forgotten
_lock = threading.Lock()


def import_timm() -> Any:
    """Import timm.

    Returns
    -------
    module
        `timm`, with `timm.layers` and `timm.models` loaded.

    Raises
    ------
    EncoderMissingError
        timm is not installed, or cannot be imported.
    """
    with _lock:
        try:
            return _import()
        except ModuleNotFoundError as error:
            package = (error.name or "timm").split(".")[0]
            msg = missing_extra("A published encoder", f"the package {package}", "encoders")
            raise EncoderMissingError(msg) from error
        except (ImportError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            msg = (
                f"timm cannot be imported ({reason}). Run pip install "
                '"stem-in-a-browser[encoders]", which installs the torchvision that belongs to '
                "this torch."
            )
            raise EncoderMissingError(msg) from error


def _import() -> Any:
    for _ in range(8):  # operators that torchvision may ask for, one a try
        try:
            import timm.layers
            import timm.models
        except RuntimeError as error:
            missing = _MISSING.match(str(error))
            if missing is None:
                raise
            _declare(missing[1])
        else:
            return timm
    msg = "torchvision asks for ever more compiled operators"
    raise ImportError(msg)


def _declare(operator: str) -> None:
    import torch

    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        _declared.append(library)
    _declared[0].define(_SCHEMA.format(operator))
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "timm")]:
        del sys.modules[name]  # half imported
