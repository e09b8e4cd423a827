"""The agent: the same loop and tools with the offline planner and with a model over HTTP."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lake import Lake, UserError
from rca import cases, fix
from rca.agent import look, promql
from rca.agent.ask import ask
from rca.agent.planner import when
from rca.agent.tools import tools
from rca.diagnose import diagnose
from rca.mask import text as mask
from rca.question import Question
from rca.workspace import Workspace

from .conftest import ROOT, rootlake

NAMES = {
    "k8s_describe_pod",
    "prometheus_query",
    "git_diff_analyze",
    "lake_sql",
    "rank_suspects",
    "similar_cases",
}
AT = "2025-03-11T14:08:00Z"


@pytest.fixture(scope="module")
def space(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    copy = tmp_path_factory.mktemp("agent") / "lake"
    shutil.copytree(demo_folder / "lake", copy)
    folders = tuple(sorted((ROOT / "sample_data").glob("*/k8s")))
    return Workspace(Lake(copy), folders, (demo_folder / "shop",))


def test_the_offline_planner_answers_with_every_tool(space: Workspace) -> None:
    answer = ask(space, "why did checkout fail at 14:05?")
    assert {step["tool"] for step in answer.steps} == NAMES
    assert "inventory is the most likely root cause" in answer.text
    assert "inventory@2.5.0" in answer.text
    assert re.search(r"\[e\d", answer.text)
    assert (answer.model, answer.uncited) == ("offline", False)


def test_a_question_without_a_time_is_about_the_last_incident_of_its_service(
    space: Workspace,
) -> None:
    assert "llm-gateway" in ask(space, "what is wrong with llm-gateway?").text


def test_the_command_answers(demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder, tmp_path / "demo")
    settings = tmp_path / "demo/rootlake.toml"
    done = rootlake("--config", settings, "ask", "--json", "why did checkout fail at 14:05?")
    assert "inventory" in json.loads(done.stdout)["text"], done.stderr


INCIDENTS = [
    (datetime(2025, 3, 11, 14, 5, tzinfo=UTC), "checkout"),
    (datetime(2025, 3, 12, 9, 20, tzinfo=UTC), "cart"),
]


@pytest.mark.parametrize(
    ("question", "meant"),
    [
        ("why did checkout fail at 14:05?", "2025-03-11T14:07"),
        ("what happened at 09:30", "2025-03-12T09:22"),
        ("what happened at 03:00", "2025-03-13T03:00"),
        ("2025-03-11 14:10 errors", "2025-03-11T14:12"),
        ("what broke on 2025-03-12?", "2025-03-12T09:22"),
        ("is cart slow?", "2025-03-12T09:22"),
    ],
)
def test_when(question: str, meant: str) -> None:
    now = datetime(2025, 3, 13, 17, tzinfo=UTC)
    found = when(question, INCIDENTS, ["checkout", "cart"], now)
    assert found is not None
    assert f"{found:%Y-%m-%dT%H:%M}" == meant


class Model(BaseHTTPRequestHandler):
    """A server that speaks OpenAI's chat-completions protocol: one tool call, then words."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Model.seen.append(body)
        asked = any(one["role"] == "tool" for one in body["messages"])
        call = {"name": "rank_suspects", "arguments": json.dumps({"at": AT})}
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if asked:
            message["content"] = "inventory ran out of connections [e1]."
        else:
            message["tool_calls"] = [{"id": "c1", "type": "function", "function": call}]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "stop" if asked else "tool_calls",
        }
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def model() -> Iterator[str]:
    pytest.importorskip("langchain_openai", reason="the extra `models` is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_model_over_http_drives_the_same_loop(space: Workspace, model: str) -> None:
    answer = ask(space, "why did checkout fail?", model="openai:test", base_url=model)
    assert answer.text == "inventory ran out of connections [e1]."
    assert [step["tool"] for step in answer.steps] == ["rank_suspects"]
    assert not answer.uncited
    assert {one["function"]["name"] for one in Model.seen[-1]["tools"]} == NAMES


def test_a_model_that_cannot_be_had_is_one_sentence(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="cannot use the model"):
        ask(space, "why?", model="nosuch:thing")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecretverysecret")
    with pytest.raises(UserError) as error:
        ask(space, "why?", model="openai:x", base_url="http://127.0.0.1:9/v1")
    assert "verysecret" not in str(error.value)


def call(space: Workspace, tool: str, /, **arguments: Any) -> str:
    return str(next(one for one in tools(space) if one.name == tool).invoke(arguments))


def test_a_pod_is_described_from_recorded_objects(space: Workspace) -> None:
    text = call(space, "k8s_describe_pod", name="inventory", cluster="eu-1")
    assert "shop/inventory" in text or "pods match" in text
    assert "no recorded pod's name holds" in call(space, "k8s_describe_pod", name="nothing")


def test_a_diff_is_analysed(space: Workspace) -> None:
    found = json.loads(
        call(
            space,
            "lake_sql",
            query="select ref from changes where message like 'inventory: read stock%'",
        )
    )
    ref = found["rows"][0]["ref"]
    told = json.loads(call(space, "git_diff_analyze", ref=ref, fault="capacity"))
    assert any("pool" in one for one in told["does"])
    assert "no change on record" in call(space, "git_diff_analyze", ref="ffffffffff")


def test_sql_errors_and_attacks_are_results_not_crashes(space: Workspace) -> None:
    assert call(space, "lake_sql", query="drop table spans").startswith("error:")
    assert call(space, "lake_sql", query="select * from read_csv('/etc/passwd')").startswith(
        "error:"
    )


def test_promql_on_the_lake(space: Workspace) -> None:
    end, start = datetime(2025, 3, 11, 14, 10, tzinfo=UTC), datetime(2025, 3, 11, 14, 0, tzinfo=UTC)
    pods = promql.evaluate(
        space.lake, 'container_cpu_usage_millicores{service="inventory"}', start, end
    )
    assert pods["of"] == 2
    rate = promql.evaluate(
        space.lake,
        'sum by (service) (rate(http_server_requests_total{service=~"cart|pricing"}[5m]))',
        start,
        end,
    )
    assert {row["of"] for row in rate["series"]} == {"service=cart", "service=pricing"}
    assert all(row["highest"] > 0 for row in rate["series"])
    with pytest.raises(UserError, match="without a Prometheus server"):
        promql.evaluate(space.lake, "histogram_quantile(0.9, x)", start, end)
    with pytest.raises(UserError, match="has no metric 'nosuch'"):
        promql.evaluate(space.lake, "nosuch", start, end)


def test_long_results_are_cut_and_the_cut_is_counted(space: Workspace) -> None:
    text = call(space, "lake_sql", query="select repeat('x', 20000) as long")
    assert re.search(r"… [\d,]+ more characters were cut$", text)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("password=hunter22 ok", "hunter22"),
        ("Authorization: Bearer abcdefgh1jklmnop", "abcdefgh1jklmnop"),
        ("postgres://shop:s3cr3t@db/shop", "s3cr3t"),
        ("mail me at jane.doe@example.com", "jane.doe"),
        ("card 4111 1111 1111 1111", "4111 1111"),
        ("key sk-abcdefghijklmnopqrstuvwx", "abcdefghijkl"),
    ],
)
def test_secrets_and_people_are_masked(text: str, gone: str) -> None:
    assert gone not in mask(text)
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "inventory@2.5.0 shipped",
        "trace 42b4f7d894cd9d4759a7f1e1acfef52f",
        "took 1741701600000000 ns",
        "[e1]",
    ],
)
def test_ordinary_telemetry_is_not_masked(text: str) -> None:
    assert mask(text) == text


def test_a_fix_is_valid_bash_and_acts_only_when_told(space: Workspace, tmp_path: Path) -> None:
    answer = diagnose(space.lake, Question(datetime.fromisoformat(AT)))
    script = tmp_path / "fix.sh"
    script.write_text(fix.draft(answer))
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "+ kubectl --namespace default rollout undo deployment/inventory" in done.stdout
    assert "nothing was changed" in done.stdout
    assert subprocess.run(["bash", str(script), "--nonsense"], capture_output=True).returncode == 2


@pytest.mark.parametrize(
    "remedy",
    ["rollback", "scale", "restart", "reschedule", "feature-flag-disable", "config-revert", "none"],
)
def test_telemetry_cannot_put_commands_into_a_fix(remedy: str, tmp_path: Path) -> None:
    evil = "x'; touch pwned; $(touch pwned) `touch pwned` \n touch pwned #"
    answer = {
        "incident_id": evil,
        "summary": evil,
        "verdict": "likely",
        "confidence": 0.5,
        "remediation": remedy,
        "suspects": [{"service": evil, "pod": evil, "evidence": ["e1"]}],
        "root_cause_change": {"ref": evil, "kind": "flag"},
        "evidence": [{"id": "e1", "claim": evil}],
    }
    script = tmp_path / "fix.sh"
    script.write_text(fix.draft(answer))
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    subprocess.run(["bash", str(script)], cwd=tmp_path, capture_output=True)
    assert not (tmp_path / "pwned").exists()


def test_a_fix_names_one_pod_and_shows_what_a_terminal_would_obey(tmp_path: Path) -> None:
    service = "it's\x1b[2J\\n\u202e\x00é"
    answer = {
        "incident_id": "INC-1",
        "verdict": "likely",
        "confidence": 0.5,
        "remediation": "reschedule",
        "suspects": [{"service": service, "pod": "--all", "evidence": []}],
        "root_cause_change": None,
        "evidence": [],
    }
    text = fix.draft(answer)
    assert all(char.isprintable() or char == "\n" for char in text)
    (tmp_path / "fix.sh").write_text(f"{text}\nprintf '%s' \"$SERVICE\" > name\n")
    done = subprocess.run(["bash", "fix.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert "+ kubectl --namespace default delete pod/--all\n" in done.stdout
    assert all(char.isprintable() or char == "\n" for char in done.stdout)
    assert (tmp_path / "name").read_text() == service.replace("\0", " ")


def test_a_case_is_remembered_once_and_found_by_its_words(space: Workspace) -> None:
    answer = diagnose(space.lake, Question(datetime.fromisoformat(AT)))
    cases.remember(space.lake, answer)
    kept = cases.remember(space.lake, answer, outcome="rolled back", verified=True)
    assert len(cases.list_cases(space.lake)) == 1
    found = cases.search(space.lake, "inventory connection pool timeouts after a commit")
    assert (found[0]["case_id"], found[0]["verified"]) == (kept["case_id"], True)
    assert cases.search(space.lake, "zzz qqq") == []
    assert cases.show(space.lake, answer["incident_id"])["outcome"] == "rolled back"
    with pytest.raises(UserError, match="there is no case"):
        cases.show(space.lake, "CASE-0")
    assert look.similar_cases(space, "inventory pool")["cases"][0]["fix"] == "rollback"
