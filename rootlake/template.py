"""The settings file that `rootlake init` writes: every setting there is, commented, with its
default or an example, made from the models that read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ingest.source import registered, source_class
from ingest.web import WebOptions
from rootlake.config import Config, Expected, Source

_HEAD = """# rootlake's settings; every line that begins with '#' shows a default or an example.
# Paths are relative to this file. What they mean in full: docs/configuration.md.
"""
_TARGETS = {
    "prometheus": "http://prometheus:9090",
    "jaeger": "http://jaeger:16686",
    "sentry": "https://sentry.io",
    "loki": "http://loki:3100",
    "logs": "/var/log/pods",
    "git": "src/shop",
    "k8s": "cluster",
    "changes": "deploys.jsonl",
}
_FULL = "prometheus"  # a kind that shows what others share
_COLUMN = 45  # where the comments begin


def template() -> str:
    """The whole file; with the '# ' before its settings taken away it loads as well."""
    fields = Config.model_fields
    return "\n".join(
        [_HEAD, 'lake = "lake"  # ' + _meaning(fields["lake"]), *_sections(fields), ""]
    )


def _sections(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield f"\n[{name}]  # {_first_line(kind)}"
            yield from _settings(kind.model_fields)
        elif field.default_factory is dict:
            yield f"\n[{name}]  # {_meaning(field)}"
            yield from (_commented(key, value, "") for key, value in _shown(field).items())
    yield "\n# [[expectations]]  # " + _first_line(Expected)
    yield from _settings(Expected.model_fields)
    yield "\n# What all sources, or all servers, can be told stands at the first source alone."
    yield from (line for kind in _kinds() for line in _source(kind))


def _kinds() -> list[str]:
    """The sources of the project itself; `rootlake sources` shows those of other packages."""
    own = [name for name, point in registered().items() if point.module.startswith("ingest.")]
    return [_FULL, *(name for name in own if name != _FULL)]


def _source(kind: str) -> Iterator[str]:
    """A source with its options; all but the first show only what is their own."""
    found = source_class(kind)
    own = {
        name: field
        for name, field in found.options.model_fields.items()
        if name != "target" and (kind == _FULL or name not in WebOptions.model_fields)
    }
    yield f"\n# [[sources]]  # {found.about}"
    yield _commented("kind", kind, "")
    yield _commented("target", _TARGETS.get(kind, f"data/{kind}"), "")
    if kind == _FULL:
        yield from _settings({n: f for n, f in Source.model_fields.items() if n not in _TOLD})
    yield from _settings(own)


_TOLD = ("kind", "target")


def _settings(fields: Mapping[str, FieldInfo]) -> Iterable[str]:
    return (_commented(name, _shown(field), _meaning(field)) for name, field in fields.items())


def _shown(field: FieldInfo) -> Any:
    """The example of a setting that has no default to show, else its default."""
    return field.examples[0] if field.examples else field.get_default(call_default_factory=True)


def _meaning(field: FieldInfo) -> str:
    return field.description or ""


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0].rstrip(".")


def _commented(name: str, value: Any, meaning: str) -> str:
    line = f"# {name} = {_toml(value)}"
    return f"{line:<{_COLUMN}}  # {meaning}" if meaning else line


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, float):
        return f"{value:g}" if value != int(value) else str(int(value))
    return json.dumps(value, ensure_ascii=False)
