"""What it is when no change explains an incident: an expired certificate, somebody else's service,
a bad node, more traffic, or too little room. Each says so only where the telemetry shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from lake import Lake
from rca.changes.failing import says
from rca.changes.rank import Suspect
from rca.facts import Facts
from rca.read import kept, scan, within

EXPIRED = r"(?i)certificate\b.*\b(expired|not yet valid|unknown authority|verify failed|revoked)|x509:|pkix path|cert(ificate)?_(expired|verify_failed)|ssl.*handshake.*fail|notafter"
FULL = r"(?i)pool\b.*\b(exhausted|full|timeout)|too many (open files|connections|clients|requests)|queue\b.*\bfull|no free (connection|slot|thread|worker)|rejectedexecution|resource.?exhausted|no space left"
LOADED = ("capacity", "cpu", "memory", "dependency", "unknown")  # what traffic brings about
GREW = 1.5  # times the healthy rate of requests
SHARE = 0.8  # of what goes wrong that lies in one place
LEAST = 5
PEER = ("server.address", "net.peer.name", "peer.hostname", "http.host", "peer.address")
INSIDE = r"^[\d.:]+$|\.(local|internal|svc)(\.|:|$)|^localhost"
NEAR = timedelta(minutes=5)  # of healthy time, looked at for calls outside
NODES = ("host", "k8s.node.name", "node", "host.name", "cloud.availability_zone")


class Other(NamedTuple):
    """A cause that is no change: certificate, external, node, traffic or capacity, and why."""

    kind: str
    why: str


Traits = Sequence[tuple[str, str]]


class Case(NamedTuple):
    """What the causes are looked for in; `traits` set the suspect's bad spans apart."""

    lake: Lake
    seen: Facts
    suspect: Suspect
    traits: Traits


Look = Callable[[Case], "str | None"]


def other(lake: Lake, seen: Facts, suspect: Suspect, traits: Traits = ()) -> Other | None:
    """The first of the causes that the telemetry shows; None where it shows none."""
    case = Case(lake, seen, suspect, traits)
    for kind, look in LOOKS:
        why = look(case)
        if why:
            return Other(kind, why)
    return None


def _certificate(case: Case) -> str | None:
    said = says(case.suspect.words, EXPIRED)
    return f"{case.suspect.service} says: {said}" if said else None


def _external(case: Case) -> str | None:
    """Calls to a host that is no service of the lake, which fail or are slow."""
    calls = outside(case.lake, case.seen, case.suspect.service)
    took, error = pl.col("duration_ns"), pl.col("error")
    each = calls.group_by("peer").agg(
        error.filter("bad").mean().alias("fails"),
        error.filter(~pl.col("bad")).mean().fill_null(0.0).alias("failed"),
        took.filter("bad").median().alias("took"),
        took.filter(~pl.col("bad")).median().alias("usual"),
        pl.col("bad").sum().alias("calls"),
    )
    worse = pl.col("fails") > pl.col("failed") + 0.1
    slower = pl.col("took") > 3 * pl.col("usual")
    hit = each.filter(pl.col("calls") >= LEAST, (worse | slower).fill_null(value=False))
    if not hit.height:
        return None
    row = hit.sort("fails", "took", "peer", descending=[True, True, False]).row(0, named=True)
    return (
        f"calls of {case.suspect.service} to {row['peer']}, which is outside, fail in {row['fails']:.0%}"
        f" (before {row['failed']:.0%}) and take {row['took'] / 1e6:,.0f} ms (before"
        f" {(row['usual'] or 0) / 1e6:,.0f})"
    )


def outside(lake: Lake, seen: Facts, service: str) -> pl.DataFrame:
    """A service's client spans without a child, in the window and minutes of healthy time, to a
    host (`peer`) that is neither a service of these spans nor inside."""
    spans = seen.spans
    mine = spans.filter(pl.col("service") == service, pl.col("kind") == "client", "leaf")
    if not mine.height:
        return mine.with_columns(peer=pl.lit(None, pl.String))
    near = [(max(start, end - NEAR), end) for start, end in seen.baselines[:1]]
    peer = pl.coalesce(*(pl.col("attributes").map.get(key) for key in PEER)).alias("peer")
    rows = scan(lake, "spans", [within("start", one) for one in (seen.window, *near)]).filter(
        pl.col("service") == service,
        pl.col("kind") == "client",
        kept(seen.share),
    )
    peers = (
        rows.select("trace_id", "span_id", peer)
        .collect()
        .unique(["trace_id", "span_id"], keep="first")
    )
    first = pl.col("peer").str.split(".").list.first()
    return mine.join(peers, on=["trace_id", "span_id"]).filter(
        pl.col("peer").str.contains(".", literal=True),
        ~pl.col("peer").str.contains(INSIDE),
        ~first.is_in(spans["service"].unique().implode()),
    )


def _node(case: Case) -> str | None:
    for name, value in case.traits:
        if name in NODES:
            return f"what goes wrong in {case.suspect.service} goes wrong on {name} {value}"
    mine = case.seen.spans.filter(pl.col("service") == case.suspect.service, "bad")
    failing = mine.filter("error").drop_nulls("host")
    hosts = mine["host"].n_unique()
    if failing.height < LEAST or hosts < 2:
        return None
    worst = failing.group_by("host").len().sort("len", "host", descending=[True, False]).row(0)
    share = mine.filter(pl.col("host") == worst[0]).height / mine.height
    if worst[1] / failing.height < SHARE or share > SHARE / 1.6:
        return None
    return f"{worst[1] / failing.height:.0%} of the failing spans of {case.suspect.service} ran on {worst[0]}"


def _traffic(case: Case) -> str | None:
    load = case.seen.load
    if load is None or load < GREW or case.suspect.fault not in LOADED:
        return None
    return f"requests came at {load:.1f} × the healthy rate"


def _capacity(case: Case) -> str | None:
    said = says(case.suspect.words, FULL)
    return f"{case.suspect.service} says: {said}" if said else None


LOOKS: tuple[tuple[str, Look], ...] = (
    ("certificate", _certificate),
    ("external", _external),
    ("node", _node),
    ("traffic", _traffic),
    ("capacity", _capacity),
)
