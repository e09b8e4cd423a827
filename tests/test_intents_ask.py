"""A language model asked over HTTP what templates tell of that the offline model did not know."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from lake import TABLES, Lake
from rca.intents import of
from rca.intents.ask import ask
from rca.intents.taxonomy import UNKNOWN

ANSWERS = {  # what the served model says to a line with these words
    "gizmo": "Answer: disk_full",
    "sprocket": "`retry`.",
    "widget": "It tells of sabotage",
    "flange": "timeout or retry",
    "password": "auth_failure",
}


class Served(BaseHTTPRequestHandler):
    """A server that speaks OpenAI's chat-completions protocol, and keeps what it was asked."""

    asked: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        Served.asked.append(text)
        said = next(answer for word, answer in ANSWERS.items() if word in text)
        message = {"role": "assistant", "content": said}
        reply: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
        reply["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def chat() -> Iterator[BaseChatModel]:
    pytest.importorskip("langchain_openai", reason="the extra `models` is not installed")
    Served.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        yield init_chat_model("openai:m", base_url=url, api_key="none", max_retries=0)
        server.shutdown()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Templates the offline model was unsure of, the later ones more frequent, and one it knew."""
    made = Lake(str(tmp_path)).create()
    texts = [
        "flange <*> misaligned",
        "widget gone",
        "sprocket <*> jammed",
        "gizmo <*> overflows",
        "known to all",
    ]
    empty = dict.fromkeys(TABLES["templates"].schema.names)
    rows = [
        {
            **empty,
            "template_id": str(place),
            "template": text,
            "count": 10 * place,
            "intent": "startup" if text.startswith("known") else UNKNOWN,
            "labelled_by": "offline",
        }
        for place, text in enumerate(texts)
    ]
    schema = made.read("templates").schema
    made.update("templates", lambda _known: pl.DataFrame(rows, schema=schema))
    return made


def told(lake: Lake) -> dict[str, tuple[str, str]]:
    rows = of(lake).select("template_id", "intent", "labelled_by").rows()
    return {name: (intent, by) for name, intent, by in rows}


def test_a_model_names_what_was_unknown_and_what_it_does_not_settle_stays_unknown(
    lake: Lake, chat: BaseChatModel
) -> None:
    assert ask(lake, chat, "m") == 2
    assert told(lake) == {
        "0": (UNKNOWN, "llm:m"),
        "1": (UNKNOWN, "llm:m"),
        "2": ("retry", "llm:m"),
        "3": ("disk_full", "llm:m"),
        "4": ("startup", "offline"),
    }
    assert not any("known to all" in text for text in Served.asked)


def test_the_most_frequent_are_asked_about_first_and_none_twice(
    lake: Lake, chat: BaseChatModel
) -> None:
    assert ask(lake, chat, "m", most=1) == 1
    assert told(lake)["3"] == ("disk_full", "llm:m")
    ask(lake, chat, "m", most=2)
    ask(lake, chat, "other")
    assert ask(lake, chat, "other") == 0
    lines = [text.split("<line>\n")[1].split("\n</line>")[0] for text in Served.asked]
    assert lines == [
        "gizmo <*> overflows",
        "sprocket <*> jammed",
        "widget gone",
        "flange <*> misaligned",
    ]


def test_secrets_in_a_template_do_not_leave(lake: Lake, chat: BaseChatModel) -> None:
    text = pl.when(pl.col("template_id") == "3").then(pl.lit("password=hunter2hunter2 refused"))
    lake.update("templates", lambda known: known.with_columns(template=text.otherwise("template")))
    assert ask(lake, chat, "m", most=1) == 1
    assert "password" in Served.asked[0]
    assert "hunter2" not in Served.asked[0]
