"""What all span sources share: who made a span, and the frame of raw columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from ingest.batch import Place
from lake import TABLES

HOST = (
    "k8s.node.name",
    "host.name",
    "host.id",
    "hostname",
    "k8s.pod.name",
    "pod",
    "container.id",
)
CLUSTER = ("k8s.cluster.name", "cluster")
NAMESPACE = ("k8s.namespace.name", "service.namespace", "namespace")
ENVIRONMENT = ("deployment.environment.name", "deployment.environment", "environment")


class Origin(NamedTuple):
    """The process a span came from."""

    service: str | None
    host: str | None
    cluster: str | None
    namespace: str | None
    environment: str | None
    resource: str | None


def origin_of(
    service: str | None, tags: Mapping[str, Any], resource: str | None, place: Place
) -> Origin:
    """Read a process' tags; `place` fills what they do not say. `resource` is their JSON text."""

    def first(keys: Sequence[str]) -> str | None:
        return next((str(tags[key]) for key in keys if tags.get(key) not in (None, "")), None)

    return Origin(
        service or None,
        first(HOST),
        first(CLUSTER) or place.cluster,
        first(NAMESPACE) or place.namespace,
        first(ENVIRONMENT) or place.environment,
        resource,
    )


def frame(
    owners: pl.DataFrame, columns: Mapping[str, Sequence[Any] | pl.Series | None], unit: str
) -> pl.DataFrame:
    """The columns of `raw_spans` without its delivery, in its order; None stands for an all-null
    column."""
    kinds = {"start": pl.Int64, "duration": pl.Int64}
    data = [
        pl.Series(
            name, [None] * owners.height if values is None else values, kinds.get(name, pl.String)
        )
        for name, values in columns.items()
    ]
    rows = pl.DataFrame(data).hstack(owners).with_columns(start_unit=pl.lit(unit))
    return rows.select(name for name in TABLES["raw_spans"].schema.names if name in rows.columns)


def owned(origins: Sequence[Origin]) -> pl.DataFrame:
    """A row for each origin."""
    return pl.DataFrame(origins, schema=dict.fromkeys(Origin._fields, pl.String), orient="row")
