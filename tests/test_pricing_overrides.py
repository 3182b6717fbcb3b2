"""The prices file: what wins over what, for whom and when; and what is refused."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamlens.errors import BadSetting
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.pricing import CACHED_MODELS, Prices
from streamlens.quality import usage_of
from streamlens.rates import Rates, Tier


def prices(tmp_path: Path, content: dict[str, Any]) -> Prices:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(content))
    return Prices(file)


def usd(price: float, output: float = 1, **more: Any) -> dict[str, Any]:
    return {"input_usd_per_mtok": price, "output_usd_per_mtok": output, **more}


def fresh(rates: Rates | None) -> float | None:
    """USD per million input tokens."""
    return rates and rates.input / rates.scale / 1e6


def test_overrides_win_and_keep_the_decimals_as_written(tmp_path: Path) -> None:
    content = {"Acme-7B": usd(0.1, 0.30), "gpt-4o": usd(1, 2, cached_input_usd_per_mtok=0.0000005)}
    own = prices(tmp_path, content)
    names = {
        "source": "overrides",
        "version": f"overrides {hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}",
    }
    assert own.rates("anyone", "acme-7b") == Rates(
        100_000, 100_000, 100_000, 300_000, 300_000, unstated=(True, True, False), **names
    )
    assert own.rates(None, "gpt-4o") == Rates(
        10_000_000, 5, 10_000_000, 20_000_000, 20_000_000, scale=10, unstated=(False, True, False), **names
    )
    assert own.rates(None, "gpt-4o-mini") == Prices().rates(None, "gpt-4o-mini")


def test_tiers_and_a_price_of_reasoning(tmp_path: Path) -> None:
    tiers = [usd(2, 3, above=100), usd(4, 5, above=1000)]
    rates = prices(tmp_path, {"m": usd(1, 2, reasoning_usd_per_mtok=7, tiers=tiers)}).rates(None, "m")
    assert rates is not None
    assert (rates.output, rates.reasoning) == (2_000_000, 7_000_000)
    assert [(tier.above, tier.rates.input, tier.rates.reasoning) for tier in rates.tiers] == [
        (1000, 4_000_000, 5_000_000),
        (100, 2_000_000, 3_000_000),
    ]
    assert all(type(tier) is Tier for tier in rates.tiers)


FILE = {
    "gpt-4o": usd(1),
    "dated": [
        usd(2, until="2026-07-01"),
        usd(3, **{"from": "2026-07-01", "until": "2026-09-01"}),
        usd(9, until="2026-08-01"),
    ],
    "gpt-4o-mini": [usd(4, **{"from": "2026-07-01"})],
    "changed": [usd(5, **{"from": "2026-07-01"}), usd(6)],
    "aliases": {"Prod-Chat": "GPT-4o", "mini": "gpt-4o-mini", "twice": "prod-chat"},
    "tenants": {
        "acme": {"gpt-4o": usd(10), "aliases": {"prod-chat": "gpt-4-turbo", "chat-eu": "prod-chat", "eu": "gpt-4o"}},
        "zeta": {"gpt-4o": [usd(11, **{"from": "2026-08-01"})], "changed": usd(12)},
    },
}
CASES = [
    ("for all", None, "gpt-4o", "2026-07-15", 1),
    ("for a tenant without its own", "globex", "gpt-4o", "2026-07-15", 1),
    ("a tenant's own", "acme", "gpt-4o", "2026-07-15", 10),
    ("a tenant's own, not yet: that for all", "zeta", "gpt-4o", "2026-07-31T23:59:59.999999", 1),
    ("a tenant's own, from its day on", "zeta", "gpt-4o", "2026-08-01", 11),
    ("a tenant's own wins over a dated one for all", "zeta", "changed", "2026-08-01", 12),
    ("until a day", None, "dated", "2026-06-30T23:59:59.999999", 2),
    ("from a day", None, "dated", "2026-07-01", 3),
    ("the first that fits", None, "dated", "2026-07-31", 3),
    ("no price left", None, "dated", "2026-09-01", None),
    ("before the first day: the catalogue", None, "gpt-4o-mini", "2026-06-30", 0.15),
    ("after it", None, "gpt-4o-mini", "2026-07-01", 4),
    ("dated, and else this", None, "changed", "2026-06-30", 6),
    ("an alias of a price", None, "prod-chat", "2026-07-15", 1),
    ("an alias of the catalogue's", None, "MINI", "2026-06-30", 0.15),
    ("an alias is not followed twice", None, "twice", "2026-07-15", None),
    ("a tenant's alias wins", "acme", "prod-chat", "2026-07-15", 10),
    ("a tenant's alias of its own price", "acme", "eu", "2026-07-15", 10),
    ("another tenant's alias", "zeta", "eu", "2026-07-15", None),
]


@pytest.mark.parametrize(("tenant", "model", "at", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_who_pays_what_and_when(tmp_path: Path, tenant: str | None, model: str, at: str, expected: float) -> None:
    own = prices(tmp_path, FILE)
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert fresh(own.rates(None, model, tenant, when)) == expected
    request = RequestHalf(round(when.timestamp() * 1e6), tenant or "globex", "chat", model, None, 1_000_000)
    response = ResponseHalf(request.ts_us, None, None, 1, None, 0, 0, 0, 0, None, None)
    cost, rates = own.of_call(request, response, usage_of(request, response))
    assert cost == (None if expected is None else expected * 1e12)
    assert (rates is None) == (expected is None)


def test_the_file_in_the_docs_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8").partition("## Prices")[2]
    own = prices(tmp_path, json.loads(text.partition("```json")[2].partition("```")[0]))
    july = datetime(2026, 7, 1, tzinfo=UTC)
    assert [fresh(own.rates(None, *asked, july)) for asked in (("prod-chat", None), ("our-70b", None))] == [2, 0.3]
    assert [fresh(own.rates(None, model, "acme", july)) for model in ("prod-chat", "chat-eu")] == [1.8, 0.15]


def test_a_price_says_whose_it_is(tmp_path: Path) -> None:
    own = prices(tmp_path, FILE)
    sources = [rates and rates.source for rates in (own.rates(None, "gpt-4o"), own.rates(None, "gpt-4o", "acme"))]
    assert sources == ["overrides", "overrides of acme"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "truncated"),
        ("[]", "array"),
        ('{"m": {"input_usd_per_mtok": 1}}', "m: .*output_usd_per_mtok"),
        ('{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": -1}}', "m: a price is a number from 0 on"),
        ('{"m": {"input_usd_per_mtok": "NaN", "output_usd_per_mtok": 1}}', "m: "),
        ('{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "cached_usd": 1}}', "m: .*cached_usd"),
        ('{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "from": "July"}}', "m: .*from"),
        (
            '{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "from": "2026-07-01", "until": "2026-07-01"}}',
            "m: `from` must be before `until`",
        ),
        ('{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "tiers": [{"above": 1}]}}', "m: .*tiers"),
        ('{"aliases": {"a": 1}}', "str"),
        ('{"aliases": {"M": "b"}, "m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}', "m: has a price and is"),
        ('{"tenants": {"acme": {"m": {"input_usd_per_mtok": 1}}}}', "m: "),
    ],
)
def test_a_bad_file_is_refused_by_name_and_entry(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(BadSetting, match=rf"prices\.json: .*{fault}"):
        Prices(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"nowhere\.json"):
        Prices(tmp_path / "nowhere.json")


def test_tenants_without_prices_of_their_own_share_what_is_remembered(tmp_path: Path) -> None:
    own = prices(tmp_path, FILE)
    for number in range(10_000):
        own.rates("openai", "gpt-4o", f"tenant-{number}")
    assert own._found.cache_info().currsize == 1  # type: ignore[attr-defined]
    for number in range(10_000):
        own.rates("openai", f"junk-{number}", "acme")
    assert own._found.cache_info().currsize == CACHED_MODELS  # type: ignore[attr-defined]
