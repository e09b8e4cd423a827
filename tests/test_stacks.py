"""Stack traces: the lines of one are one event, with its exception and the frame it came from."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality import stacks, templates
from quality.rules import stack_join

NONE = pl.DataFrame(schema={"row": pl.Int64, "into": pl.Int64})
TRACES = {
    "java": (
        (
            "2026-01-01 ERROR [main] Request failed\n"
            "java.lang.IllegalStateException: no stock\n"
            "\tat java.util.Objects.check(Objects.java:12)\n"
            "\tat shop.cart.Cart.add(Cart.java:41)\n"
            "\tat shop.cart.Api.post(Api.java:9)\n"
            "Caused by: java.io.IOException: closed\n"
            "\tat shop.cart.Store.read(Store.java:7)\n"
            "\t... 12 more"
        ),
        ("java.lang.IllegalStateException", "shop.cart.Cart.add", "Cart.java", "41"),
    ),
    "python": (
        (
            "ERROR:app:Exception on /pay [POST]\n"
            "Traceback (most recent call last):\n"
            '  File "/usr/lib/python3.11/site-packages/flask/app.py", line 1, in run\n'
            "    return view()\n"
            '  File "/app/pay.py", line 30, in pay\n'
            "    total = cart.total\n"
            "            ^^^^^^^^^^\n"
            "AttributeError: 'NoneType' object has no attribute 'total'"
        ),
        ("AttributeError", "pay", "/app/pay.py", "30"),
    ),
    "go": (
        (
            "panic: runtime error: invalid memory address or nil pointer dereference\n"
            "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4f]\n"
            "\n"
            "goroutine 18 [running]:\n"
            "main.(*Server).Quote(0x0, {0x1, 0x2})\n"
            "\t/src/shipping/main.go:88 +0x1d\n"
            "main.main()\n"
            "\t/src/shipping/main.go:20 +0x3a"
        ),
        ("panic", "main.(*Server).Quote", "/src/shipping/main.go", "88"),
    ),
    "node": (
        (
            "TypeError: Cannot read properties of undefined (reading 'id')\n"
            "    at node:internal/process/task_queues:95:5\n"
            "    at charge (/app/charge.js:14:9)\n"
            "    at async /app/server.js:3:1"
        ),
        ("TypeError", "charge", "/app/charge.js", "14"),
    ),
    "dotnet": (
        (
            "fail: Cart[0] System.InvalidOperationException: no connection\n"
            " ---> System.Net.Sockets.SocketException (111): Connection refused\n"
            "   at System.Net.Sockets.Socket.Connect()\n"
            "   --- End of inner exception stack trace ---\n"
            "   at Cart.Store.Open(String name) in /src/Store.cs:line 51"
        ),
        ("System.InvalidOperationException", "Cart.Store.Open(String name)", "/src/Store.cs", "51"),
    ),
    "ruby": (
        (
            "/app/mail.rb:12:in `send_mail': no recipient (ArgumentError)\n"
            "\tfrom /app/mail.rb:30:in `block in run'\n"
            "\tfrom /usr/lib/ruby/gems/3.2.0/gems/rack/rack.rb:5:in `call'"
        ),
        ("ArgumentError", "send_mail", "/app/mail.rb", "12"),
    ),
}


def frame(bodies: list[str], stream: str = "stderr") -> pl.DataFrame:
    pairs = [{"key": "container", "value": "c"}, {"key": "stream", "value": stream}]
    return pl.DataFrame(
        {
            "row": list(range(len(bodies))),
            "batch": ["b"] * len(bodies),
            "arrival": list(range(len(bodies))),
            "pod": ["p"] * len(bodies),
            "body": bodies,
            "attributes": pl.Series([pairs] * len(bodies)).cast(pl.Map(pl.String, pl.String)),
        }
    )


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_one_event_between_two_lines(name: str) -> None:
    trace, _ = TRACES[name]
    found = stack_join.apply(frame(["up and running", *trace.split("\n"), "next request"]), NONE)
    assert found.lines["body"].to_list() == ["up and running", trace, "next request"]
    assert found.parts["into"].unique().to_list() == [1]


@pytest.mark.parametrize("name", TRACES)
def test_an_event_tells_its_exception_and_the_innermost_frame_of_the_application(name: str) -> None:
    trace, told = TRACES[name]
    given = stacks.described(frame([trace, "another line"]))["attributes"]
    assert tuple(given.map.get(key)[0] for key in stacks.KEYS) == told
    assert given.map.get("exception.type")[1] is None


def test_two_traces_in_a_row_are_two_events() -> None:
    trace, _ = TRACES["python"]
    other = trace.replace("/pay", "/refund")
    found = stack_join.apply(frame([*trace.split("\n"), *other.split("\n")]), NONE)
    assert found.lines["body"].to_list() == [trace, other]


def test_a_chained_python_trace_is_one_event() -> None:
    trace, _ = TRACES["python"]
    chained = (
        f"{trace}\n\nDuring handling of the above exception, another exception occurred:\n\n"
        + trace.split("\n", 1)[1].replace("AttributeError", "shop.PayError")
    )
    found = stack_join.apply(frame(chained.split("\n")), NONE)
    assert found.lines["body"].to_list() == [chained]


def test_a_line_of_another_stream_or_after_a_gap_is_not_joined() -> None:
    lines = frame(TRACES["node"][0].split("\n"))
    apart = lines.with_columns(arrival=pl.col("arrival") * 2)
    assert stack_join.apply(apart, NONE).lines.equals(apart)
    pods = lines.with_columns(pod=pl.format("p{}", "row"))
    assert stack_join.apply(pods, NONE).lines.equals(pods)


def test_indented_lines_that_are_no_trace_stay_as_they_are() -> None:
    lines = frame(["settings:", "  port: 80", "  at: noon", "Error: none", "main()", ""])
    assert stack_join.apply(lines, NONE).lines.equals(lines)


def test_a_frame_after_an_empty_line_goes_on_from_nothing() -> None:
    lines = frame(["ERROR [main] Request failed", "", "\tat shop.Api.get(Api.java:12)"])
    assert stack_join.apply(lines, NONE).lines.equals(lines)


def test_the_same_exception_has_one_template_whatever_the_frames() -> None:
    trace, _ = TRACES["java"]
    other = trace.replace("Api.java:9", "Api.java:12") + "\n\tat shop.Main.main(Main.java:3)"
    assert templates.shape(pl.Series([trace, other])).n_unique() == 1
    assert "at shop" not in templates.shape(pl.Series([trace]))[0]


PIECES = st.sampled_from([line for trace, _ in TRACES.values() for line in trace.split("\n")])


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES | st.sampled_from(["a line", ""]), min_size=1, max_size=14), st.randoms())
def test_no_line_is_lost_order_does_not_matter_and_joining_twice_is_joining_once(
    bodies: list[str], dice: object
) -> None:
    lines = frame(bodies)
    found = stack_join.apply(lines, NONE)
    assert "\n".join(found.lines["body"].to_list()) == "\n".join(bodies)
    assert found.lines.height + found.parts.height == len(bodies)
    places = list(range(len(bodies)))
    dice.shuffle(places)  # type: ignore[attr-defined]
    mixed = stack_join.apply(lines[places], NONE)
    assert mixed.lines.sort("row").equals(found.lines)
    took = found.parts
    again = stack_join.apply(found.lines, took)
    assert again.lines.height == found.lines.height
