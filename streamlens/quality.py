"""The rules that a call has to keep, what is counted where it does not, and the usage that comes of it.

A call that breaks a rule is counted all the same; a warning names the rule. `docs/api.md` lists the rules.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from streamlens.join import RequestHalf, ResponseHalf
from streamlens.usage import Usage

LONGEST_US = 120_000_000
"""A latency above it is more likely a wrong unit than a slow model."""


class Rule(NamedTuple):
    """One rule. Its repair makes a usage that keeps it; without a repair the call is counted as it was sent."""

    name: str
    broken: str
    """What is wrong, as documented."""
    repaired: str
    """What is counted instead; "" where nothing is."""
    is_broken: Callable[[RequestHalf, ResponseHalf, Usage], bool]
    repair: Callable[[Usage], Usage] | None = None


def _lacks_prompt(request: RequestHalf, response: ResponseHalf, used: Usage) -> bool:
    return request.prompt_tokens is None and response.prompt_tokens is None and used.error_type is None


def _adds_up(response: ResponseHalf, used: Usage) -> bool:
    return response.total_tokens in (None, used.prompt_tokens + used.completion_tokens)


RULES = (
    Rule("provider_missing", "no `provider`", "", lambda request, _, __: request.provider is None),
    Rule("prompt_tokens_missing", "no `prompt_tokens` in either half of a call without error", "", _lacks_prompt),
    Rule(
        "completion_tokens_missing",
        "no `completion_tokens` in a call without error",
        "",
        lambda _, response, used: response.completion_tokens is None and used.error_type is None,
    ),
    Rule(
        "response_before_request",
        "the response's `timestamp` is before the request's",
        "",
        lambda request, response, _: response.ts_us < request.ts_us,
    ),
    Rule("latency_long", "a latency above 120,000 ms", "", lambda _, __, used: used.latency_us > LONGEST_US),
    Rule(
        "ttft_after_end",
        "`ttft_ms` is above the latency",
        "no time to the first token",
        lambda _, __, used: used.ttft_us is not None and used.ttft_us > used.latency_us,
        lambda used: replace(used, ttft_us=None),
    ),
    # Anthropic's input tokens exclude the cache; whoever counts them as part of the input can't have more of them.
    Rule(
        "cache_apart",
        "cached and cache-write tokens are more than the prompt tokens",
        "prompt tokens = prompt + cached + cache-write tokens",
        lambda _, __, used: used.cached_tokens + used.cache_write_tokens > used.prompt_tokens,
        lambda used: replace(used, prompt_tokens=used.prompt_tokens + used.cached_tokens + used.cache_write_tokens),
    ),
    Rule(
        "reasoning_apart",
        "reasoning tokens are more than the completion tokens",
        "completion tokens = completion + reasoning tokens",
        lambda _, __, used: used.reasoning_tokens > used.completion_tokens,
        lambda used: replace(used, completion_tokens=used.completion_tokens + used.reasoning_tokens),
    ),
    Rule(
        "total_tokens_differ",
        "`total_tokens` is not prompt + completion tokens, repaired ones",
        "",
        lambda _, response, used: not _adds_up(response, used),
    ),
)
"""In the order in which they are looked at: a later one sees what an earlier one has repaired."""

_NO_PROVIDER = ("provider_missing",)


def usage_of(request: RequestHalf, response: ResponseHalf) -> Usage:
    """The usage of a joined call. The prompt tokens are the response's where it has them, else the request's."""
    latency, ttft = response.latency_us, response.ttft_us
    if latency is None:
        latency = response.latency_after(request.ts_us)
    prompt, completion = response.prompt_tokens, response.completion_tokens
    if prompt is None:
        prompt = request.prompt_tokens
    if prompt is not None and completion is not None:  # most calls keep all rules: one test finds that out
        prompt += response.apart_tokens
        cached, written, reasoning = response.cached_tokens, response.cache_write_tokens, response.reasoning_tokens
        total = response.total_tokens
        if (
            cached + written <= prompt
            and reasoning <= completion
            and (ttft is None or ttft <= latency)
            and (total is None or total == prompt + completion)
            and latency <= LONGEST_US
            and response.ts_us >= request.ts_us
        ):
            warnings = () if request.provider is not None else _NO_PROVIDER
            error = response.error_type
            return Usage(latency, ttft, prompt, completion, cached, written, reasoning, error, warnings)
    return _looked_at(request, response)


def _looked_at(request: RequestHalf, response: ResponseHalf) -> Usage:
    """The same, rule by rule."""
    prompt = request.prompt_tokens if response.prompt_tokens is None else response.prompt_tokens
    used = Usage(
        response.latency_after(request.ts_us),
        response.ttft_us,
        (prompt or 0) + response.apart_tokens,
        response.completion_tokens or 0,
        response.cached_tokens,
        response.cache_write_tokens,
        response.reasoning_tokens,
        response.error_type,
    )
    broken = []
    for rule in RULES:
        if rule.is_broken(request, response, used):
            broken.append(rule.name)
            if rule.repair is not None:
                used = rule.repair(used)
    return replace(used, warnings=tuple(broken))
