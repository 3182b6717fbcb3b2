"""What is kept of a visitor (a user or a session) on one route and day: when it was there, and what a session used.

All that it holds adds up (by addition, minimum, maximum, union), so it does not depend on the order of calls.
"""

import msgspec

from streamlens.usage import Usage

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
USER, SESSION = KINDS = ("user", "session")


class Visit(msgspec.Struct, array_like=True, gc=False):
    """`first_us` and `first_model` are the first call's; of calls at the same time, the smaller model's name.

    `minutes` are those of the day (0 to 1439, UTC) in which a call began. All behind them is of sessions only: what a
    user does many times a minute must not change its row each time. Cost in pico-dollars, of the `priced` calls; it may
    outgrow 64 bits, which is why the stored form is JSON. New fields go to the end.
    """

    first_us: int = 0
    first_model: str = ""
    minutes: set[int] = set()
    last_us: int = 0
    user: str = ""
    """The user's keyed hash in hex; where calls tell several, the smallest; "": none does."""
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_pico: int = 0
    priced: int = 0
    unpriced: int = 0

    def see(self, at_us: int, model: str) -> bool:
        """There was a call at `at_us` (epoch); whether that is news."""
        minute = at_us % DAY_US // MINUTE_US
        if self.minutes and (at_us, model) >= (self.first_us, self.first_model):
            if minute in self.minutes:
                return False
        else:
            self.first_us, self.first_model = at_us, model
        self.minutes.add(minute)
        return True

    def add(self, at_us: int, model: str, user: str, used: Usage, cost_pico: int | None) -> None:
        """Count a call of a session. `cost_pico` is None when its price is not known."""
        self.see(at_us, model)
        self.last_us = max(self.last_us, at_us)
        self.user = _smaller(self.user, user)
        self.calls += 1
        self.errors += used.error_type is not None
        self.prompt_tokens += used.prompt_tokens
        self.completion_tokens += used.completion_tokens
        if cost_pico is None:
            self.unpriced += 1
        else:
            self.priced += 1
            self.cost_pico += cost_pico

    def merge(self, other: "Visit") -> None:
        """Add what `other` has seen to this."""
        if other.minutes:
            self.see(other.first_us, other.first_model)
        self.minutes |= other.minutes
        self.last_us = max(self.last_us, other.last_us)
        self.user = _smaller(self.user, other.user)
        self.calls += other.calls
        self.errors += other.errors
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cost_pico += other.cost_pico
        self.priced += other.priced
        self.unpriced += other.unpriced


def _smaller(one: str, other: str) -> str:
    """Of two texts the smaller one that is not empty."""
    return min(one, other) if one and other else one or other


encode_visit = msgspec.json.Encoder(order="deterministic").encode
decode_visit = msgspec.json.Decoder(Visit).decode
