"""Who calls what in simulated traffic: names, models and failures, drawn from a seeded generator."""

from hashlib import blake2b
from random import Random
from typing import NamedTuple

from streamlens.fields import Experiment

MODELS: tuple[tuple[str | None, str, int], ...] = (
    ("openai", "gpt-4o-mini", 40),
    ("openai", "gpt-4o", 20),
    ("anthropic", "claude-sonnet-4-5", 15),
    ("google", "gemini-2.5-flash", 12),
    (None, "mistral-large-latest", 8),
    (None, "acme-chat-7b", 5),
)
"""(provider, model, weight). No catalogue knows the last one: its calls are unpriced."""

ROUTES = ("chat", "search", "summarize", "agent/plan", "extract")
TENANTS = ("acme", "globex", "initech", "umbrella", "hooli")

FAILURES: tuple[tuple[str | None, str | None, int], ...] = (
    ("timeout", "upstream timed out", 30),
    ("rate_limit", "too many requests", 25),
    ("server_error", "upstream answered 500", 20),
    ("content_filter", None, 10),
    ("gpu_on_fire", "device lost", 5),
    (None, "connection closed", 10),
)
"""(error_type, error, weight): classes of the contract, one outside of it, and one with a text alone."""

FRAGILE_ROUTE = "agent/plan"
FRAGILE_TIMES = 4
"""Its calls fail so many times as often as others."""

RERANKED_ROUTE = "search"
RERANK = (Experiment("rerank", "off"), Experiment("rerank", "on"))
"""What searches try out, half of the users each: documents are ranked once more, and fewer of them are sent on."""
RERANK_US = 600_000
RERANK_KEEPS = 0.5

SESSION_US = 600_000_000
_DAY_US = 86_400_000_000
_AWAY = 0.5
"""Share of the days on which a user does not come, but for a third of them, who come each day."""
_REACHED = (0.9, 0.75, 0.65, 0.55)
"""Share of the users who ever get beyond the first route, beyond the second, …; and as many of anybody's sessions."""

_MODEL_WEIGHTS = [weight for *_, weight in MODELS]
_FAILURE_WEIGHTS = [weight for *_, weight in FAILURES]


class Caller(NamedTuple):
    """The series a call belongs to."""

    tenant_id: str
    route: str
    model: str
    provider: str | None


def tenant(number: int) -> str:
    """The name of tenant `number`, from 0."""
    return TENANTS[number] if number < len(TENANTS) else f"tenant-{number + 1}"


def draw_caller(random: Random, tenants: int) -> Caller:
    """One of `tenants` tenants (the first ones are the busiest), a route and a model."""
    number = min(int(random.random() ** 2 * tenants), tenants - 1)
    provider, model, _ = random.choices(MODELS, _MODEL_WEIGHTS)[0]
    return Caller(tenant(number), random.choice(ROUTES), model, provider)


class Visitor(NamedTuple):
    """A user, its session, and the routes to which it gets in that."""

    user: int
    session_id: str
    routes: tuple[str, ...]


def draw_visitor(random: Random, tenant_id: str, users: int, at_us: int) -> Visitor:
    """One of `users` users, mostly one who is there that day. A user's session lasts ten minutes.

    Two users each are alike, one for each of the variants that they may get, so that these get as many calls.
    """
    user = random.randrange(users)
    if user // 2 % 3 and _share(f"{tenant_id} {user // 2} {at_us // _DAY_US}") < _AWAY:
        user -= user // 2 % 3 * 2  # to one of those who come each day
    session = (at_us + user // 2 * SESSION_US // users) // SESSION_US
    depth = min(_depth(f"{tenant_id} {user // 2}"), _depth(f"{tenant_id} {user // 2} {session}"))
    return Visitor(user, f"{tenant_id}-{user}-{session}", ROUTES[:depth])


def _depth(name: str) -> int:
    """How many routes somebody gets to."""
    share = _share(name)
    return 1 + sum(share < reached for reached in _REACHED)


def _share(name: str) -> float:
    """From 0 to 1, always the same for a name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest()) / (1 << 32)


def draw_failure(random: Random) -> tuple[str | None, str | None]:
    """(error_type, error) of a failed call."""
    error_type, error, _ = random.choices(FAILURES, _FAILURE_WEIGHTS)[0]
    return error_type, error


def draw_cache(random: Random, prompt_tokens: int) -> tuple[int, int]:
    """(cached, cache_write) tokens of a call, together at most `prompt_tokens`; mostly none."""
    kind = random.random()
    if kind < 0.15:
        return int(prompt_tokens * random.uniform(0.3, 0.9)), 0
    if kind < 0.20:
        return 0, prompt_tokens // 2
    return 0, 0
