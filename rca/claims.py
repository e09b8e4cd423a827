"""One claim and one query per kind of finding: what a person would ask the lake to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rca.evidence import Ledger, between, quoted
from rca.question import Stretch

Row = Mapping[str, Any]


NEAR, MINUTE = timedelta(minutes=5), timedelta(minutes=1)


class Stretches:
    """The SQL of the incident's window and of its healthy time; of a `busy` site spans and
    lines are held against the last minutes of healthy time only, for there are many of them."""

    def __init__(self, window: Stretch, healthy: Sequence[Stretch], *, busy: bool = False) -> None:
        self.window, self.healthy = window, healthy
        near = [(max(start, end - NEAR), end) for start, end in healthy[:1]]
        self._close = near if busy else healthy
        self._busy = busy

    def both(self, column: str) -> str:
        return _any(column, [self.window, *self.healthy])

    def events(self, column: str) -> str:
        return _any(column, [self.window, *self._close])

    def last(self, column: str) -> str:
        """As `events`; of a busy site the last minute of each."""
        ends = [(max(start, end - MINUTE), end) for start, end in (self.window, *self._close)]
        return _any(column, ends if self._busy else [self.window, *self._close])

    def label(self, column: str) -> str:
        return f"case when {between(column, self.window)} then 'incident' else 'before' end"


def _any(column: str, stretches: Sequence[Stretch]) -> str:
    return "(" + " or ".join(between(column, one) for one in stretches) + ")"


def finding(ledger: Ledger, when: Stretches, row: Row) -> str:
    """The evidence of one modality's finding against a service; its id."""
    return _MAKERS[row["modality"].split("/")[0]](ledger, when, row)


def _network(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"calls from {row['subject']} to {row['service']} lose {row['after']:,.1f} ms between the two"
        f" (usually {row['before']:,.1f} ms); neither of them spends it"
    )
    query = f"""select {when.label("c.start")} as part, count(*) as calls,
  median(p.duration_ns - c.duration_ns) / 1e6 as gap_ms
from spans c join spans p on p.trace_id = c.trace_id and p.span_id = c.parent_span_id
where c.service = {quoted(row["service"])} and p.service = {quoted(row["subject"])}
  and {when.events("c.start")} and {when.events("p.start")}
group by 1 order by 1"""
    return ledger.add("trace", claim, query, ["spans"])


def _loss(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"{row['after']:.0%} of the calls to {row['service']} are late beyond the usual or never"
        f" answered (before: {row['before'] or 0:.0%})"
    )
    query = f"""select {when.label("p.start")} as part, p.service as caller, count(*) as calls,
  quantile_cont(p.duration_ns - coalesce(c.duration_ns, 0), 0.95) / 1e6 as gap_p95_ms
from spans p join spans c on p.trace_id = c.trace_id and p.span_id = c.parent_span_id
where c.service = {quoted(row["service"])} and p.service <> c.service
  and {when.events("c.start")} and {when.events("p.start")}
group by 1, 2 order by 1, 2"""
    return ledger.add("trace", claim, query, ["spans"])


def _latency(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"{row['after']:.0%} of {row['service']}'s {row['subject']} spans are slow in their own time"
        f" (before: {row['before'] or 0:.0%})"
    )
    query = f"""select {when.label("start")} as part, count(*) as spans,
  quantile_cont(duration_ns, 0.5) / 1e6 as p50_ms, quantile_cont(duration_ns, 0.95) / 1e6 as p95_ms
from spans
where service = {quoted(row["service"])} and operation = {quoted(row["subject"])}
  and {when.events("start")}
group by 1 order by 1"""
    return ledger.add("trace", claim, query, ["spans"])


def _errors(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"{row['after']:.0%} of the requests that reach {row['service']} begin to fail there"
        f" (before: {row['before'] or 0:.0%})"
    )
    query = f"""select {when.label("start")} as part, count(distinct trace_id) as requests,
  count(distinct case when status = 'error' then trace_id end) as failing
from spans where service = {quoted(row["service"])} and {when.events("start")}
group by 1 order by 1"""
    return ledger.add("trace", claim, query, ["spans"])


def _logs(ledger: Ledger, when: Stretches, row: Row) -> str:
    grown = "rises" if row["after"] > row["before"] else "falls"
    one, most = f"{row['before']:.0%}", f"{row['after']:.0%} of its requests"
    if row["modality"] != "logs":
        each = (
            "a request" if row["modality"] == "logs/untraced" else "in each request that writes it"
        )
        one, most = f"{row['before']:.2g}", f"{row['after']:.2g} {each}"
    claim = (
        f"a log line of {row['service']} {grown} from {one} to {most}:"
        f" {str(row.get('text') or row['subject'])[:160]}"
    )
    query = f"""select {when.label("l.ts")} as part, count(*) as lines,
  count(distinct l.trace_id) as requests, min(left(l.body, 200)) as example
from logs l where l.service = {quoted(row["service"])} and l.template_id = {quoted(row["subject"])}
  and {when.events("l.ts")}
group by 1 order by 1"""
    return ledger.add("log", claim, query, ["logs"])


def _metrics(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"{row['subject']} of {row['pod'] or row['service']} is {row['after']:,.4g}"
        f" (usually {row['before']:,.4g})"
    )
    label = "s.labels['pod']" if row["pod"] else "s.labels['service']"
    query = f"""select {when.label("m.ts")} as part, count(*) as samples, avg(m.value) as mean,
  max(m.value) as highest
from samples m join series s on s.metric = m.metric and s.series = m.series
where m.metric = {quoted(row["subject"])} and {label} = {quoted(row["pod"] or row["service"])}
  and {when.both("m.ts")} and not isnan(m.value)
group by 1 order by 1"""
    return ledger.add("metric", claim, query, ["samples", "series"])


def _lines(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"{row['service']} writes {row['after']:,.1f} lines a minute (before: {row['before']:,.1f}):"
        f" {str(row.get('text') or row['subject'])[:160]}"
    )
    query = f"""select {when.label("ts")} as part, count(*) as lines, min(left(body, 200)) as example
from logs where service = {quoted(row["service"])} and template_id = {quoted(row["subject"])}
  and {when.events("ts")}
group by 1 order by 1"""
    return ledger.add("log", claim, query, ["logs"])


def _reports(ledger: Ledger, when: Stretches, row: Row) -> str:
    claim = (
        f"{row['service']} reports {row['after']:,.1f} × {row['subject']} a minute"
        f" (before: {row['before']:,.1f})"
    )
    query = f"""select {when.label("ts")} as part, count(*) as events, min(message) as example
from errors where service = {quoted(row["service"])}
  and type is not distinct from {quoted(row["subject"])} and {when.both("ts")}
group by 1 order by 1"""
    return ledger.add("error", claim, query, ["errors"])


_MAKERS = {
    "lines": _lines,
    "reports": _reports,
    "network": _network,
    "loss": _loss,
    "latency": _latency,
    "errors": _errors,
    "logs": _logs,
    "metrics": _metrics,
}


def sentry(ledger: Ledger, when: Stretches, service: str) -> str | None:
    """New errors the service reported, if any."""
    query = f"""select {when.label("ts")} as part, type, min(message) as message,
  count(*) as events, max(release) as release
from errors where service = {quoted(service)} and {when.both("ts")}
group by 1, 2 order by 4 desc, 1, 2"""
    name = ledger.add("error", f"errors {service} reported", query, ["errors"])
    entry = ledger.entries[-1]
    hits = [row for row in entry["result"] if row[0] == "incident"]
    if not hits:
        ledger.entries.pop()
        return None
    entry["claim"] = f"{service} reported {hits[0][3]} × {hits[0][1]}: {str(hits[0][2])[:120]}"
    return name


def trait(ledger: Ledger, when: Stretches, service: str, found: Any) -> str:
    """What the bad requests have in common."""
    columns = {"cluster": "cluster", "host": "host"}

    def value(name: str) -> str:
        if name in columns:
            return columns[name]
        return f"coalesce(attributes[{quoted(name)}], resource[{quoted(name)}])"

    shown = ", ".join(f'{value(n)} as "{n}"' for n in found.names)
    numbers = ", ".join(str(i + 1) for i in range(len(found.names)))
    claim = f"{found.bad:.0%} of the bad spans of {service} have {found}, {found.good:.0%} of the good ones"
    query = f"""select {shown}, count(*) as spans, quantile_cont(duration_ns, 0.5) / 1e6 as p50_ms,
  avg((status = 'error')::int) as failing
from spans where service = {quoted(service)} and {between("start", when.window)}
group by {numbers} order by spans desc, {numbers}"""
    return ledger.add("attribute", claim, query, ["spans"])


def change(ledger: Ledger, row: Row, why: str) -> str:
    """A change as the lake recorded it."""
    query = f"""select ts, kind, service, ref, author, message, before, after, left(diff, 2000) as diff
from changes where kind = {quoted(row["kind"])} and ref = {quoted(row["ref"] or "")}
order by ts, service, cluster, author, message, before, after"""
    return ledger.add("change", why, query, ["changes"])


def edge(ledger: Ledger, when: Stretches, pair: tuple[str, str], *, minutes: bool) -> str:
    """How calls between two services went before and during: by the minute from `edges`, or from
    the spans themselves where the lake has none of this time."""
    caller, callee = pair
    claim = f"{caller} calls {callee} and suffers with it"
    if minutes:
        query = f"""select {when.label("minute")} as part, sum(calls) as calls,
  max(duration_p95_ns) / 1e6 as worst_p95_ms, sum(errors) / sum(calls) as failing
from edges
where caller = {quoted(caller)} and callee = {quoted(callee)} and {when.both("minute")}
group by 1 order by 1"""
        return ledger.add("edge", claim, query, ["edges"])
    query = f"""select {when.label("c.start")} as part, count(*) as calls,
  quantile_cont(c.duration_ns, 0.95) / 1e6 as p95_ms, avg((c.status = 'error')::int) as failing
from spans c join spans p on p.trace_id = c.trace_id and p.span_id = c.parent_span_id
where p.service = {quoted(caller)} and c.service = {quoted(callee)}
  and {when.events("c.start")} and {when.events("p.start")}
group by 1 order by 1"""
    return ledger.add("edge", claim, query, ["spans"])


def quiet(ledger: Ledger, when: Stretches, services: Sequence[str]) -> str:
    """The requests of some services, for saying that they are not the cause: what they take in all
    and less what the spans below take, how many fail and how many without one of those failing.
    Of a `busy` site the last minute of the window and of healthy time."""
    claim = f"{', '.join(services)}: what they take and fail at without the spans below them"
    label = when.label("mine.start").replace("mine.date", "mine.start::date")
    query = f"""with mine as (
  select service, trace_id, span_id, start, duration_ns, status = 'error' as failed from spans
  where service in ({", ".join(map(quoted, services))})
    and coalesce(kind, 'server') in ('server', 'consumer') and {when.last("start")}
), below as (
  select trace_id, parent_span_id as span_id, sum(duration_ns) as waited,
    bool_or(status = 'error') as failed
  from spans
  semi join mine on mine.trace_id = spans.trace_id and mine.span_id = spans.parent_span_id
  where {when.last("spans.start")}
  group by 1, 2
)
select {label} as part, service, count(*) as requests,
  quantile_cont(duration_ns, 0.95) / 1e6 as p95_ms,
  quantile_cont(greatest(duration_ns - coalesce(waited, 0), 0), 0.95) / 1e6 as own_p95_ms,
  avg(mine.failed::int) as failing,
  avg((mine.failed and not coalesce(below.failed, false))::int) as failing_itself
from mine left join below using (trace_id, span_id)
group by 1, 2 order by 1, 2"""
    return ledger.add("trace", claim, query, ["spans"])
