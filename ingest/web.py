"""Servers as sources: requests that are repeated where that can help, slowly, and not for ever.

What is repeated: a time-out, a connection refused, reset or cut, 429 and 5xx, and a body that is
cut or does not decode. `Retry-After` and Sentry's `X-Sentry-Rate-Limit-Reset` are obeyed. No
credential is ever part of a message.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from pydantic import Field

from ingest.batch import content_id
from ingest.source import Options, without_credentials
from lake import UserError

T = TypeVar("T")
_TENANT = re.compile("org|tenant|account|project", re.IGNORECASE)
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class WebOptions(Options):
    """What a source behind a URL can be told; secrets are named, never written."""

    token_env: str | None = Field(
        None, description="environment variable with the bearer token", examples=["PROM_TOKEN"]
    )
    token_file: str | None = Field(
        None, description="file with the bearer token", examples=["/run/secrets/token"]
    )
    user: str | None = Field(
        None, description="user name for basic authentication", examples=["rootlake"]
    )
    password_env: str | None = Field(
        None, description="environment variable with the password", examples=["PROM_PASSWORD"]
    )
    ca_file: str | None = Field(
        None, description="certificates to trust, for https", examples=["/etc/ssl/own.pem"]
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="further headers, such as X-Scope-OrgID",
        examples=[{"X-Scope-OrgID": "shop"}],
    )
    timeout: float = Field(60.0, gt=0, description="seconds one reply may take")
    attempts: int = Field(6, ge=1, description="how often a request is tried")
    backoff: float = Field(1.0, ge=0, description="seconds before the second try; then doubled")
    patience: float = Field(300.0, ge=0, description="seconds to wait in all for one request")


class Overloaded(UserError):
    """A server kept failing in a way that a smaller question may cure."""


class Refused(UserError):
    """A server gave a lasting answer that is not the one asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Damaged(Exception):
    """A reply that cannot be decoded; it is asked for again."""


class Web:
    """A server, with what a request to it needs."""

    def __init__(self, given: WebOptions, sleep: Callable[[float], None] | None = None) -> None:
        self.base = given.target.rstrip("/")
        self.url = without_credentials(self.base)  # as it is shown
        self.given = given
        self.waited = 0.0
        self._date: datetime | None = None
        self._sleep = sleep or time.sleep
        self.session = requests.Session()
        self.session.headers.update({**given.headers, **_authorization(given)})
        if given.user:
            password = _secret(given.password_env, None, "password_env") or ""
            self.session.auth = (given.user, password)
        self._secrets = _secrets(self.session, self.base)
        if given.ca_file:
            self.session.verify = given.ca_file

    @property
    def host(self) -> str:
        """Host and path without scheme and credentials, and the tenant asked for: names the
        server in cursors."""
        tenant = {key: one for key, one in self.given.headers.items() if _TENANT.search(key)}
        return host_of(self.url) + (f"/{_named(tenant)}" if tenant else "")

    def ask(
        self,
        method: str,
        path: str,
        decode: Callable[[requests.Response], T],
        *,
        stream: bool = False,
        attempts: int | None = None,
        **how: Any,
    ) -> T:
        """One decoded reply.

        Raises Overloaded when it kept failing, Refused for an answer that stays the same, both
        UserErrors.
        """
        left, tries = self.given.patience, attempts or self.given.attempts
        for attempt in range(1, tries + 1):
            pause: float | None = None
            try:
                reply = self.session.request(
                    method, self._place(path), timeout=self.given.timeout, stream=stream, **how
                )
                with reply:
                    self._date = dated(reply.headers) or self._date
                    if reply.status_code == 200:
                        return decode(reply)
                    why = self._hidden(f"it answered {reply.status_code}: {_gist(reply)}")
                    if reply.status_code not in _PASSING:
                        raise Refused(f"{self._shown(path)}: {why}", reply.status_code)
                    pause = retry_after(reply.headers)
            except (requests.ConnectionError, requests.Timeout) as error:
                why = _why(error)
            except (requests.exceptions.ChunkedEncodingError, Damaged) as error:
                why = f"its answer was cut or damaged ({_why(error)})"
            except requests.RequestException as error:
                raise UserError(f"{self._shown(path)}: {_why(error)}") from error
            if attempt < tries:
                spread = 0.5 + time.monotonic() % 0.5  # so that not all come back at once
                wait = min(self.given.backoff * 2.0 ** (attempt - 1), 30.0) * spread
                wait = max(wait, pause or 0.0)
                if wait > left:
                    why += f", and wants {wait:.0f} s of patience"
                    break
                left -= wait
                self.waited += wait
                self._sleep(wait)
        raise Overloaded(f"{self._shown(path)} did not answer in {attempt} tries: {why}.")

    def clock(self) -> datetime | None:
        """The moment by the server's own clock, as its replies tell it; None where they do not."""
        for _ in range(self.given.attempts):
            if self._date is not None:
                break
            try:
                with self.session.get(f"{self.base}/", timeout=self.given.timeout) as reply:
                    self._date = dated(reply.headers)
                    break
            except requests.RequestException:
                continue
        return self._date

    def json(self, path: str, params: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """The JSON of a reply to a GET."""
        return self.ask("GET", path, as_json, params=params, **how)

    def _place(self, path: str) -> str:
        return path if re.match(r"https?://", path) else f"{self.base}/{path.lstrip('/')}"

    def _shown(self, path: str) -> str:
        return without_credentials(self._place(path)).split("?")[0]

    def _hidden(self, text: str) -> str:
        """A server's words without the secrets it was sent."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def as_json(reply: requests.Response) -> Any:
    """The JSON of a reply; Damaged where it is none."""
    import msgspec

    try:
        return msgspec.json.decode(reply.content)
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from error


def dated(headers: Mapping[str, str]) -> datetime | None:
    """When a reply was made, by its server's clock."""
    try:
        found = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return found if found.tzinfo else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to wait; None where it does not."""
    text = headers.get("Retry-After")
    if text:
        try:
            return max(float(text), 0.0)
        except ValueError:
            try:
                until = parsedate_to_datetime(text)
            except ValueError:
                return None
            return max((until - datetime.now(UTC)).total_seconds(), 0.0)
    reset = headers.get("X-Sentry-Rate-Limit-Reset")
    if reset and reset.isdigit():
        return max(int(reset) - time.time(), 0.0)
    return None


def host_of(url: str) -> str:
    """A URL without scheme, credentials and closing slash."""
    return re.sub(r"^[a-z]+://([^@/]*@)?", "", url.rstrip("/"))


def _named(tenant: Mapping[str, str]) -> str:
    return content_id(repr(sorted(tenant.items())).encode())[:8]


def _secrets(session: requests.Session, base: str) -> list[str]:
    """What must never be shown: the token and the passwords."""
    token = str(session.headers.get("Authorization", "")).removeprefix("Bearer ")
    password = session.auth[1] if isinstance(session.auth, tuple) else ""
    try:
        within = urlsplit(base).password
    except ValueError as error:
        raise UserError(f"{without_credentials(base)} is no URL: {error}.") from error
    return [one for one in (token, password, within) if one]


def server_of(given: WebOptions) -> str | None:
    """The server a target names; None for files."""
    return host_of(given.target) if is_url(given.target) else None


def is_url(target: str) -> bool:
    """Whether a target is a server, not a file."""
    return bool(re.match(r"https?://", target))


def _authorization(given: WebOptions) -> dict[str, str]:
    token = _secret(given.token_env, given.token_file, "token_env")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _secret(env: str | None, file: str | None, key: str) -> str | None:
    """A secret by reference; UserError names the reference, never the secret."""
    if env:
        found = os.environ.get(env)
        if not found:
            raise UserError(
                f"{key} = {env!r}: the environment has no such variable, or it is empty."
            )
        return found.strip()
    if file:
        try:
            return Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"token_file = {file!r} cannot be read: {error}.") from None
    return None


def _gist(reply: requests.Response) -> str:
    """The first words of an error's body."""
    try:
        text = reply.content[:2000].decode(errors="replace")
    except requests.RequestException:
        return reply.reason or ""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).strip()[:160] or reply.reason or ""


def _why(error: BaseException) -> str:
    """The last clause of a library's message, which is the one that tells."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    if found:
        return found[1].lower()
    if isinstance(error, requests.Timeout):
        return "it took too long"
    return re.sub(r"//[^@/ ]*@", "//", text)[:160]
