"""The scratch folder of one repair: what its steps leave for each other, gone when it ends."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "_repair"
_OLD = 86_400  # seconds after which what a killed run left is removed


@contextmanager
def scratch(lake: Path | None) -> Iterator[Path]:
    """A folder beside the tables of a local lake, else among the system's temporary files."""
    if lake is None:
        with tempfile.TemporaryDirectory() as apart:
            yield Path(apart)
        return
    home = lake / _NAME
    home.mkdir(exist_ok=True)
    for left in home.iterdir():
        if time.time() - left.stat().st_mtime > _OLD:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
