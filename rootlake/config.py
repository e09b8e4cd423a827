"""The configuration file `rootlake.toml`, read once by the command line.

Paths in it are relative to the file's own folder.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lake.errors import UserError

DEFAULT = "rootlake.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Workspace(_Section):
    """What `ask` may look at beside the lake."""

    kubernetes: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    prometheus: str | None = None


class Model(_Section):
    """The language model `ask` uses; none: the offline planner."""

    name: str | None = None
    base_url: str | None = None


class Config(_Section):
    """All settings; each has a default that works."""

    lake: str = "lake"
    storage_options: dict[str, str] = Field(default_factory=dict)
    workspace: Workspace = Workspace()
    model: Model = Model()


def load(path: str | None) -> Config:
    """The settings of a file; of `rootlake.toml` here, if there is one, when none is named.

    Raises UserError that names the file, the key, the value and what is allowed.
    """
    file = Path(path or DEFAULT)
    if not file.exists():
        if path is None:
            return Config()
        raise UserError(f"there is no configuration file {file}.")
    try:
        config = Config.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not TOML: {error}.") from error
    except ValidationError as error:
        raise UserError(f"{file}: {_first(error)}") from error
    return _anchored(config, file.parent)


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"there is no setting {key!r}; see docs/configuration.md."
    return f"{key} = {found['input']!r}: {found['msg'].lower()}."


def _anchored(config: Config, folder: Path) -> Config:
    """The same settings with relative paths read from the file's folder."""
    seen = config.workspace.model_copy(
        update={
            "kubernetes": tuple(_at(folder, place) for place in config.workspace.kubernetes),
            "repositories": tuple(_at(folder, place) for place in config.workspace.repositories),
        }
    )
    return config.model_copy(update={"lake": _at(folder, config.lake), "workspace": seen})


def _at(folder: Path, place: str) -> str:
    return place if "://" in place else str(folder / Path(place).expanduser())
