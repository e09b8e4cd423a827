"""A script that undoes the cause: drafted, never run.

Without arguments it only says what it would do; `--apply` acts, `--undo` takes it back. Every
value from telemetry is quoted, so none can become a command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Plan(NamedTuple):
    """What to do, how to take it back, what must hold before and after; each a list of command
    words. `note` is for the person who reads the script."""

    note: str
    act: Sequence[Sequence[str]]
    undo: Sequence[Sequence[str]]


def draft(answer: Row) -> str:
    """The script for a diagnosis, as text. It is valid bash whatever the diagnosis holds."""
    plan = _plan(answer)
    return _TEMPLATE.format(
        head=_head(answer, plan),
        service=_q(_service(answer)),
        namespace=_q("${NAMESPACE:-default}", variable=True),
        act=_commands(plan.act),
        undo=_commands(plan.undo),
    )


def _q(text: str, *, variable: bool = False) -> str:
    return f'"{text}"' if variable else _quoted(text)


def _quoted(text: str) -> str:
    """A word of bash that shows what it holds: a terminal obeys no character of it."""
    if text.isprintable():
        return shlex.quote(text)
    shown = text.replace("\0", " ").replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(one if one.isprintable() else _escaped(one) for one in shown) + "'"


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))


def _service(answer: Row) -> str:
    return str(answer["suspects"][0]["service"]) if answer["suspects"] else "unknown"


def _kubectl(*words: str) -> list[str]:
    return ["kubectl", "--namespace", "$NAMESPACE", *words]


def _plan(answer: Row) -> Plan:
    """Typed actions by the kind of remedy."""
    deployment = f"deployment/{_service(answer)}"
    change = answer["root_cause_change"] or {}
    ref = str(change.get("ref") or "")
    pod = str((answer["suspects"][0].get("pod") if answer["suspects"] else "") or "")
    undo_rollout = [_kubectl("rollout", "undo", deployment)]
    plans = {
        "rollback": Plan(
            f"takes {deployment} back to its previous revision"
            + (
                f"; then revert {ref[:12]} in the repository: git revert {shlex.quote(ref)}"
                if re.fullmatch("[0-9a-f]{40}", ref)
                else ""
            ),
            undo_rollout,
            undo_rollout,
        ),
        "config-revert": Plan(
            f"takes {deployment} back to its previous configuration", undo_rollout, undo_rollout
        ),
        "scale": Plan(
            f"gives {deployment} one replica more",
            [_kubectl("scale", deployment, "--replicas", "$((REPLICAS + 1))")],
            [_kubectl("scale", deployment, "--replicas", "$REPLICAS")],
        ),
        "restart": Plan(
            f"restarts the pods of {deployment}, one after the other",
            [_kubectl("rollout", "restart", deployment)],
            [],
        ),
        "reschedule": Plan(
            "deletes the pod, so that it starts anew, on another node if its own is cordoned",
            [_kubectl("delete", f"pod/{pod}")]
            if pod
            else [_kubectl("rollout", "restart", deployment)],
            [],
        ),
        "feature-flag-disable": Plan(
            f"switch the flag {ref!r} off where your flags are kept",
            [["echo", f"switch off the flag {ref}"]],
            [["echo", f"switch on the flag {ref}"]],
        ),
    }
    nothing = Plan(
        "there is no command for this remedy; read the report",
        [["echo", f"remedy: {answer['remediation']}"]],
        [],
    )
    return plans.get(answer["remediation"], nothing)


def _commands(commands: Sequence[Sequence[str]]) -> str:
    """Each through `step`, which prints in a dry run and runs with --apply."""
    lines = [f"  step {' '.join(_word(word) for word in words)}" for words in commands]
    return "\n".join(lines) or "  echo 'nothing to take back'"


def _word(word: str) -> str:
    """A quoted word; only our own variables stay variables."""
    return (
        f'"{word}"' if word in {"$NAMESPACE", "$REPLICAS", "$((REPLICAS + 1))"} else _quoted(word)
    )


def _head(answer: Row, plan: Plan) -> str:
    lines = [
        f"{answer['incident_id']}: {answer.get('summary', '')}",
        f"verdict: {answer['verdict']}, confidence {answer['confidence']:.0%}",
        f"remedy: {answer['remediation']}; it {plan.note}",
    ]
    wanted = {name for one in answer["suspects"][:1] for name in one["evidence"]}
    lines += [f"{one['id']}: {one['claim']}" for one in answer["evidence"] if one["id"] in wanted]
    return "\n".join("# " + _plain(line) for line in lines)


def _plain(text: str) -> str:
    """One line, without anything that could end a comment."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= 300 else f"{shown[:300]}…"


_TEMPLATE = """#!/usr/bin/env bash
{head}
#
# Drafted by rootlake, to be read and run by a person:
#   bash fix.sh            dry run: says what it would do
#   bash fix.sh --apply    does it
#   bash fix.sh --undo     takes it back
set -euo pipefail

SERVICE={service}
NAMESPACE={namespace}
MODE=${{1:---dry-run}}

step() {{
  printf '+'; LC_ALL=C printf ' %q' "$@"; printf '\\n'
  if [ "$MODE" != --dry-run ]; then "$@"; fi
}}

check_before() {{
  command -v kubectl >/dev/null || {{ echo "kubectl is not installed" >&2; exit 1; }}
  kubectl --namespace "$NAMESPACE" get "deployment/$SERVICE" >/dev/null
  REPLICAS=$(kubectl --namespace "$NAMESPACE" get "deployment/$SERVICE" -o 'jsonpath={{.spec.replicas}}')
}}

act() {{
{act}
}}

undo() {{
{undo}
}}

check_after() {{
  step kubectl --namespace "$NAMESPACE" rollout status "deployment/$SERVICE" --timeout 180s
}}

REPLICAS=${{REPLICAS:-1}}
case "$MODE" in
  --dry-run) act; check_after; echo "dry run: nothing was changed" ;;
  --apply) check_before; trap 'echo "failed: bash $0 --undo takes it back" >&2' ERR; act; check_after ;;
  --undo) check_before; undo; check_after ;;
  *) echo "usage: bash $0 [--dry-run|--apply|--undo]" >&2; exit 2 ;;
esac
"""
