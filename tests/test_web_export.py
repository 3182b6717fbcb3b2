"""Rows as CSV and NDJSON: which form is chosen, what is in it, and that it is sent in pieces."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from postgres_rows import MINUTE, NOON, booked, cell, metric
from streamlens.postgres.store import PostgresStore
from web.contract import Contract
from web.export import _csv
from web.query import Ledger, Metrics
from web_server import Site, serving

MANY = 1_200


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    ledger = [booked(tenant_id="many", minute_us=NOON + minute * MINUTE, received=1) for minute in range(MANY)]
    await store.write([metric(cell([1000]), (1, 1), route='=1+1,"x"\n', tenant_id="ü;")], ledger)
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


CHOSEN = [
    ("", None, "application/json"),
    ("", "*/*", "application/json"),
    ("", "text/html, */*;q=0.1", "application/json"),
    ("", "text/csv", "text/csv"),
    ("", "TEXT/CSV; charset=utf-8", "text/csv"),
    ("", "application/json;q=0.5, text/csv;q=0.9", "text/csv"),
    ("", "text/csv;q=0.5, application/x-ndjson;q=0.5", "text/csv"),
    ("", "application/x-ndjson, application/json", "application/x-ndjson"),
    ("", "text/csv;q=0", "application/json"),
    ("", "text/csv;q=much", "application/json"),
    ("", "image/png", "application/json"),
    ("", ",;=", "application/json"),
    ("?format=", "text/csv", "text/csv"),
    ("?format=json", "text/csv", "application/json"),
    ("?format=csv", None, "text/csv"),
    ("?format=ndjson", "text/csv", "application/x-ndjson"),
]


@pytest.mark.parametrize(("query", "accept", "kind"), CHOSEN)
async def test_the_form_is_the_one_that_is_asked_for(site: Site, query: str, accept: str | None, kind: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with site.http.get(f"/v1/metrics{query}", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, kind)
        assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize("query", ["?format=xml", "?format=csv&format=csv", "?format=CSV"])
async def test_a_form_that_is_none_is_refused(site: Site, query: str) -> None:
    answer = await site.http.get(f"/v1/metrics{query}")
    assert (answer.status, (await answer.json())["field"]) == (400, "format")


async def test_what_answers_no_list_has_no_form(site: Site) -> None:
    answer = await site.http.get("/v1/dlq/llm.calls/0/0?format=csv")
    assert (answer.status, (await answer.json())["field"]) == (400, "format")


async def test_all_forms_have_the_same_rows(site: Site) -> None:
    (row,) = (await (await site.http.get("/v1/metrics")).json())["metrics"]
    assert orjson.loads(await (await site.http.get("/v1/metrics?format=ndjson")).read()) == row
    answer = await site.http.get("/v1/metrics?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="metrics.csv"'
    (told,) = csv.DictReader(io.StringIO(await answer.text(), newline=""))
    contract: Contract = Metrics.get.contract  # type: ignore[attr-defined]
    assert contract.rows is not None
    assert list(told) == list(contract.rows.columns)
    assert told["route"] == "'" + row["route"]
    assert (told["tenant_id"], told["window_start"], told["estimated_cost_usd"]) == ("ü;", row["window_start"], "")
    assert (told["requests"], told["avg_latency_ms"], told["final"]) == ("1", "1.0", "false")
    assert set(row) <= set(told)


async def test_without_rows_there_is_still_the_header(site: Site) -> None:
    told = await (await site.http.get("/v1/ledger?tenant_id=nobody&format=csv")).read()
    columns = Ledger.get.contract.rows.columns  # type: ignore[attr-defined]
    assert told == ",".join(columns).encode() + b"\r\n"
    assert await (await site.http.get("/v1/ledger?tenant_id=nobody&format=ndjson")).read() == b""


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_many_rows_are_sent_in_pieces(site: Site, form: str) -> None:
    async with site.http.get(f"/v1/ledger?format={form}") as answer:
        lines = (await answer.read()).splitlines()
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert len(lines) == MANY + (form == "csv")
    head = await site.http.head(f"/v1/ledger?format={form}")
    assert (head.status, head.content_type, await head.read()) == (200, answer.content_type, b"")
    assert (await site.http.get("/health")).status == 200


CELLS = [
    (None, ""),
    (True, "true"),
    (-1.5, "-1.5"),
    (0, "0"),
    ("a", "a"),
    ("", ""),
    ("a,b", '"a,b"'),
    ('a"b', '"a""b"'),
    ("a\nb", '"a\nb"'),
    ("=1", "'=1"),
    ("+1", "'+1"),
    ("-1", "'-1"),
    ("@x", "'@x"),
    ("\t=1", "'\t=1"),
    ("\r=1", '"\'\r=1"'),
    ("\n=1", '"\'\n=1"'),
    ("＝1", "'＝1"),
    ("'=1", "''=1"),
    ("a=1", "a=1"),
    (["=a", "b"], '"[""=a"",""b""]"'),
    ({"a": 1}, '"{""a"":1}"'),
]


@pytest.mark.parametrize(("value", "cell"), CELLS)
def test_a_cell_is_quoted_and_no_formula(value: object, cell: str) -> None:
    text = b"".join(_csv(["x", "y"], [{"x": value, "y": 1}])).decode()
    assert text == f"x,y\r\n{cell},1\r\n"
    (read,) = csv.DictReader(io.StringIO(text, newline=""))
    if isinstance(value, str):
        assert read["x"].removeprefix("'") == value if read["x"][:1] == "'" else read["x"] == value
