"""Facets: what a call is counted by besides route and model, if the call says it.

A facet's value travels as one text, "facet NUL value", and a call's as one tuple of such texts, which all calls that
say the same share. Values are kept as they were given; NUL is in none of them. A model's version gets its model's name
where the call counts (`version_of`), because only there it is known under which name the model counts.
"""

import re
from collections.abc import Iterable

from streamlens.events import Call, Request, Response
from streamlens.fields import Experiment

FACETS = (
    "provider",
    "experiment",
    "variant",
    "prompt_version",
    "model_version",
    "region",
    "country",
    "client_app",
    "error_type",
    "finish_reason",
    "sender",
)
"""All there are, in the order in which people read them."""

_CACHED = 4_096
_MAX_VALUE = 256


class Facets:
    """Finds the facets that are kept. Calls without any of them cost a look at each field and no memory."""

    def __init__(self, kept: Iterable[str] = FACETS) -> None:
        self.kept = frozenset(kept)
        self._asked: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._answered: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._called: dict[tuple[object, ...], tuple[str, ...]] = {}

    def of_request(self, event: Request | Call) -> tuple[str, ...]:
        """What a request says, but for its provider."""
        experiment, client, metadata = event.experiment, event.client, event.metadata
        if not (
            event.sender
            or metadata
            or experiment
            or event.prompt_version
            or event.model_version
            or event.region
            or client
        ):
            return ()
        said = (
            experiment and experiment.name,
            experiment and experiment.variant,
            event.prompt_version,
            event.model_version,
            event.region,
            metadata.get("country") if metadata else None,
            client and client.app,
            event.sender,
        )
        found = self._asked.get(said)
        if found is None:
            variant = experiment and variant_value(experiment)
            names = ("experiment", "variant", "prompt_version", "model_version", "region", "country", "client_app")
            found = self._texts(zip((*names, "sender"), (said[0], variant, *said[2:]), strict=True))
            _remember(self._asked, said, found)
        return found

    def of_response(self, event: Response | Call) -> tuple[str, ...]:
        """What a response says, but for its error."""
        if not (event.finish_reason or event.sender):
            return ()
        said = (event.finish_reason, event.sender)
        found = self._answered.get(said)
        if found is None:
            found = self._texts(zip(("finish_reason", "sender"), said, strict=True))
            _remember(self._answered, said, found)
        return found

    def of_call(
        self, provider: str | None, asked: tuple[str, ...], answered: tuple[str, ...], error_type: str | None
    ) -> tuple[str, ...]:
        """The facets of a whole call, each once: what the request says goes before what the response says."""
        said = (provider, asked, answered, error_type)
        found = self._called.get(said)
        if found is None:
            first: dict[str, str] = {}
            for text in (*self._texts((("provider", provider), ("error_type", error_type))), *asked, *answered):
                first.setdefault(text.partition("\0")[0], text)
            # A half may be older than the setting.
            found = tuple(text for name, text in first.items() if name in self.kept)
            _remember(self._called, said, found)
        return found

    def variant_of(self, experiment: Experiment | None) -> str | None:
        """The value of the facet `variant`, if it is kept."""
        if experiment is None or "variant" not in self.kept:
            return None
        value = variant_value(experiment)
        return value if len(value) <= _MAX_VALUE else None

    def _texts(self, said: Iterable[tuple[str, object]]) -> tuple[str, ...]:
        return tuple(
            f"{name}\0{value}"
            for name, value in said
            if name in self.kept and isinstance(value, str) and 0 < len(value) <= _MAX_VALUE
        )


_Known = dict[tuple[object, ...], tuple[str, ...]]


def _remember(known: _Known, said: tuple[object, ...], found: tuple[str, ...]) -> None:
    if len(known) >= _CACHED:
        known.clear()
    known[said] = found


def variant_value(experiment: Experiment) -> str:
    """Names a variant, with its experiment: the first "/" without a backslash before it ends the experiment's name."""
    return f"{_escaped(experiment.name)}/{experiment.variant}"


def experiment_of(value: str) -> Experiment | None:
    """The inverse of `variant_value`; None for a text that names no variant."""
    found = _VARIANT.fullmatch(value)
    return Experiment(re.sub(r"(?s)\\(.)", r"\1", found[1]), found[2]) if found else None


_VARIANT = re.compile(r"(?s)((?:[^\\/]|\\.)*)/(.*)")


def version_of(model: str, version: str) -> str:
    """What a version counts as: "model/version", "" where that is too long to be kept."""
    value = f"{_escaped(model)}/{version}"
    return value if len(value) <= _MAX_VALUE else ""


def _escaped(name: str) -> str:
    """So that the first "/" without a backslash before it ends the name of the experiment or model."""
    return name.replace("\\", "\\\\").replace("/", "\\/")
