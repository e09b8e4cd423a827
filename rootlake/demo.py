"""The whole pipeline on the recorded sample incidents."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from lake import Lake, UserError

if TYPE_CHECKING:
    from rootlake.context import Context

_SETTINGS = """# Made by `rootlake demo`: the recorded incidents of a small shop.
lake = "lake"

[workspace]                 # what `rootlake ask` may look at beside the lake
kubernetes = [{kubernetes}]
repositories = ["shop"]
"""


def sample_data() -> Path:
    """Where the recorded incidents lie: in the installed package, or in the source tree."""
    here = Path(__file__).resolve().parent
    for place in (here / "sample_data", here.parent / "sample_data"):
        if (place / "jaeger").is_dir():
            return place
    raise UserError("the sample data is missing from this installation; install rootlake again.")


def demo(context: Context, folder: Path) -> int:
    """Ingest, repair, detect, diagnose, report; what is done already is left as it is."""
    began = monotonic()
    source = sample_data()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}.") from error
    clone(source / "shop.bundle", folder / "shop")
    lake = Lake(context.arguments.lake or folder / "lake")
    fill(context, lake, source, folder)
    clean(context, lake)
    answers = diagnose_all(context, lake, folder)
    clusters = sorted(str(place.parent) for place in source.glob("*/k8s"))
    quoted = ", ".join(f'"{place}/k8s"' for place in clusters)
    (folder / "rootlake.toml").write_text(_SETTINGS.format(kubernetes=quoted), encoding="utf-8")
    if context.json:
        context.answer({"lake": lake.root, "folder": str(folder), "diagnoses": answers})
    else:
        _goodbye(context, lake, folder, answers, monotonic() - began)
    return 0


def clone(bundle: Path, target: Path) -> None:
    """The shop's repository, as an engineer would have it at hand."""
    if target.exists():
        return
    command = ["git", "clone", "--quiet", str(bundle), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("the demo reads a git repository; install git and run it again.") from None
    if done.returncode:
        raise UserError(f"git could not clone {bundle}: {done.stderr.strip()}")


def sources(source: Path, folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Every part of the sample data: the source that reads it, where it lies, its options."""
    yield "jaeger", source / "jaeger", {}
    yield "prometheus", source / "prometheus", {}
    yield "sentry", source / "sentry", {}
    for kind, pattern in (("logs", "*/pods"), ("k8s", "*/k8s")):
        for place in sorted(source.glob(pattern)):
            yield kind, place, {"cluster": place.parent.name, "environment": "production"}
    yield "git", folder / "shop", {}
    yield "changes", source / "deploys.jsonl", {}
    yield "changes", source / "flags.jsonl", {}


def fill(context: Context, lake: Lake, source: Path, folder: Path) -> None:
    from ingest.run import ingest

    with context.progress("ingest") as say:
        for kind, place, options in sources(source, folder):
            name = place.relative_to(source if place.is_relative_to(source) else folder)
            say(str(name))
            began = monotonic()
            landed = ingest(lake, kind, place, **options)
            refused = f", {landed.quarantined:,} refused" if landed.quarantined else ""
            _line(context, "ingest", f"{name!s:<16} {landed.rows:>8,} rows{refused}", began)


def clean(context: Context, lake: Lake) -> None:
    from quality.run import repair
    from rca.intents import label

    began = monotonic()
    with context.progress("repair") as say:
        summary = repair(lake, progress=say).as_dict()
        label(lake)
    rules = ", ".join(f"{name} {count:,}" for name, count in list(summary["rules"].items())[:4])
    text = f"{len(summary['days'])} days; most changed rows: {rules}"
    _line(context, "repair", text if summary["days"] else "nothing new", began)


def diagnose_all(context: Context, lake: Lake, folder: Path) -> list[dict[str, Any]]:
    """Every incident that `detect` opens, diagnosed and written as a page."""
    from rca.detect import detect
    from rca.diagnose import diagnose
    from rca.question import of_incident
    from rca.report.html import page
    from rootlake.files import write_text

    began = monotonic()
    with context.progress("detect"):
        found = detect(lake)
    _line(context, "detect", f"{found.height} incidents", began)
    answers = []
    for incident in found.sort("opened_at")["incident_id"]:
        began = monotonic()
        with context.progress(f"diagnose {incident}"):
            answer = diagnose(lake, of_incident(lake, incident))
            write_text(folder / f"{incident}.html", page(lake, answer))
        answers.append(answer)
        _line(context, "diagnose", _finding(answer), began)
    return answers


def _finding(answer: dict[str, Any]) -> str:
    """One line: what is to blame, and which change."""
    from rca.changes import short

    first = answer["suspects"][0] if answer["suspects"] else None
    cause = f"{first['service']}: {first['fault']}" if first else "no suspect"
    change = answer["root_cause_change"]
    why = f"{change['kind']} {short(change['ref'])}" if change else "no change explains it"
    return f"{answer['incident_id']}  {cause}, {why} ({answer['verdict']})"


def _line(context: Context, step: str, text: str, began: float) -> None:
    from rich.markup import escape

    seconds = f"{monotonic() - began:.1f} s"
    line = f"[bold]{step:<9}[/bold] {escape(text)}  [dim]{seconds}[/dim]"
    context.out.print(line, soft_wrap=True)


def _goodbye(
    context: Context, lake: Lake, folder: Path, answers: list[dict[str, Any]], seconds: float
) -> None:
    from rich.markup import escape

    from rca.report.terminal import render

    called = f"{_command()} --config {shlex.quote(f'{folder}/rootlake.toml')}"
    if answers:
        context.out.print()
        render(answers[0], context.out, called)
    say = context.out.print
    say(f"\n[bold]done in {seconds:.0f} s[/bold]")
    say(f"  lake      {escape(lake.root)}", soft_wrap=True)
    for answer in answers:
        say(f"  report    {escape(str(folder / answer['incident_id']))}.html", soft_wrap=True)
    say("\nnext:")
    for text in (
        f'{called} ask "why did checkout fail at 14:05?"',
        f"{called} status",
        f"{called} fix {answers[0]['incident_id']}" if answers else "",
        f'{called} sql "select rule, sum(row_count) from repairs group by 1"',
    ):
        if text:
            say(f"  {escape(text)}", soft_wrap=True)


def _command() -> str:
    """How this program was called, short enough to type again."""
    import os
    import shutil
    import sys

    called = Path(sys.argv[0])
    found = shutil.which("rootlake")
    if found and Path(found).resolve() == called.resolve():
        return "rootlake"
    try:
        return os.path.relpath(called) if called.name == "rootlake" else "rootlake"
    except ValueError:
        return str(called)
