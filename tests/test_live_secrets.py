"""What must never be written or said: fields that are masked, credentials, users."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from ingest.batch import Batch
from ingest.mask import mask
from ingest.run import ingest
from ingest.source import made
from ingest.web import Web, WebOptions
from lake import Lake, UserError

from . import faulty

FIELDS = ["password", "authorization"]


@pytest.mark.parametrize(
    "body",
    [
        "password=s3cret and more",
        "password: 's3cret of three words'",
        '{"password": "s3cret", "user": "a"}',
        "Authorization: Bearer s3cret",
        "authorization=Basic s3cret, next",
        '{\\"password\\":\\"s3cret\\"}',
    ],
)
def test_masked_fields_are_hidden_in_lines(body: str) -> None:
    rows = pl.DataFrame({"body": [body]})
    hidden = mask("raw_logs", Batch(rows, 1), FIELDS).rows["body"][0]
    assert "s3cret" not in hidden
    assert "***" in hidden


@pytest.mark.parametrize(
    "tag",
    [
        {"key": "password", "type": "string", "value": "s3cret"},
        {"value": "s3cret", "key": "Password"},
        {"key": "password", "value": {"stringValue": "s3cret"}},
        {"key": "password", "value": {"arrayValue": {"values": [{"stringValue": "s3cret"}]}}},
        {
            "key": "request",
            "value": {
                "kvlistValue": {"values": [{"key": "password", "value": {"stringValue": "s3cret"}}]}
            },
        },
    ],
)
def test_masked_fields_are_hidden_in_tags_of_any_form(tag: dict[str, object]) -> None:
    other = {"key": "a", "value": 1}
    rows = pl.DataFrame({"attributes": [json.dumps([other, tag])]})
    hidden = mask("raw_spans", Batch(rows, 1), FIELDS).rows["attributes"][0]
    assert "s3cret" not in hidden
    assert json.loads(hidden)[0] == other


def test_credentials_in_a_url_are_used_and_never_shown(tmp_path: Path) -> None:
    seen = []

    def route(_path: str, params: faulty.Params) -> faulty.Answer:
        seen.append(params)
        return faulty.answer({"detail": "bad password s3cret"}, 403)

    with faulty.serving(route) as url:
        target = url.replace("//", "//me:s3cret@")
        with pytest.raises(UserError) as told:
            ingest(Lake(tmp_path / "lake"), "jaeger", target)
        assert "s3cret" not in str(told.value)
        assert "403" in str(told.value)
        assert "s3cret" not in made("jaeger", {"target": target}).called
    assert seen


def test_tenants_and_selections_of_one_server_are_told_apart() -> None:
    names = {
        Web(WebOptions(target="http://mimir", headers=headers)).host
        for headers in ({}, {"X-Scope-OrgID": "a"}, {"X-Scope-OrgID": "b"}, {"X-Trace": "on"})
    }
    assert len(names) == 3
    some = {made("jaeger", {"target": "http://j", **more}).called for more in ({}, {"limit": 5})}
    assert some == {"jaeger http://j"}
    assert made("jaeger", {"target": "http://j", "services": ["cart"]}).called not in some
