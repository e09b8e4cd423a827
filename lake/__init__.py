"""The floor: table schemas, Delta reads and writes, SQL. It knows nothing of what stands on it.

Names are imported when first used, so that importing `lake` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lake.errors import BusyError as BusyError
    from lake.errors import ConflictError as ConflictError
    from lake.errors import LakeVersionError as LakeVersionError
    from lake.errors import SchemaError as SchemaError
    from lake.errors import UsageError as UsageError
    from lake.errors import UserError as UserError
    from lake.frames import empty as empty
    from lake.frames import fit as fit
    from lake.query import Reading as Reading
    from lake.query import holds as holds
    from lake.query import sql as sql
    from lake.schemas import FIRST_DAY as FIRST_DAY
    from lake.schemas import TABLES as TABLES
    from lake.schemas import UNPLACED as UNPLACED
    from lake.store import Lake as Lake

_HOME = {
    "BusyError": "lake.errors",
    "ConflictError": "lake.errors",
    "LakeVersionError": "lake.errors",
    "SchemaError": "lake.errors",
    "UsageError": "lake.errors",
    "UserError": "lake.errors",
    "empty": "lake.frames",
    "fit": "lake.frames",
    "FIRST_DAY": "lake.schemas",
    "TABLES": "lake.schemas",
    "UNPLACED": "lake.schemas",
    "holds": "lake.query",
    "Reading": "lake.query",
    "sql": "lake.query",
    "Lake": "lake.store",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lake' has no attribute {name!r}")
