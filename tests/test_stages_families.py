"""All families of rows through both stages into a real Postgres: the rows are the oracle's, whatever is killed."""

import shutil
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from families_held import held
from families_oracle import Sent, expected
from pipeline import START, Pipeline
from streamlens.partitioner import partition_of
from streamlens.postgres.store import PostgresStore
from tables import calls as calls_table
from tables import kept as kept_table
from tables import recent

KEPT = 3
TENANTS = ("acme", "böse & co")


def event(random: Random, number: int) -> tuple[str, str, dict[str, Any]]:
    """Kind, key and content of the next event; some repeat an earlier one's id."""
    at = random.choice((0, 20, 59, 61, 100))
    base = {"timestamp": (START + at * 1_000_000) // 1000, "tenant_id": TENANTS[number % 5 == 0]}
    kind = random.choice(("request", "response", "call", "evaluation", "evaluation", "log", "metric"))
    request_id = f"r{random.randrange(40)}" if kind in ("request", "response") else f"{kind[0]}{random.randrange(60)}"
    if kind == "evaluation":
        scored = {"score": random.choice((0, 1, 0.5, -0.25, 1e9, -3.3))} if random.random() < 0.7 else {"label": "bad"}
        names = {"name": random.choice(("toxicity", "truth")), "evaluator": random.choice(("judge", "people"))}
        where: dict[str, Any] = {"route": "chat", "model": "m"} if random.random() < 0.5 else {}
        if random.random() < 0.5:
            where |= {"experiment": {"name": "a/b", "variant": random.choice("AB")}}
        return kind, request_id, base | {"request_id": request_id} | names | scored | where
    if kind == "log":
        level = random.choice(("DEBUG", "INFO", "WARNING", "ERROR"))
        return kind, f"log{number}", base | {"level": level, "service": "api", "message": f"line {number // 2}"}
    if kind == "metric":
        tags = {"host": random.choice("ab")}
        return kind, f"m{number}", base | {"name": "cpu", "value": random.choice((0, 1e15, -0.5)), "tags": tags}
    model = random.choice(("gpt-4o-mini", "gpt-4o-mini", "acme/small\\"))
    asked = {"route": "chat", "model": model, "prompt_tokens": random.randrange(100)}
    told = Random(random.randrange(4))  # so that many calls say the same
    asked |= _some(
        told,
        provider="openai",
        experiment={"name": "a/b", "variant": told.choice("AB")},
        prompt_version=told.choice(("v1", "v2")),
        region="eu",
        metadata={"country": told.choice(("DE", "FR"))},
        client={"app": "ios"},
        session_id=told.choice(("s1", "s2", "s3")),
        user_id_hash=told.choice(("ann", "bob")),
        stream=True,
        sender="sdk/1",
        model_version=told.choice(("1", "2/3")),
    )
    answered: dict[str, Any] = {"latency_ms": random.randrange(1, 5000), "completion_tokens": random.randrange(50)}
    answered |= _some(random, ttft_ms=random.randrange(1, 2000), cost_usd=random.choice((0, 0.000_001, 1_000_000)))
    answered |= _some(told, finish_reason="stop", sender="proxy")
    answered |= _some(random, error_type=random.choice(("timeout", "rate_limit", "unheard of")), error=f"no {number}")
    if kind == "response":
        return kind, request_id, {"timestamp": base["timestamp"], "request_id": request_id} | answered
    fields = asked | (answered if kind == "call" else {})
    return kind, request_id, base | {"tenant_id": "acme", "request_id": request_id} | fields


def _some(random: Random, **fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if random.random() < 0.4}


@pytest.mark.parametrize("seed", range(4))
async def test_all_families_have_the_oracles_rows_whatever_is_killed(
    tmp_path: Path, store: PostgresStore, dsn: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(kept_table, "KEPT", KEPT)
    for bound in ("ERRORS", "SLOWEST", "SAMPLED"):
        monkeypatch.setattr(recent, bound, 2)
    monkeypatch.setattr(calls_table, "_PLACES", 4 if seed % 2 else 5_000)  # sums of an epoch are folded in its middle
    random, sent = Random(seed), list[Sent]()
    pipeline = Pipeline(tmp_path, partitions=2)
    pipeline.rows = store  # type: ignore[assignment]
    await pipeline.open()
    pipeline.clock.at(110)
    for number in range(300):
        kind, key, content = event(random, number)
        raw = orjson.dumps(content)
        if kind in ("log", "metric"):
            key = blake2b(raw, digest_size=16).hexdigest()
        for _ in range(random.choice((1, 1, 1, 2))):
            await pipeline.send_raw(kind, raw, key)
            sent.append((kind, content, raw, partition_of(key.encode(), 2)))
        match random.randrange(40):
            case 0:
                await pipeline.settle()
            case 1:  # a part of the way, then a kill
                await pipeline.consume(pipeline.join)
                await pipeline.join.tick()
                await pipeline.close()
                await pipeline.open()
            case 2:
                await pipeline.settle()
                await pipeline.consume(pipeline.join)
                await pipeline.close()
                shutil.rmtree(tmp_path / random.choice(("pending", "windows")))  # restored from the changelog
                await pipeline.open()
    await pipeline.settle()
    wanted, found = expected(sent, KEPT), await held(dsn)
    assert all(wanted.values()), "the traffic has rows of each family"
    for table, rows in wanted.items():
        assert found[table] == rows, table
    await pipeline.close()
