"""the kinds of sources, and the options of each

Other packages add kinds (docs/sources.md).

example:
  rootlake sources
  rootlake sources prometheus"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rootlake.context import Context

if TYPE_CHECKING:
    from ingest.source import Source


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="SOURCE", help="show this one's options")


def run(context: Context) -> int:
    from ingest.source import registered, source_class
    from rootlake.tables import rows

    name = context.arguments.name
    if name:
        found = options(source_class(name))
        if context.json:
            context.answer(found)
        else:
            rows(
                context.out, ["option", "default", "meaning"], [list(one.values()) for one in found]
            )
        return 0
    kinds = [
        _about(name, point.dist.name if point.dist else "") for name, point in registered().items()
    ]
    if context.json:
        context.answer(kinds)
    else:
        rows(context.out, list(kinds[0]), [list(one.values()) for one in kinds])
    return 0


def _about(name: str, package: str) -> dict[str, Any]:
    """One kind; a plugin that does not load says so here and harms nothing else."""
    from ingest.source import source_class
    from lake.errors import UserError

    try:
        kind = source_class(name)
    except UserError as error:
        return {"source": name, "version": "–", "from": package, "about": str(error)}
    return {"source": name, "version": kind.version, "from": package, "about": kind.about}


def options(kind: type[Source]) -> list[dict[str, Any]]:
    """A source's options: name, default, meaning."""
    found = []
    for name, one in kind.options.model_fields.items():
        default = "required" if one.is_required() else one.get_default(call_default_factory=True)
        text = "–" if default in (None, (), {}) else str(default)
        found.append({"option": name, "default": text, "meaning": one.description or ""})
    return found
