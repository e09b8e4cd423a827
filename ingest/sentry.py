"""Errors of Sentry: files of its API's JSON, or a live server, project by project.

PLACE is the server (`https://sentry.io`, or a self-hosted one); pages are followed by the Link
header's cursor, and rate limits obeyed (`ingest.web`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import polars as pl
import requests
from pydantic import Field

from ingest import files
from ingest.batch import Batch, Piece, content_id
from ingest.sentry_json import decode
from ingest.source import Source
from ingest.web import Damaged, Refused, Web, WebOptions, as_json, is_url, server_of
from ingest.window import Step, Stream, Stretch, Window
from lake import UserError

_ISSUE = {
    "issue": "shortId",
    "issue.title": "title",
    "issue.type": "issueType",
    "issue.category": "issueCategory",
    "issue.first_seen": "firstSeen",
    "issue.url": "permalink",
}
PAGES = 10_000  # pages of one window: beyond it the server repeats itself


class SentryOptions(WebOptions):
    """Options of `sentry`; all but the first group concern a server."""

    organization: str | None = Field(
        None, description="the organization's slug", examples=["my-company"]
    )
    projects: tuple[str, ...] = Field(
        (), description="projects to pull (default: all)", examples=[["shop"]]
    )
    window: float = Field(86_400.0, gt=0, description="seconds of one question, to begin with")
    overlap: float = Field(3600.0, ge=0, description="seconds read again for late events")
    reach: float = Field(14.0, gt=0, description="days the first pull goes back")
    issues: bool = Field(True, description="tell of each event's issue in its tags")


class Sentry(Source):
    """Files, one piece each; or a server, one stream per project."""

    name = "sentry"
    about = "errors: Sentry's web API, or files of its JSON"
    options = SentryOptions
    selects = ("organization", "projects")

    @property
    def server(self) -> str | None:
        """The server asked."""
        return server_of(self.given)

    def read(self, window: Window) -> Iterator[Piece]:
        """Pieces of `raw_errors`."""
        if is_url(self.given.target):
            server = Server(self.given, window.lake.root)
            for project in server.projects():
                yield from server.pieces(window, project)
            return
        for path, content in files.contents(self.given.target, ".json"):
            work = partial(decode, content, self.given.place, str(path), window.lake.root)
            yield Piece("raw_errors", "sentry", content_id(content), 1, work, str(path))

    def check(self) -> str:
        """The projects a server shows, or the first file."""
        if is_url(self.given.target):
            return f"projects: {', '.join(Server(self.given).projects()) or 'none'}"
        return super().check()


class Server:
    """A Sentry server and one organization of it."""

    def __init__(self, given: SentryOptions, lake: str = "") -> None:
        if not given.organization:
            raise UserError("sentry: organization is missing; it is the slug in Sentry's URLs.")
        self.given, self.lake = given, lake
        self.web = Web(given)
        self.step = Step(timedelta(seconds=given.window), most=timedelta(days=30))

    def projects(self) -> list[str]:
        """The projects asked for, or all the token may see."""
        if self.given.projects:
            return list(self.given.projects)
        path = f"/api/0/organizations/{self.given.organization}/projects/"
        return sorted(str(one["slug"]) for one in self._pages(path, {}))

    def pieces(self, window: Window, project: str) -> Iterator[Piece]:
        """A project's events, window by window."""
        name = f"{self.web.host}/{self.given.organization}/{project}"
        yield from window.pieces(
            Stream("raw_errors", "sentry", name, f"{self.web.url} {project}"),
            lambda stretch: self._events(stretch, project),
            step=self.step,
            overlap=timedelta(seconds=self.given.overlap),
            clock=self.web.clock,
            oldest=lambda: window.high - timedelta(days=self.given.reach),
        )

    def _events(self, stretch: Stretch, project: str) -> Batch:
        """The events with start ≤ time < end, each once."""
        base = f"/api/0/projects/{self.given.organization}/{project}/events/"
        asked = {"start": _stamp(stretch.low), "end": _stamp(stretch.high), "full": "true"}
        found: dict[str, Any] = {}
        for event in self._pages(base, asked):
            name = str(event.get("eventID") or event.get("id") or f"?{len(found)}")
            bare = "entries" not in event and "eventID" in event
            whole = self.web.json(f"{base}{name}/") if bare else event
            found.setdefault(name, {"projectSlug": project, **whole})
        if found and self.given.issues:
            issues = self._issues(stretch, project)
            for event in found.values():
                _tell(event, issues.get(str(event.get("groupID"))))
        content = msgspec.json.encode(list(found.values()))
        batch = decode(content, self.given.place, self.web.url, self.lake)
        self.step.settle(len(found) * 20)
        low, high = stretch.low, stretch.high
        inside = batch.rows.filter(pl.col("ts").is_between(low, high, closed="left"))
        return Batch(inside, inside.height + batch.rejected.height, batch.rejected)

    def _issues(self, stretch: Stretch, project: str) -> dict[str, Any]:
        """The issues with events in the stretch, by their id; none where the server, or the
        token, does not show them."""
        asked = {
            "project": project,
            "start": _stamp(stretch.low),
            "end": _stamp(stretch.high),
            "query": "",  # else only the unresolved
            "limit": 100,
        }
        path = f"/api/0/organizations/{self.given.organization}/issues/"
        try:
            return {str(issue.get("id")): issue for issue in self._pages(path, asked)}
        except Refused:
            return {}

    def _pages(self, path: str, asked: dict[str, Any]) -> Iterator[Any]:
        """Every entry of a listing, whatever page it is on."""
        cursor, seen = "", set[str]()
        for _ in range(PAGES):
            params = {**asked, **({"cursor": cursor} if cursor else {})}
            entries, after = self.web.ask("GET", path, _page, params=params)
            yield from entries
            if after is None:
                return
            if after in seen:
                raise UserError(f"{self.web.url}: the cursor {after} comes again; nothing written.")
            seen.add(after)
            cursor = after
        raise UserError(f"{self.web.url}: over {PAGES} pages for one window; nothing written.")


def _tell(event: dict[str, Any], issue: dict[str, Any] | None) -> None:
    """An issue's name, beginning and kind as tags of its event; not what changes with time."""
    tags = event.get("tags") or []
    if issue and isinstance(tags, list):
        told = {key: issue.get(name) for key, name in _ISSUE.items()}
        more = [{"key": key, "value": str(value)} for key, value in told.items() if value]
        event["tags"] = [*tags, *more]


def _page(reply: requests.Response) -> tuple[list[Any], str | None]:
    """A page's entries, and the cursor of the next one that has any."""
    entries = as_json(reply)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise Damaged("no list of objects")
    after = reply.links.get("next", {})
    return entries, after.get("cursor") if after.get("results") == "true" else None


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
