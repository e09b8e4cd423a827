"""The planner that needs no key: a chat model that always takes the same sensible steps.

It reads the question for a time and a service, ranks suspects, looks at the culprit's diff, at the
suspect's pod and metric, asks the memory, and writes what it found with the evidence's ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from rca.changes import short

_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")
_DAY = re.compile(r"\b(\d{4}-\d{2}-\d{2})")


class OfflinePlanner(BaseChatModel):
    """`services` are the names it knows, `incidents` (onset, service) what the lake has found,
    `now` what "today" means: the end of the lake's data."""

    services: list[str]
    incidents: list[tuple[datetime, str]]
    now: datetime
    closed: bool = True

    @property
    def _llm_type(self) -> str:
        return "rootlake-offline-planner"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The steps are its own; it needs no list of tools."""
        del tools, kwargs
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        del stop, run_manager, kwargs
        question = next(str(one.content) for one in messages if isinstance(one, HumanMessage))
        done = {str(one.name): str(one.content) for one in messages if isinstance(one, ToolMessage)}
        return ChatResult(generations=[ChatGeneration(message=self._next(question, done))])

    def _next(self, question: str, done: dict[str, str]) -> AIMessage:
        at = when(question, self.incidents, self.services, self.now)
        if at is None:
            return AIMessage(self._ask_back())
        if "rank_suspects" not in done:
            service = named(question, self.services) or ""
            return _call("rank_suspects", at=f"{at:%Y-%m-%dT%H:%M:%SZ}", service=service)
        try:
            answer = json.loads(done["rank_suspects"].split("\n… ")[0])
        except ValueError:
            return AIMessage(f"I could not diagnose that: {done['rank_suspects'][:300]}")
        for name, arguments in _steps(answer):
            if name not in done:
                return _call(name, **arguments)
        return AIMessage(written(answer, done))

    def _ask_back(self) -> str:
        known = ", ".join(
            f"{onset:%Y-%m-%d %H:%M} ({service})" for onset, service in self.incidents
        )
        text = f"Incidents on record: {known}." if known else "No incident is on record."
        return f"Say when it happened, as 14:05 or 2025-03-11T14:05Z. {text}"


def _call(tool: str, /, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"call-{tool}"}])


def _steps(answer: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What to look at after the ranking, in order."""
    steps: list[tuple[str, dict[str, Any]]] = []
    first = answer["suspects"][0] if answer["suspects"] else None
    change = answer["root_cause_change"] or (answer["changes"][0] if answer["changes"] else None)
    if change:
        fault = first["fault"] if first else "unknown"
        steps.append(("git_diff_analyze", {"ref": str(change["ref"]), "fault": fault}))
    if first:
        name = first.get("pod") or first["service"]
        steps.append(("k8s_describe_pod", {"name": name}))
        steps.append(
            ("prometheus_query", {"query": _metric(answer, first["service"]), "at": answer["at"]})
        )
        steps.append(("lake_sql", {"query": _count(answer, first["service"])}))
    steps.append(("similar_cases", {"text": answer.get("summary", "")}))
    return steps


def _metric(answer: dict[str, Any], service: str) -> str:
    """The metric the evidence names, else the service's CPU."""
    told = next(
        (
            re.match(r"(\w+) of ", one["claim"])
            for one in answer["evidence"]
            if one["kind"] == "metric"
        ),
        None,
    )
    metric = told[1] if told else "container_cpu_usage_millicores"
    return f'max by (pod) ({metric}{{service="{service}"}})'


def _count(answer: dict[str, Any], service: str) -> str:
    start, end = answer["window"]
    quoted = service.replace("'", "''")
    return (
        "select count(*) as spans, sum((status = 'error')::int) as failed,"
        " quantile_cont(duration_ns, 0.95) / 1e6 as p95_ms from spans"
        f" where service = '{quoted}' and start >= timestamptz '{start}' and start < timestamptz '{end}'"
    )


def written(answer: dict[str, Any], done: dict[str, str]) -> str:
    """The answer in words, each sentence with the evidence it rests on."""
    if not answer["suspects"]:
        return "Nothing in the telemetry of that time differs from healthy time."
    first, change = answer["suspects"][0], answer["root_cause_change"]
    cited = ", ".join(first["evidence"])
    fault = first["fault"].replace("_", " ")
    lines = [f"{first['service']} is the most likely root cause: {fault} [{cited}]."]
    if first.get("attribute"):
        lines.append(f"It is so where {first['attribute']} [{first['evidence'][-1]}].")
    claims = {one["id"]: one["claim"] for one in answer["evidence"]}
    lines += [f"{claims[name]} [{name}]." for name in first["evidence"][:2]]
    if answer["propagation"]:
        path = "; ".join(
            f"{one['from']} → {one['to']} [{', '.join(one['evidence'])}]"
            for one in answer["propagation"]
        )
        lines.append(f"It spread: {path}.")
    if change:
        reasons = "; ".join(change["reasons"])
        lines.append(
            f"The {change['kind']} {short(change['ref'])} explains it: {reasons}"
            f" [{', '.join(change['evidence'])}]."
        )
    else:
        lines.append("No change on record explains it.")
    if '"cases": []' not in done.get("similar_cases", '"cases": []'):
        lines.append("A remembered case reads alike; check it: rootlake cases search.")
    lines.append(
        f"Remedy: {answer['remediation']}. Verdict: {answer['verdict']}, {answer['confidence']:.0%}."
    )
    return "\n".join(lines)


def named(question: str, services: Sequence[str]) -> str | None:
    """The service a question names, the longest name first."""
    low = question.lower()
    return next(
        (one for one in sorted(services, key=len, reverse=True) if one.lower() in low), None
    )


def when(
    question: str, incidents: Sequence[tuple[datetime, str]], services: Sequence[str], now: datetime
) -> datetime | None:
    """The time a question asks about.

    A clock time without a day means the incident nearest to it on any day, else that time on the
    last day of the data; no time at all the last incident (of the service named, if one is).
    """
    day, clock = _DAY.search(question), _CLOCK.search(question)
    if day:
        at = datetime.fromisoformat(day[1]).replace(tzinfo=now.tzinfo)
        if clock:
            return at.replace(hour=int(clock[1]), minute=int(clock[2])) + timedelta(minutes=2)
        return _nearest(incidents, lambda onset: abs((onset.date() - at.date()).days), 0.5)
    if clock:
        minutes = int(clock[1]) * 60 + int(clock[2])
        found = _nearest(incidents, lambda onset: abs(onset.hour * 60 + onset.minute - minutes), 30)
        usual = now.replace(hour=minutes // 60, minute=minutes % 60, second=0, microsecond=0)
        return found or usual
    service = named(question, services)
    mine = [one for one in incidents if service in (None, one[1])] or list(incidents)
    return max(mine)[0] + timedelta(minutes=2) if mine else None


def _nearest(
    incidents: Sequence[tuple[datetime, str]], far: Callable[[datetime], float], most: float
) -> datetime | None:
    close = [(far(onset), onset) for onset, _ in incidents if far(onset) <= most]
    return min(close)[1] + timedelta(minutes=2) if close else None
