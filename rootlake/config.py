"""The configuration file `rootlake.toml`, read once by the command line.

Paths in it are relative to the file's own folder.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lake.errors import UserError

if TYPE_CHECKING:
    from quality.checks import Check
    from quality.expectations import Expectation

DEFAULT = "rootlake.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Workspace(_Section):
    """What `ask` may look at beside the lake."""

    kubernetes: tuple[str, ...] = Field(
        default=(), description="folders of API objects as JSON lists", examples=[["recorded/eu-1"]]
    )
    repositories: tuple[str, ...] = Field(
        default=(), description="git clones", examples=[["src/shop"]]
    )
    prometheus: str | None = Field(
        default=None, description="a server to ask", examples=["http://prometheus:9090"]
    )


class Model(_Section):
    """The language model `ask` uses; none: the offline planner."""

    name: str | None = Field(
        default=None, description="as LangChain names it", examples=["openai:gpt-5"]
    )
    base_url: str | None = Field(
        default=None,
        description="of a server that speaks as OpenAI's",
        examples=["http://localhost:8000/v1"],
    )


class Source(BaseModel):
    """A source `ingest NAME` and `run` pull; further keys are options of its kind."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    name: str = Field(
        default="", description="what `ingest NAME` says (default: kind)", examples=["prod-metrics"]
    )
    target: str
    silent: float = Field(default=24.0, gt=0, description="hours without news that are reported")

    @property
    def called(self) -> str:
        """Its name, or its kind where it has none."""
        return self.name or self.kind

    @property
    def options(self) -> dict[str, Any]:
        """What its kind is set up with."""
        return {"target": self.target, **(self.model_extra or {})}


class Run(_Section):
    """What one `rootlake run` does."""

    parallel: int = Field(default=4, ge=1, description="sources pulled side by side")
    timeout: float = Field(default=1800.0, gt=0, description="seconds one source may take")
    steps: tuple[Literal["repair", "quality", "detect", "diagnose"], ...] = Field(
        default=("repair", "quality", "detect", "diagnose"), description="what follows the pulls"
    )
    metrics: str | None = Field(
        default=None,
        description="file for rootlake's own metrics, as OpenMetrics text",
        examples=["rootlake.om"],
    )


class Quality(_Section):
    """How `quality` judges."""

    weeks: int = Field(default=4, ge=0, le=520, description="of history a day is compared with")
    fresh: float | None = Field(
        default=None, gt=0, description="hours after which data is stale", examples=[6]
    )
    off: tuple[str, ...] = Field(
        default=(),
        description="built-in checks not made: TABLE.CHECK",
        examples=[["spans.has_host"]],
    )
    tolerate: dict[str, float] = Field(
        default={},
        description="share of rows a check lets pass",
        examples=[{"logs.has_service": 0.2}],
    )


class Expected(_Section):
    """A check of your own: see docs/operations.md."""

    name: str = Field(min_length=1, max_length=60, examples=["durations are sane"])
    table: str = Field(description="spans, errors, logs, samples, …", examples=["spans"])
    predicate: str = Field(
        min_length=1,
        description="SQL that must hold for every row",
        examples=["duration_ns between 0 and 3600e9"],
    )
    action: Literal["warn", "quarantine", "fail"] = Field(
        default="warn", description="or quarantine (the rows), or fail (the day stays as it was)"
    )
    tolerate: float = Field(default=0.0, ge=0, le=1, description="share of rows that may not hold")

    @field_validator("table")
    @classmethod
    def _is_table(cls, value: str) -> str:
        from lake.schemas import TABLES

        if value not in TABLES:
            raise ValueError(f"is no table; there are {', '.join(TABLES)}")
        return value

    @model_validator(mode="after")
    def _acts_on_clean(self) -> Expected:
        if self.action != "warn" and self.table not in _CLEAN:
            raise ValueError(
                f"{self.action!r} of {self.name!r} needs a table that repair makes"
                f" ({', '.join(_CLEAN)}), not {self.table!r}; 'warn' is for every table"
            )
        return self


class Maintain(_Section):
    """How `maintain` keeps the tables."""

    hours: int = Field(default=168, ge=1, description="age at which files nobody needs are deleted")
    log_days: int = Field(default=30, ge=1, description="of a table's history that can be read")


_CLEAN = ("spans", "errors", "logs", "samples")


class Config(_Section):
    """All settings; each has a default that works."""

    lake: str = Field(
        default="lake", description='a folder, or an object store: "s3://bucket/lake"'
    )
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        description="for an object store, as deltalake takes them",
        examples=[{"AWS_REGION": "eu-central-1"}],
    )
    sources: tuple[Source, ...] = ()
    run: Run = Run()
    quality: Quality = Quality()
    expectations: tuple[Expected, ...] = ()
    maintain: Maintain = Maintain()
    retention: dict[str, int] = Field(
        default_factory=dict,
        description="days of rows a table keeps; others keep all",
        examples=[{"raw_spans": 30, "spans": 90, "red": 730}],
    )
    workspace: Workspace = Workspace()
    model: Model = Model()

    @field_validator("retention")
    @classmethod
    def _expires(cls, value: dict[str, int]) -> dict[str, int]:
        from lake.schemas import TABLES

        can = [n for n, t in TABLES.items() if "date" in t.partition_by and n != "scorecard"]
        for name, days in value.items():
            if name not in can:
                raise ValueError(f"{name!r} does not expire; there are {', '.join(can)}")
            if days < 1:
                raise ValueError(f"{name!r} keeps 1 day or more")
        return value

    def expected(self) -> list[Expectation]:
        """The user's expectations, as `quality` takes them."""
        from quality.expectations import Expectation

        return [Expectation(**one.model_dump()) for one in self.expectations]

    def checks(self) -> list[Check]:
        """Built-in checks as the settings have them, then the user's.

        Raises UserError for a name in [quality] that no check has.
        """
        from quality import checks

        settings = self.quality
        names = [f"{one.table}.{one.name}" for one in checks.BUILT_IN]
        for name in (*settings.off, *settings.tolerate):
            if name not in names:
                raise UserError(f"[quality] names {name!r}; the checks are {', '.join(names)}.")
        built_in = [
            replace(one, tolerate=settings.tolerate.get(name, one.tolerate))
            for name, one in zip(names, checks.BUILT_IN, strict=True)
            if name not in settings.off
        ]
        return [*built_in, *checks.of(self.expected())]


def source_of(config: Config, name: str) -> Source | None:
    """The configured source of a name; None where there is none."""
    return next((one for one in config.sources if one.called == name), None)


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
        text = file.read_text(encoding="utf-8-sig")  # some editors begin a file with a BOM
        config = Config.model_validate(tomllib.loads(text))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not TOML: {error}.") from error
    except ValidationError as error:
        raise UserError(f"{file}: {_first(error)}") from error
    names = [one.called for one in config.sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{file}: two sources are called {twice!r}; give each a `name`.")
    checks = [one.name for one in config.expectations]
    twice = next((name for name in checks if checks.count(name) > 1), None)
    if twice:
        raise UserError(f"{file}: two expectations are called {twice!r}; names are their keys.")
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
    sources = tuple(
        one.model_copy(update={"target": _at(folder, one.target)}) for one in config.sources
    )
    own: dict[str, Any] = {"lake": _at(folder, config.lake), "workspace": seen, "sources": sources}
    if config.run.metrics:
        metrics = _at(folder, config.run.metrics)
        own["run"] = config.run.model_copy(update={"metrics": metrics})
    return config.model_copy(update=own)


def _at(folder: Path, place: str) -> str:
    if "://" in place or place.partition(":")[0] == "cluster":
        return place
    return str(folder / Path(place).expanduser())
