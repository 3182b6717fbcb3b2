"""How spans tell of a call of a model: for each field of a call, the attributes that have it, best first.

One row for all dialects: OpenTelemetry's GenAI conventions (v1.36, v1.41 and newer), OpenInference, OpenLLMetry
(Traceloop), Vercel's AI SDK and Langfuse. To teach another one, add its names to the rows, and to `INFERENCE` the mark
by which it tells calls of a model from the spans around them. `streamlens.otlp.spans` reads the tables.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from streamlens.events import ERROR_CLASSES

Reader = Callable[[Any], Any]
"""Makes of an attribute's value what the field has; None: it says nothing."""
Source = tuple[str, Reader]

INFERENCE: dict[str, frozenset[str]] = {
    "gen_ai.operation.name": frozenset(("chat", "text_completion", "generate_content", "embeddings")),
    "openinference.span.kind": frozenset(("LLM", "EMBEDDING")),
    "llm.request.type": frozenset(("chat", "completion", "embedding")),
    "traceloop.span.kind": frozenset(),
    "ai.operationId": frozenset(
        (
            "ai.generateText.doGenerate",
            "ai.streamText.doStream",
            "ai.generateObject.doGenerate",
            "ai.streamObject.doStream",
            "ai.embed.doEmbed",
            "ai.embedMany.doEmbed",
        )
    ),
    "langfuse.observation.type": frozenset(("generation", "embedding")),
}
"""Marks of a call of a model, with the values that mean one. A span is a call when it has a mark, and all that it has
say so: agents, tools and chains repeat the usage of the calls below them, and are not counted."""


def name(value: Any) -> Any:
    """What rows are counted by: never cut, so one that is too long makes the span bad."""
    return str(value) if type(value) is int else None if value == "" else value


def text(value: Any) -> str | None:
    """A short text; what does not fit is cut."""
    if type(value) is str:
        return value[:256] or None
    return None if isinstance(value, (list, dict)) else str(value)


def count(value: Any) -> Any:
    """A number of tokens; JavaScript and protobuf may make a float of it."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 1e15 else value


def flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def number(value: Any) -> int | None:
    """An HTTP status."""
    return int(value) if type(value) in (int, str) and re.fullmatch(r"[1-5]\d\d", str(value)) else None


def seconds(value: Any) -> float | None:
    """A time in seconds, as milliseconds."""
    return None if (time := millis(value)) is None else time * 1000


def millis(value: Any) -> float | None:
    return value if type(value) in (int, float) and value >= 0 else None


def cost(value: Any) -> float | None:
    """A price in dollars. 0 is what many write who do not know it, so it says nothing."""
    return value if type(value) in (int, float) and value > 0 else None


def first(value: Any) -> str | None:
    """The first text of a list, which may come as JSON."""
    if isinstance(value, str) and value[:1] == "[":
        value = _json(value)
    if isinstance(value, list):
        value = next((each for each in value if each), "")
    return text(value)


def before_dot(value: Any) -> str | None:
    """`openai.chat` is the chat interface of the provider `openai`."""
    return text(str(value).partition(".")[0])


def failed(value: Any) -> str | None:
    """The level of an observation as the type of its error."""
    return "other" if value == "ERROR" else None


def instant(value: Any) -> int | None:
    """Epoch microseconds of an ISO time, which may come as JSON."""
    try:
        at = datetime.fromisoformat(str(value).strip('"'))
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
    except (ValueError, OverflowError):
        return None


def _each(read: Reader, *names: str) -> tuple[Source, ...]:
    return tuple((name, read) for name in names)


def _inside(attribute: str, read: Reader, *paths: str) -> tuple[Source, ...]:
    """The members of an attribute that is JSON; a dot leads into an object."""

    def member(path: str) -> Reader:
        def reader(value: Any) -> Any:
            found = _json(value)
            for part in path.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            return None if found is None else read(found)

        return reader

    return tuple((attribute, member(path)) for path in paths)


def _json(value: Any) -> Any:
    try:
        return orjson.loads(value)
    except (orjson.JSONDecodeError, TypeError):
        return None


_USAGE = "langfuse.observation.usage_details"

FIELDS: dict[str, tuple[Source, ...]] = {
    "request_id": _each(name, "gen_ai.response.id", "ai.response.id"),
    "tenant_id": _each(name, "tenant.id", "tenant_id"),
    "route": _each(name, "streamlens.route"),
    "agent": _each(name, "gen_ai.agent.name", "agent.name", "ai.telemetry.functionId"),
    "model": (
        *_each(name, "gen_ai.response.model", "ai.response.model", "llm.response.model"),
        *_each(name, "gen_ai.request.model", "llm.model_name", "embedding.model_name", "ai.model.id"),
        *_each(name, "llm.request.model", "langfuse.observation.model.name", "model"),
        *_inside("llm.invocation_parameters", name, "model"),  # all that OpenInference has of a call that failed
    ),
    "provider": (
        *_each(text, "gen_ai.provider.name"),
        *_each(before_dot, "ai.model.provider"),
        *_each(text, "gen_ai.system", "llm.provider", "llm.system"),
    ),
    "prompt_tokens": (
        *_each(count, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
        *_each(count, "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", "llm.usage.prompt_tokens"),
        *_inside(_USAGE, count, "input", "input_tokens", "prompt_tokens", "promptTokens"),
    ),
    "completion_tokens": (
        *_each(count, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
        *_each(count, "ai.usage.outputTokens", "ai.usage.completionTokens", "llm.usage.completion_tokens"),
        *_inside(_USAGE, count, "output", "output_tokens", "completion_tokens", "completionTokens"),
    ),
    "total_tokens": (
        *_each(count, "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total"),
        *_each(count, "ai.usage.totalTokens"),
    ),
    "cached_tokens": (
        *_each(count, "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
        *_each(count, "gen_ai.usage.input_tokens.cached", "llm.token_count.prompt_details.cache_read"),
        *_each(count, "ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
        *_inside(_USAGE, count, "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens"),
    ),
    "cache_write_tokens": (
        *_each(count, "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"),
        *_each(count, "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens"),
        *_each(count, "gen_ai.usage.input_tokens.cache_write", "llm.token_count.prompt_details.cache_write"),
        *_each(count, "ai.usage.inputTokenDetails.cacheWriteTokens"),
    ),
    # Langfuse's buckets exclude each other: these two are not part of its input.
    "cache_read_input_tokens": _inside(_USAGE, count, "cache_read_input_tokens", "input_cached_tokens"),
    "cache_creation_input_tokens": _inside(_USAGE, count, "cache_creation_input_tokens", "input_cache_creation"),
    "reasoning_tokens": (
        *_each(count, "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
        *_each(count, "gen_ai.usage.output_tokens.reasoning", "llm.token_count.completion_details.reasoning"),
        *_each(count, "ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
        *_inside(_USAGE, count, "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"),
    ),
    "ttft_ms": (
        *_each(seconds, "gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
        *_each(seconds, "gen_ai.response.time_to_first_token"),
        *_each(millis, "ai.response.msToFirstChunk"),
    ),
    "first_token_at_us": _each(instant, "langfuse.observation.completion_start_time"),
    "finish_reason": (
        *_each(first, "gen_ai.response.finish_reasons", "gen_ai.completion.0.finish_reason"),
        *_each(first, "ai.response.finishReason", "llm.response.finish_reason", "llm.response.stop_reason"),
        *_each(first, "llm.finish_reason"),
    ),
    "error_type": (*_each(text, "error.type"), *_each(failed, "langfuse.observation.level")),
    "error": _each(text, "langfuse.observation.status_message"),
    "http_status": _each(number, "http.response.status_code", "http.status_code"),
    "stream": _each(flag, "gen_ai.request.stream", "llm.is_streaming", "gen_ai.request.is_stream"),
    "session_id": _each(
        text,
        *("session.id", "gen_ai.conversation.id", "langfuse.session.id"),
        *("traceloop.association.properties.session_id", "ai.telemetry.metadata.sessionId"),
    ),
    "user_id": _each(
        text,
        *("user.id", "enduser.id", "enduser.pseudo.id", "langfuse.user.id"),
        *("traceloop.association.properties.user_id", "ai.telemetry.metadata.userId"),
    ),
    "prompt_version": _each(
        text,
        *("gen_ai.prompt.version", "llm.prompt_template.version"),
        *("traceloop.prompt.version", "langfuse.observation.prompt.version"),
    ),
    "region": _each(text, "cloud.region"),
    "cost_usd": (
        *_each(cost, "gen_ai.usage.cost", "llm.cost.total"),
        *_inside("langfuse.observation.cost_details", cost, "total"),
    ),
}
"""Fields of a call, and four that `streamlens.otlp.spans` makes others of: agent, first_token_at_us, http_status and
user_id."""

KNOWN = frozenset(INFERENCE) | frozenset(name for sources in FIELDS.values() for name, _ in sources)
"""All attributes of a span that mean something."""

RESOURCE: dict[str, tuple[str, ...]] = {
    "tenant_id": ("tenant.id", "tenant_id"),
    "namespace": ("service.namespace",),
    "route": ("streamlens.route",),
    "service": ("service.name",),
    "region": ("cloud.region",),
}
"""What a resource says of all that it has sent."""

ERRORS: tuple[tuple[str, str], ...] = (
    ("timeout", r"timeout|timedout|deadlineexceeded|^(408|504)$"),
    ("rate_limit", r"ratelimit|toomanyrequests|resourceexhausted|throttl|quota|^429$"),
    ("content_filter", r"contentfilter|contentpolicy|safety|guardrail|moderation"),
    ("cancelled", r"cancel|abort"),
    ("server_error", r"servererror|overloaded|unavailable|badgateway|connection|^internal(error)?$|^5\d\d$"),
    (
        "client_error",
        r"badrequest|authenticat|unauthorized|permission|forbidden|notfound|unprocess|invalid|^4\d\d$",
    ),
    ("model_error", r"modelerror|modelbehavior"),
)
"""Classes of error by what the type of an error contains, an exception's name or an HTTP status: the first that fits.
Only letters, in lower case, and digits are looked at."""


@lru_cache(1024)
def error_type_of(raw: str) -> str:
    """The class of an error, or its type as it is where no class fits; that counts as "other"."""
    if raw in ERROR_CLASSES:
        return raw
    letters = re.sub(r"[^a-z0-9]", "", raw.lower())
    return next((found for found, pattern in ERRORS if re.search(pattern, letters)), raw)
