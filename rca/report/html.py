"""A diagnosis as one self-contained page: no script is needed to read it, nothing is fetched.

Telemetry is untrusted: every text goes through `esc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Any

from lake import Lake
from rca.changes import short
from rca.report import graph, timeline, waterfall
from rca.report.terminal import clean

Row = Mapping[str, Any]


def page(lake: Lake, answer: Row) -> str:
    """The page as text."""
    assets = files("rca.report") / "assets"
    body = "".join(
        (
            _head(answer),
            _section("What happened when", timeline.svg(lake, answer)),
            '<div class="two">',
            _section("Suspects", _suspects(answer)),
            _section("Culprit change", _culprit(answer)),
            "</div>",
            _section("How services depend, and where it hurt", graph.svg(lake, answer)),
            waterfalls(lake, answer),
            _section("Changes considered", _changes(answer)),
            _section("Evidence", _evidence(answer)),
            _section("Ruled out, and not known", _rest(answer)),
            _section("The data it rests on", _data(answer)),
        )
    )
    style = (assets / "page.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(answer['incident_id'])} · rootlake</title><style>{style}</style></head>"
        f"<body><main>{body}</main><script>{script}</script></body></html>"
    )


def esc(value: Any) -> str:
    """A value as text that is safe anywhere in the page."""
    return escape(clean(value), quote=True)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{esc(title)}</h2>{body}</section>" if body else ""


def _head(answer: Row) -> str:
    verdict = answer["verdict"]
    blast = ", ".join(answer["blast_radius"]) or "none seen"
    facts = (
        ("began", _time(answer["onset"])),
        ("noticed", _time(answer["at"])),
        ("remedy", answer["remediation"]),
        ("hurt by it", blast),
    )
    cells = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in facts
    )
    return (
        f'<header class="{esc(verdict)}"><p class="id">{esc(answer["incident_id"])}</p>'
        f"<h1>{esc(answer.get('summary', ''))}</h1>"
        f'<p class="verdict"><b>{esc(verdict)}</b> <span class="meter">'
        f'<i style="width:{float(answer["confidence"]) * 100:.0f}%"></i></span>'
        f" {float(answer['confidence']):.0%}</p><dl>{cells}</dl></header>"
    )


def _suspects(answer: Row) -> str:
    if not answer["suspects"]:
        return "<p>Nothing differs from healthy time.</p>"
    rows = "".join(
        f"<tr><td>{one['rank']}</td><td><b>{esc(one['service'])}</b>"
        f"<small>{esc(one.get('attribute') or one.get('pod') or '')}</small></td>"
        f"<td>{esc(one['fault'].replace('_', ' '))}</td>"
        f'<td><span class="meter"><i style="width:{one["score"] * 100:.0f}%"></i></span></td>'
        f"<td>{_cited(one['evidence'])}</td></tr>"
        for one in answer["suspects"]
    )
    claims = {one["id"]: one["claim"] for one in answer["evidence"]}
    why = "".join(
        f"<li>{esc(claims[name])} {_cited([name])}</li>"
        for name in answer["suspects"][0]["evidence"]
    )
    return f"<table>{rows}</table><ul>{why}</ul>"


def _cited(names: Sequence[str]) -> str:
    return " ".join(f'<a href="#{esc(name)}">{esc(name)}</a>' for name in names)


def _culprit(answer: Row) -> str:
    change = answer["root_cause_change"]
    if not change:
        return "<p>No change explains this.</p>"
    reasons = "".join(f"<li>{esc(one)}</li>" for one in change["reasons"])
    return (
        f"<p><b>{esc(change['kind'])} <code>{esc(short(change['ref']))}</code></b> by"
        f" {esc(change.get('author') or 'nobody named')}, {esc(_time(change['ts']))}<br>"
        f"{esc(change.get('message') or '')}</p><ul>{reasons}</ul>{_diff(answer, change)}"
    )


def _diff(answer: Row, change: Row) -> str:
    """The culprit's diff, as its evidence kept it."""
    kept = next((one for one in answer["evidence"] if one["id"] in change["evidence"]), None)
    if not kept or "diff" not in kept["columns"] or not kept["result"]:
        return ""
    text = kept["result"][0][kept["columns"].index("diff")]
    if not text:
        return ""
    kinds = {"+": "add", "-": "del", "@": "at"}
    lines = "".join(
        f'<span class="{kinds.get(line[:1], "")}">{esc(line)}</span>'
        for line in text.splitlines()
        if not line.startswith(("index ", "--- ", "+++ "))
    )
    return f"<pre class='diff'>{lines}</pre>"


def waterfalls(lake: Lake, answer: Row) -> str:
    """A bad request, and a good one of the same kind before."""
    bad, good = waterfall.pick(lake, answer)
    out = ""
    for title, trace in (("A bad request", bad), ("The same request before", good)):
        if trace:
            out += _section(f"{title} · {trace[:16]}…", waterfall.svg(lake, answer, trace))
    return out


def _changes(answer: Row) -> str:
    rows = "".join(
        f"<tr class='{'first' if one is answer['changes'][0] and answer['root_cause_change'] else ''}'>"
        f"<td>{esc(_time(one['ts']))}</td><td>{esc(one['kind'])}</td><td>{esc(one['service'] or '')}</td>"
        f"<td><code>{esc(short(one['ref']))}</code> {esc(one.get('message') or '')}"
        f"<small>{esc('; '.join(one['reasons']))}</small></td><td>{one['score']:.2f}</td></tr>"
        for one in answer["changes"]
    )
    return f"<table class='wide'>{rows}</table>" if rows else "<p>No change is on record.</p>"


def _evidence(answer: Row) -> str:
    return "".join(_entry(one) for one in answer["evidence"])


def _entry(one: Row) -> str:
    head = "".join(f"<th>{esc(name)}</th>" for name in one["columns"])
    rows = "".join(
        "<tr>" + "".join(f"<td>{esc(_short(value))}</td>" for value in row) + "</tr>"
        for row in one["result"]
    )
    more = (
        f"<p><small>{len(one['result'])} of {one['rows']} rows</small></p>"
        if one["rows"] > len(one["result"])
        else ""
    )
    tables = ", ".join(f"{name} at version {version}" for name, version in one["tables"].items())
    return (
        f'<details id="{esc(one["id"])}"><summary><b>{esc(one["id"])}</b> {esc(one["claim"])}'
        f"</summary><div class='scroll'><table class='result'><tr>{head}</tr>{rows}</table></div>{more}"
        f"<pre class='sql'>{escape(one['query'])}</pre><p><small>on {esc(tables)}; run it again with"
        " <code>rootlake sql</code></small></p></details>"
    )


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(value)[:240]


def _rest(answer: Row) -> str:
    out = [
        f"<li><b>{esc(one['service'])}</b>: {esc(one['why'])} {_cited(one['evidence'])}</li>"
        for one in answer["ruled_out"]
    ]
    out += [f"<li>not known: {esc(one)}</li>" for one in answer["missing"]]
    return f"<ul>{''.join(out)}</ul>" if out else "<p>Nothing.</p>"


def _data(answer: Row) -> str:
    marks = "".join(
        f"<tr><td>{esc(name)}</td><td>{esc(_time(value)) if value else 'none'}</td></tr>"
        for name, value in answer["watermarks"].items()
    )
    healthy = ", ".join(f"{_time(start)} to {_time(end)}" for start, end in answer["baselines"])
    return (
        f"<p>Judged: {esc(_time(answer['window'][0]))} to {esc(_time(answer['window'][1]))}, against"
        f" {esc(healthy)}; metrics against all healthy time of a day around.</p>"
        f"<table><tr><th>table</th><th>newest row</th></tr>{marks}</table>"
        f"<p><small>rootlake, model: {esc(answer['model'])}, {answer['duration_ms']:,} ms</small></p>"
    )


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
