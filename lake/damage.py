"""What is wrong with a lake's data files: looked for when reading has failed, not before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lake.errors import UserError
from lake.files import placed
from lake.store import Lake

_MAGIC = b"PAR1"  # a Parquet file begins and ends with it


def damage(lake: Lake, names: Iterable[str]) -> str | None:
    """One sentence about the first data file of some tables that is gone, cut or no Parquet; None
    where each is as its table's log says, and for a lake in an object store."""
    if "://" in lake.root:
        return None
    for name in names:
        try:
            listed = placed(lake.open(name))
        except UserError as error:
            return str(error)
        for one in listed:
            file = Path(lake.uri(name)) / one.path
            wrong = _wrong(file, one.size)
            if wrong:
                return f"{file}, a data file of {name}, {wrong}; restore it from a backup."
    return None


def _wrong(file: Path, size: int) -> str | None:
    try:
        with file.open("rb") as held:
            first = held.read(len(_MAGIC))
            found = held.seek(0, 2)
            held.seek(max(0, found - len(_MAGIC)))
            last = held.read()
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found != size:
        return f"has {found:,} bytes where the table's log says {size:,}"
    return None if first == last == _MAGIC else "is damaged: it is no Parquet"
