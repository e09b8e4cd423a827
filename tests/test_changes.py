"""Changes: a diff is read for what it does; the culprit is named, the nearest deploy is not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import changes as bench
from lake import TABLES, Lake, empty
from rca import changes
from rca.changes import failing, signs, stories, without
from rca.changes.analysers import acts
from rca.facts import Facts
from rca.related import related
from rca.suspects import SCHEMA

ONSET = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)


def diff(path: str, *rows: str, at: int = 10, where: str = "") -> str:
    """A diff of one hunk."""
    return "\n".join([f"diff --git a/{path} b/{path}", f"@@ -{at},9 +{at},9 @@ {where}", *rows])


def row(kind: str, minutes: float, **more: Any) -> dict[str, Any]:
    """A change so many minutes before the onset."""
    blank = dict.fromkeys(
        ("service", "ref", "author", "message", "files", "diff", "before", "after", "cluster")
    )
    return {
        **blank,
        "kind": kind,
        "ts": ONSET - timedelta(minutes=minutes),
        "service": "basket",
        **more,
    }


def ranked(
    rows: Sequence[dict[str, Any]], fault: str = "dependency", **known: Any
) -> list[dict[str, Any]]:
    suspect = changes.Suspect("basket", fault, known.pop("cluster", None), **known)
    return changes.rank(rows, [suspect], ONSET)


LOOP = diff(
    "services/basket/a.py",
    "-    rows = db.query(sql, ids)",
    "+    for one in ids:",
    "+        rows.append(db.query(sql, one))",
)
QUIET = diff(
    "services/basket/a.py",
    "-def f(x):",
    "-    return x + 1",
    "+def f(count):",
    "+    return count + 1",
)


@pytest.mark.parametrize("part", bench.PARTS)
def test_most_diffs_are_read_as_labelled_and_harmless_ones_say_nothing(part: str) -> None:
    every = list(bench.samples(part))
    seen = [bench.by_analyser(one.diff) for one in every]
    right = sum(len(one.labels & found) for one, found in zip(every, seen, strict=True))
    assert right / sum(len(one.labels) for one in every) >= 0.9
    assert right / sum(map(len, seen)) >= 0.85
    alarmed = [one.path for one, found in zip(every, seen, strict=True) if found and not one.labels]
    assert len(alarmed) <= 0.05 * len(every), alarmed


@pytest.mark.parametrize("part", bench.PARTS)
def test_a_late_rollout_is_named_and_the_deploy_before_the_onset_is_not(part: str) -> None:
    every = list(bench.samples(part))
    decoys = [one for one in every if not one.labels]
    named = blamed = 0
    culprits = [one for one in every if one.labels]
    for place, culprit in enumerate(culprits):
        asked, rows = bench.incident(culprit, decoys[place % len(decoys)], 2 + place % 40)
        first = changes.rank(rows, asked, bench.ONSET)[0]  # type: ignore[arg-type]
        explains = first["score"] >= changes.EXPLAINS
        named += explains and first["ref"].startswith("c")
        blamed += explains and not first["ref"].startswith("c")
    assert named >= 0.95 * len(culprits)
    assert blamed <= 0.02 * len(culprits)


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("a.ts", "-if (ok) {|-  return a;|-}|-return [];|+if (!ok) {|+  return [];|+}|+return a;"),
        ("a.py", "-if x is not None:|-  return f(x)|-return|+if x is None:|+  return|+return f(x)"),
        ("a.rb", "-if hours|-  pay hours|-end|+return unless hours|+pay hours"),
        ("a.java", "-if (a == null) {|-  return 0;|-}|-return f(a);|+return a == null ? 0 : f(a);"),
        ("a.py", "-def f(a, b=None):|+def f(a: int, b: Optional[str] = None) -> str:"),
        ("a.py", "-    return '%s:%s' % (a, b)|+    return f'{a}:{b}'"),
        ("k8s/basket/app.yaml", "-  image: hub.io/x/basket:1.2|+  image: hub.io/x/basket:1.3"),
    ],
)  # fmt: skip
def test_the_same_in_other_words_does_nothing(path: str, rows: str) -> None:
    assert bench.by_analyser(diff(path, *rows.split("|"))) == set()


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("a.go", "-if closed {|+if !closed {|   return ErrClosed| }| return nil"),
        ("a.py", "-    if x is None:|+    if x is not None:|         return 0|     return f(x)"),
        ("a.ts", "-if (a && b) {|+if (!a && b) {|   return [];| }| return list;"),
        ("a.java", "-return a == null ? NO : f(a);|+return a != null ? NO : f(a);"),
        ("a.py", "-    if age < 12:|+    if age <= 12:"),
    ],
)  # fmt: skip
def test_a_condition_turned_without_its_branches_decides_another_way(path: str, rows: str) -> None:
    assert bench.by_analyser(diff(path, *rows.split("|"))) == {"logic"}


@pytest.mark.parametrize(
    ("line", "looped"),
    [
        ("[User.objects.get(pk=b.user) for b in rows]", True),
        ("list(db.query([b.id for b in rows]))", False),
        ("[b.id for b in db.query(sql)]", False),
    ],
)
def test_a_comprehension_asks_for_each_element_only_in_front_of_its_for(
    line: str, looped: bool
) -> None:
    seen = bench.by_analyser(diff("a.py", "-    return []", f"+    return {line}"))
    assert ("loop" in seen) is looped


@given(
    lines=st.lists(
        st.sampled_from(
            [
                *(
                    "timeout = 5",
                    "retries = 3",
                    "pool_size = 20",
                    "rows = db.query(sql)",
                    "return x + 1",
                ),
                *("if user is None:", "raise ValueError(x)", "lock.acquire()", "limit = 10"),
            ]
        ),
        min_size=1,
        max_size=8,
    ),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_lines_that_only_move_do_nothing(lines: list[str], order: Any) -> None:
    moved = list(lines)
    order.shuffle(moved)
    text = diff("src/a.py", *(f"-{one}" for one in lines), *(f"+{one}" for one in moved))
    assert not list(acts(text))


def test_a_query_that_was_in_the_loop_before_is_no_new_one() -> None:
    text = diff(
        "a.py",
        " for one in ids:",
        "-    rows = db.query(OLD, one)",
        "+    rows = db.query(NEW, one)",
    )
    assert "loop" not in bench.by_analyser(text)


def test_a_setting_says_what_it_was_and_is() -> None:
    found = changes.does(
        {"kind": "commit", "diff": diff("a.py", "-POOL_SIZE = 20", "+POOL_SIZE = 2")}, "capacity"
    )
    assert found == ["changes a pool's size or a limit (POOL_SIZE 20 → 2)"]


def test_an_image_of_its_own_in_a_new_version_is_a_release_and_no_upgrade() -> None:
    own = diff("deploy/basket.yaml", "-image: shop/basket:1.2", "+image: shop/basket:1.3")
    base = diff("deploy/basket.yaml", "-image: llm-runtime:0.7", "+image: llm-runtime:0.8")
    assert "runtime" not in bench.by_analyser(own)
    assert "runtime" in bench.by_analyser(base)


def test_one_deployment_recorded_four_times_is_one_story_with_the_commit_first() -> None:
    sha = "a" * 40
    rows = [
        row("commit", 300, ref=sha, diff=LOOP, files=["services/basket/a.py"]),
        row("deploy", 20, ref="basket@1.4.0", after=sha),
        row("deploy", 19.5, ref="basket@7", before="shop/basket:1.3.9", after="shop/basket:1.4.0"),
        row("scale", 19, ref="Deployment/basket", message="ScalingReplicaSet: Scaled up"),
    ]
    found = ranked(rows)
    assert len(found) == 1
    assert (found[0]["kind"], found[0]["ref"]) == ("commit", sha)
    assert set(found[0]["also"]) == {"basket@1.4.0", "basket@7", "Deployment/basket"}
    assert found[0]["effect"] == rows[1]["ts"]


def test_a_commit_rolled_out_only_after_the_onset_explains_nothing() -> None:
    sha = "b" * 40
    rows = [
        row("commit", 300, ref=sha, diff=LOOP),
        row("deploy", -30, ref="basket@1.4.0", after=sha),
    ]
    assert ranked(rows)[0]["score"] == 0


def test_a_tag_ties_a_commit_to_the_deploy_that_names_its_version() -> None:
    commit = row("commit", 300, ref="c" * 40, diff=LOOP, after="basket-1.4.0")
    told = stories.fold([commit, row("deploy", 20, ref="basket@1.4.0")])
    assert [(story.told, len(story.others)) for story in told] == [(True, 1)]
    other = stories.fold([commit, row("deploy", 20, ref="basket@1.4.01")])
    assert not other[0].told


def test_two_releases_of_one_service_stay_two_stories() -> None:
    rows = [row("deploy", 20, ref="basket@1.4.0"), row("deploy", 12, ref="basket@1.4.1")]
    assert len(ranked(rows)) == 2


def test_a_harmless_deploy_right_before_the_onset_is_not_named() -> None:
    sha = "d" * 40
    rows = [row("commit", 60, ref=sha, diff=QUIET), row("deploy", 2, ref="basket@1.4.0", after=sha)]
    for fault in ("dependency", "exception", "capacity", "memory", "wrong_return", "unknown"):
        assert ranked(rows, fault)[0]["score"] < changes.EXPLAINS


def test_fanning_out_bears_out_a_query_in_a_loop_and_its_absence_speaks_against_it() -> None:
    rows = [row("commit", 60, ref="e" * 40, diff=LOOP)]
    fanned, not_fanned = (ranked(rows, fanout=times)[0] for times in (8.0, 1.0))
    assert fanned["score"] > not_fanned["score"]
    assert any("8.0 × its usual calls" in reason for reason in fanned["reasons"])


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('  File "/app/basket/price.py", line 12, in total', ("/app/basket/price.py", "total", 12)),
        ("\tat com.acme.Basket.total(Basket.java:12)", ("Basket.java", "total", 12)),
        ("    at total (/srv/src/price.ts:12:9)", ("/srv/src/price.ts", "total", 12)),
        ("/src/internal/price.go:12 +0x1d", ("/src/internal/price.go", "", 12)),
        ("app/models/price.rb:12:in `total'", ("app/models/price.rb", "", 12)),
    ],
)
def test_written_stack_traces_are_read(text: str, frame: tuple[str, str, int]) -> None:
    assert signs.frames_in(text) == [signs.Frame(*frame)]


def test_a_stack_trace_through_a_changed_line_points_at_the_change() -> None:
    text = diff(
        "services/basket/price.py",
        "-    if user is None:",
        "-        return 0",
        "     return user.rate",
    )
    other = diff(
        "services/basket/other.py",
        "-    if cart is None:",
        "-        return 0",
        "     return cart.sum",
    )
    rows = [row("commit", 900, ref="f" * 40, diff=text), row("commit", 3, ref="9" * 40, diff=other)]
    stack = (signs.Frame("/app/basket/price.py", "rate", 11),)
    found = ranked(rows, "exception", frames=stack)
    assert found[0]["ref"] == "f" * 40
    assert (
        "the stack trace leads through services/basket/price.py:11, which it changed"
        in found[0]["reasons"]
    )


def test_errors_that_name_what_a_change_took_away_point_at_it() -> None:
    text = diff("migrations/7.sql", "+ALTER TABLE baskets DROP COLUMN discount_code;")
    found = ranked(
        [row("commit", 900, ref="7" * 40, diff=text)],
        "exception",
        words='column "discount_code" does not exist',
    )
    assert "the errors name discount_code, which it changed" in found[0]["reasons"]


def test_a_change_on_another_cluster_is_put_back() -> None:
    rows = [
        row("deploy", 9, ref="basket@1-rt2", message="runtime upgrade 1.0 to 2.0", cluster="eu-1"),
        row("deploy", 9, ref="basket@1-rt3", message="runtime upgrade 1.0 to 2.0", cluster="us-1"),
    ]
    assert [one["cluster"] for one in ranked(rows, cluster="us-1")] == ["us-1", "eu-1"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with nothing in it."""
    return Lake(tmp_path_factory.mktemp("changes") / "lake").create()


def facts(load: float | None = None) -> Facts:
    """Facts of two services, one of which calls a host outside that began to fail."""
    spans = pl.DataFrame(
        [
            {
                "start": ONSET + timedelta(seconds=n - 60),
                "bad": n >= 60,
                "trace_id": f"{n:032x}",
                "span_id": f"{n * 4 + k:016x}",
                "parent_span_id": f"{n * 4:016x}" if k else None,
                "service": "basket",
                "operation": "op",
                "kind": "client" if k else "server",
                "host": f"node-{n % 4}",
                "error": k == 1 and n >= 60,
                "start_ns": n * 10**9 + k * 10**5,
                "duration_ns": 10**6,
            }
            for n in range(120)
            for k in range(4 if n >= 60 else 2)
        ],
        infer_schema_length=None,
    )
    spans = related(spans.with_columns(pl.lit(None, pl.String).alias(k) for k in ("peer", "store")))
    none = pl.DataFrame(schema=SCHEMA)
    window = (ONSET, ONSET + timedelta(minutes=1))
    return Facts(window, (), spans, none, none, none, load=load)


def test_fanout_counts_calls_below_each_request() -> None:
    assert failing.fanout(facts().spans, "basket") == pytest.approx(3.0)
    assert failing.fanout(facts().spans, "nobody") is None


@pytest.mark.parametrize(
    ("words", "traits", "load", "fault", "kind"),
    [
        ("x509: certificate has expired or is not yet valid", (), None, "exception", "certificate"),
        ("", (("host", "node-3"),), None, "dependency", "node"),
        ("", (), 2.1, "capacity", "traffic"),
        ("connection pool exhausted", (), 1.0, "capacity", "capacity"),
        ("", (), 1.1, "dependency", None),
        ("", (), 2.1, "network_delay", None),
    ],
)
def test_without_a_change_the_cause_is_told(
    words: str, traits: Any, load: float | None, fault: str, kind: str | None, lake: Lake
) -> None:
    suspect = changes.Suspect("basket", fault, None, words)
    found = without.other(lake, facts(load), suspect, traits)
    assert (found.kind if found else None) == kind


def test_calls_to_a_host_outside_that_fail_are_its_fault(tmp_path: Path) -> None:
    seen = facts()
    tags = pl.concat_list(
        pl.struct(
            pl.lit("server.address").alias("key"), pl.lit("api.partner.example").alias("value")
        )
    ).cast(pl.Map(pl.String, pl.String))
    rows = seen.spans.with_columns(date=pl.col("start").dt.date(), attributes=tags)
    kept = [name for name in TABLES["spans"].schema.names if name in rows.columns]
    lake = Lake(tmp_path / "lake").create()
    lake.append("spans", pl.concat([empty(TABLES["spans"]), rows.select(kept)], how="diagonal"))
    found = without.other(lake, seen, changes.Suspect("basket", "exception", None))
    assert found is not None
    assert found.kind == "external"
    assert "api.partner.example, which is outside, fail in 33% (before 0%)" in found.why
