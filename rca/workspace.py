"""What an agent's tools may look at: the lake, and what lies beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lake import Lake, UserError


@dataclass(frozen=True)
class Workspace:
    """kubernetes    folders with recorded lists of Kubernetes objects (`kubectl get … -o json`)
    repositories  git clones
    prometheus    the URL of a live server; none: the metrics in the lake
    """

    lake: Lake
    kubernetes: tuple[Path, ...] = ()
    repositories: tuple[Path, ...] = ()
    prometheus: str | None = None

    def objects(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(cluster, object) of every recorded object of a kind, as `Pod` or `Event`; the cluster
        is the name of the folder above the lists."""
        for folder in self.kubernetes:
            for file in sorted(folder.glob("*.json")):
                found = _list(file)
                if found.get("kind") == f"{kind}List":
                    for item in found.get("items") or []:
                        yield folder.parent.name, item


def _list(file: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"cannot read the Kubernetes objects in {file}: {error}.") from error
    return found if isinstance(found, dict) else {}
