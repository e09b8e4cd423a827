"""The roof: command line, configuration, and the Python API `rootlake.Lake`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootlake.api import Diagnosis as Diagnosis
    from rootlake.api import Lake as Lake

__version__ = "0.1.0"
__all__ = ["Diagnosis", "Lake", "__version__"]


def __getattr__(name: str) -> Any:
    if name in {"Lake", "Diagnosis"}:
        from rootlake import api

        return getattr(api, name)
    raise AttributeError(f"module 'rootlake' has no attribute {name!r}")
