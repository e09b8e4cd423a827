"""One story per thing that was done: a commit, the deploys that shipped it, what they rolled out.

The lake may hold one deployment up to four times: the commit, the pipeline's deploy record, the
ReplicaSet's revision and the scaling events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

Row = Mapping[str, Any]
TOGETHER = timedelta(minutes=15)  # a deploy record, its ReplicaSet and its scaling lie this near
SHIPS = timedelta(days=3)  # a commit nobody names went out with its service's next deploy within
KINDS = ("commit", "config", "flag", "deploy", "scale", "k8s_event")


@dataclass
class Story:
    """`lead` speaks for it (the commit, where there is one); `others` are the same thing again.

    `effect` is when it went live: the first rollout where one is known (`shipped`, and whether
    that is `told` or only the next deploy of the service), else its own time.
    """

    lead: Row
    others: list[Row] = field(default_factory=list)
    shipped: Row | None = None
    told: bool = False
    rollouts: list[list[Row]] = field(default_factory=list)  # all that took it out, the first first

    def at(self, service: str, cluster: str | None) -> Story:
        """The story as one service (on one cluster) saw it: by the rollout that was its own."""
        mine = [one for one in self.rollouts if one[0]["service"] == service] or self.rollouts
        mine = [one for one in mine if cluster and _cluster(one) == cluster] or mine
        return replace(self, shipped=mine[0][0]) if mine else self

    @property
    def effect(self) -> datetime:
        moment: datetime = self.shipped["ts"] if self.shipped else self.lead["ts"]
        return moment

    @property
    def rows(self) -> list[Row]:
        return [self.lead, *self.others]

    @property
    def cluster(self) -> str | None:
        """Where it went out, if to one cluster alone."""
        return _cluster([*([self.shipped] if self.shipped else []), *self.rows])


def _cluster(rows: Sequence[Row]) -> str | None:
    return next((row["cluster"] for row in rows if row.get("cluster")), None)


def fold(rows: Sequence[Row]) -> list[Story]:
    """The stories of some changes, in no order: every row is in one."""
    rollouts = _rollouts([row for row in rows if row["kind"] in {"deploy", "scale"}])
    stories = [Story(row) for row in rows if row["kind"] not in {"commit", "deploy", "scale"}]
    taken = set[int]()
    for row in sorted((row for row in rows if row["kind"] == "commit"), key=lambda one: one["ts"]):
        places, told = _ship(row, rollouts)
        story = Story(row, told=told, rollouts=[rollouts[place] for place in places])
        if places:
            story.shipped = rollouts[places[0]][0]
            if told or places[0] not in taken:
                story.others = [one for place in places for one in rollouts[place]]
                taken.update(places)
        stories.append(story)
    for place, rollout in enumerate(rollouts):
        if place not in taken:
            stories.append(Story(rollout[0], rollout[1:]))
    return stories


def _rollouts(rows: Sequence[Row]) -> list[list[Row]]:
    """Deploys and scaling of one service that lie close together, the most telling first."""
    groups = list[list[Row]]()
    open_groups = dict[tuple[str, str], list[Row]]()
    for row in sorted(rows, key=lambda one: one["ts"]):
        key = (_stem(row), "")
        group = open_groups.get(key)
        if group and row["ts"] - group[0]["ts"] <= TOGETHER and _one_place(group[0], row):
            group.append(row)
            continue
        open_groups[key] = [row]
        groups.append(open_groups[key])
    return [sorted(group, key=_telling) for group in groups]


def _stem(row: Row) -> str:
    return str(row["service"] or row["ref"])


def _one_place(a: Row, b: Row) -> bool:
    """Whether two rows can be of one rollout: not on two clusters, not two records of a pipeline
    that name different versions."""
    if a.get("cluster") and b.get("cluster") and a["cluster"] != b["cluster"]:
        return False
    refs = [
        row
        for row in (a, b)
        if row["kind"] == "deploy" and re.search(r"@\S*[.a-z]", str(row["ref"]))
    ]
    return len(refs) < 2 or refs[0]["ref"] == refs[1]["ref"]


def _telling(row: Row) -> tuple[int, int, str]:
    """A deploy that names a commit or a version before a rollout's number, scaling last."""
    named = bool(re.search(r"[0-9a-f]{7,40}|@\S*\.", f"{row['after']} {row['ref']}"))
    return KINDS.index(row["kind"]), -int(named), str(row["ts"])


def _ship(commit: Row, rollouts: Sequence[Sequence[Row]]) -> tuple[list[int], bool]:
    """The rollouts that took a commit out: those that name it or its tag, else the next of its
    service, and whether they name it."""
    sha = str(commit["ref"])[:7]
    tags = [tag for tag in re.split(r",\s*", str(commit["after"] or "")) if re.search(r"\d", tag)]
    named, following = list[int](), None
    for place, rollout in enumerate(rollouts):
        text = " ".join(f"{row['after']} {row['ref']} {row['message']}" for row in rollout)
        if sha in text or any(_tagged(tag, text) for tag in tags):
            named.append(place)
        first = rollout[0]["ts"]
        later = commit["ts"] < first <= commit["ts"] + SHIPS
        mine = rollout[0]["service"] and touches(commit, rollout[0]["service"])
        if later and mine and (following is None or first < rollouts[following][0]["ts"]):
            following = place
    if named:
        return sorted(named, key=lambda place: rollouts[place][0]["ts"]), True
    return ([] if following is None else [following]), False


def _tagged(tag: str, text: str) -> bool:
    """Whether a deploy names a tag: whole, or as name@version or name:version."""
    name, _, version = tag.rpartition("-")
    spellings = [
        re.escape(tag),
        rf"{re.escape(name)}[@:]v?{re.escape(version)}(?![\w.])" if name else "",
    ]
    return any(re.search(one, text) for one in spellings if one)


def touches(row: Row, service: str) -> bool:
    """Whether a change is of a service: by its own word, or by a folder or file of that name."""
    if row["service"] == service:
        return True
    named = re.compile(rf"(^|/){spelt(service)}(-{_OBJECT})?(/|\.|$)")
    return any(named.search(path) for path in row["files"] or ())


_OBJECT = r"(deployment|statefulset|service|configmap|config|values|hpa|ingress|networkpolicy)"


def spelt(service: str) -> str:
    """A pattern for a name as folders spell it: with and without `service`, dashes and capitals."""
    stem = re.sub(r"(?i)[-_]?(service|svc)$", "", service) or service
    parts = [re.escape(one) for one in re.split(r"[-_]", stem)]
    return rf"(?i:{'[-_]?'.join(parts)}([-_]?(service|svc))?)"
