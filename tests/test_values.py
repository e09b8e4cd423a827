"""Values of log lines found byte by byte, as the expressions of `quality.masks` find them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from bench import log_lines
from quality import masks, templates, values
from tests.conftest import TIMES

kernel = pytest.importorskip("quality.values_compiled", reason="numba is not installed")
SAID = [
    "2025-03-11T14:00:00.123Z", "11/Mar/2025:14:00:00 +0000", "Tue Mar 11 14:00:00 2025",
    "14:05:07", "Mar 11 14:00:00", "GET /cart/7?x=1 HTTP/1.1", "POST /",
    "https://a.example/b?c=d", "a@b.example.com", '"quoted"', '"two words"', "'q'", "`tick`",
    "/var/log/a.log", "C:\\x\\y", "sha256:ab12==", "{a=1, b={c}}", "Ticket(no=1, at=(2))",
    "[a, b,c]", "[a=b]", "db.cart.svc.local:5432", "10.0.0.1:443", "fe80::1:2:3", "-12.5ms",
    "+3%", "v1.2.3-rc4", "a1b2c3", "x_9", "msg=", 'msg="said so"', "level=info", "user=bob",
    "k==v", "=", "level", "<*>", "<word>", "naïve", "日本", "é1", "a\u00a0b", "\U0001f4e6", "\x00",
    "\t", "(", ")", "{", "}", "[", "]", "<", ">", "|", "&", ",", ", ", ";", ":", ".", "-", "/",
    "\\", '"', "'", "~", "%",
]  # fmt: skip
PIECES = st.one_of(st.sampled_from(SAID), st.text(max_size=4))
LINES = st.lists(
    st.lists(st.tuples(PIECES, st.sampled_from(["", " ", "  "])), max_size=9).map(
        lambda parts: "".join(one + gap for one, gap in parts)
    ),
    min_size=1,
    max_size=12,
)
MUCH = settings(
    max_examples=150 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def both(bodies: list[str | None], known: list[str] | None = None) -> list[pl.DataFrame]:
    """Templates by the compiled loops and by the expressions."""
    lines = pl.DataFrame({"body": bodies}, schema={"body": pl.String})
    texts = None if known is None else pl.Series(known, dtype=pl.String)
    made = []
    for enough in (0, len(bodies) + 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(templates, "ENOUGH", enough)
            made.append(templates.assign(lines, texts))
    return made


def assert_alike(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert_frame_equal(one.select(other.columns), other)


@MUCH
@given(LINES)
@example(["a" * 1990 + " {x=1, y=2", "b " * 1500, "x=" * 1200])
@example(
    ["", " ", "\n", "a\nb", '{"level": "INFO", "message": "took 3 ms"}', "\x1b[31mred 7\x1b[0m"]
)
def test_compiled_and_written_expressions_find_the_same_values(bodies: list[str]) -> None:
    assert_alike(*both(list(bodies)))


JSON = st.sampled_from(
    [
        '"level":', '"severity": "', '"message":', '"msg":  "took 3 ms"', '"event":"', '"err": ',
        '"error":', '"exception": "x"', '"INFO"', "3", "null", ", ", ",", "{", "}", '"', " ", "\\",
        '"a": "b"', "né", "\u00a0", "\u3000", ":", '"message": "user bob"', '"level":"warn"',
        '\\"message\\":\\"x\\"', "\n", "\x1b[1m",
    ]
)  # fmt: skip


@MUCH
@given(st.lists(st.lists(JSON, max_size=9).map(lambda one: "{" + "".join(one) + "}"), min_size=1))
@example(['{"msg":"a","level":""}', '{"level":"","msg":""}', '{"msg":"a"}', '{"error":"a"}', "{}"])
@example(['{"level":"x"message":"y"}', '{"message":\u00a0"y"}', '{"message":"y', "{" * 2100 + "}"])
def test_what_a_json_line_says_is_the_same(bodies: list[str]) -> None:
    assert_alike(*both(list(bodies)))


def test_a_line_that_is_not_there_has_no_template() -> None:
    one, other = both(["took 3 ms", None, "took 4 ms"])
    assert_alike(one, other)
    assert one["template_id"].null_count() == 1


def test_known_templates_are_kept_by_both() -> None:
    bodies = [f"user {name} logged in after {n} s" for n, name in enumerate(("ann", "bob", "eve"))]
    assert_alike(*both(list(bodies), ["user <word> logged in after <*> s"]))


@pytest.mark.parametrize("file", sorted(log_lines.FORMATS.glob("*.txt")), ids=lambda one: one.stem)
def test_lines_of_real_formats_come_to_the_same_templates(file: object) -> None:
    bodies = log_lines.written(file, 400)["body"].to_list()  # type: ignore[arg-type]
    assert_alike(*both(bodies))


def test_the_table_is_that_of_the_expressions() -> None:
    kinds, step, start = values.made()
    with np.load(values._TABLE) as held:
        for name, made in (("kinds", kinds), ("step", step), ("start", start)):
            told = "run `python -m quality.values`"
            assert np.array_equal(held[name], made), f"quality/masks.py has changed: {told}"


def test_every_field_that_speaks_is_known() -> None:
    lines = pl.LazyFrame({"body": [f"{name}=up {name}x=up" for name in masks.SPEAKING]})
    shown = masks.read(lines, "body").collect()["shape"]
    assert shown.to_list() == [f"{name}=up {name}x=<*>" for name in masks.SPEAKING]
