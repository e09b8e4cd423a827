"""Log lines into templates: what is a value, which shapes are one template, ids that stay."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality import shapes, templates
from tests.conftest import TIMES

WORDS = st.sampled_from(
    [
        "user",
        "cart",
        "failed",
        "for",
        "17",
        "10.0.0.1",
        "a=b",
        "{x:",
        "1}",
        "'q'",
        "[a,",
        "b]",
        "order",
        "<*>",
        "~",
        "é",
        'msg="x"',
        "/a/b",
        "<word>",
    ]
)
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=7).map(" ".join), min_size=1, max_size=25)


def assigned(bodies: list[str], known: list[str] | None = None) -> pl.DataFrame:
    return templates.assign(
        pl.DataFrame({"body": bodies}, schema={"body": pl.String}),
        None if known is None else pl.Series(known, dtype=pl.String),
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("took 12 ms for order 7f3a9c12", "took 7 ms for order 09bb12aa"),
        ("at 2025-03-11T14:00:00Z from 10.0.0.1:443", "at 2025-03-12 01:02:03 from 10.9.8.7:80"),
        ("got [Ticket(no=1, at=x), Ticket(no=2, at=y)]", "got [Ticket(no=3, at=z)]"),
        (
            '{"level": "INFO", "trace_id": "ab", "message": "done in 3 ms"}',
            '{"level": "INFO", "trace_id": "cd", "message": "done in 14 ms"}',
        ),
        ("GET /cart/7 HTTP/1.1 done", "POST /orders HTTP/1.1 done"),
        ("level=info user=ann msg=\"logged in\"", "level=info user=bob msg=\"logged in\""),
        ("read /var/log/a.log", "read /tmp/x/y"),
        ("mail to a@example.com", "mail to b.c@example.org"),
        ("\x1b[32mstep 3\x1b[0m", "step 4"),
    ],
)  # fmt: skip
def test_lines_that_say_the_same_have_one_template(one: str, other: str) -> None:
    assert templates.shape(pl.Series([one, other])).n_unique() == 1


def test_lines_that_say_something_else_have_another_template() -> None:
    bodies = [
        "connection refused", "connection reset", '{"message": "a"}', '{"message": "b"}',
        "level=error msg=x1", "level=info msg=x1", 'reason="NotReady" n=1', 'reason="Killed" n=1',
        "read/write error", "verify result: false", "verify result: true",
    ]  # fmt: skip
    assert templates.shape(pl.Series(bodies)).n_unique() == len(bodies)


def test_a_word_that_varies_in_four_ways_is_a_value() -> None:
    names = ["ann", "bob", "eve", "zoe"]
    found = assigned([f"session opened for user {name}" for name in names])
    assert found["template"].unique().to_list() == ["session opened for user <word>"]
    assert found["parameters"].to_list() == [[name] for name in names]
    few = assigned([f"session opened for user {name}" for name in names[:3]])
    assert few["template"].n_unique() == 3


def test_a_word_is_a_value_where_another_line_has_a_number_there() -> None:
    found = assigned(["task worker7 blocked for 12 s", "task java blocked for 9 s"])
    assert found["template"].unique().to_list() == ["task <*> blocked for <*> s"]
    assert found["parameters"].to_list() == [["worker7", "12"], ["java", "9"]]


def test_what_was_merged_once_stays_merged() -> None:
    first = assigned([f"user {name} joined from 10.0.0.1" for name in ("ann", "bob", "eve", "zoe")])
    known = first["template"].unique().to_list()
    later = assigned(["user kim joined from 10.0.0.2"], known)
    assert later["template_id"].unique().to_list() == first["template_id"].unique().to_list()
    alone = assigned(["user kim joined from 10.0.0.2"])
    assert alone["template_id"].item() != later["template_id"].item()


def test_a_known_template_keeps_its_lines_when_a_wider_one_appears() -> None:
    known = [f"user {name} joined the room" for name in ("ann", "bob", "eve")]
    found = assigned(["user ann joined the room", "user zoe joined the room"], known)
    assert found["template"].to_list() == [
        "user ann joined the room",
        "user <word> joined the room",
    ]


def test_two_words_that_vary_are_both_known_again() -> None:
    names, rooms = ("ann", "bob", "eve", "zoe"), ("red", "blue", "green", "black")
    found = assigned([f"user {a} joined the room {b} now" for a in names for b in rooms])
    assert found["template"].unique().to_list() == ["user <word> joined the room <word> now"]
    later = assigned(["user kim joined the room white now"], found["template"].unique().to_list())
    assert later["template"].item() == "user <word> joined the room <word> now"
    assert later["parameters"].item().to_list() == ["kim", "white"]


@settings(deadline=None, max_examples=20 * TIMES)
@given(LINES)
def test_template_and_parameters_make_up_the_line_again(bodies: list[str]) -> None:
    found = assigned(bodies)
    said = found.select(templates.said(pl.col("body"))).to_series()
    made = [templates.filled(*row) for row in found.select("template", "parameters").rows()]
    assert made == said.to_list()


@settings(deadline=None, max_examples=20 * TIMES)
@given(LINES, st.randoms())
def test_the_order_of_lines_does_not_matter(bodies: list[str], dice: object) -> None:
    mixed = list(bodies)
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = assigned(bodies), assigned(mixed)
    key = ["body", "template_id"]
    assert one.select(key).sort(key).equals(other.select(key).sort(key))


@settings(deadline=None, max_examples=20 * TIMES)
@given(LINES, LINES)
def test_a_line_alone_has_the_shape_it_has_among_others(bodies: list[str], more: list[str]) -> None:
    alone = templates.shape(pl.Series(bodies))
    assert templates.shape(pl.Series(bodies + more)).head(len(bodies)).equals(alone)


@settings(deadline=None, max_examples=20 * TIMES)
@given(LINES)
def test_templates_known_from_a_run_are_used_again(bodies: list[str]) -> None:
    first = assigned(bodies)
    again = assigned(bodies, first["template"].to_list())
    assert again["template_id"].to_list() == first["template_id"].to_list()


def test_a_very_long_line_is_cut_at_its_first_printed_object() -> None:
    bodies = [f"result is Response(data=[{', '.join(['Ticket(no=1)'] * n)}])" for n in (200, 300)]
    assert assigned(bodies)["template"].unique().to_list() == ["result is <*>"]


def test_no_lines_give_no_templates() -> None:
    assert assigned([]).height == 0
    assert shapes.merge(pl.Series([], dtype=pl.String)).height == 0
    assert assigned([""])["template"].to_list() == [""]
