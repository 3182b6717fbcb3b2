"""`GET /v1/experiments`, `/v1/experiments/{experiment}`: which there are, and how their variants differ."""

import re
from math import inf
from typing import Annotated, Any

import msgspec
from faust.web import View
from msgspec import Meta

from streamlens.app import app
from streamlens.moments import METRICS, SCORE
from streamlens.postgres import experiments
from streamlens.postgres.experiments import Measured
from streamlens.statistics.means import ALPHA, Sample, compare
from streamlens.statistics.shares import sample_ratio
from web.asked import Limit, Name, Spanned, reads
from web.contract import Answer, Time, asks
from web.parameters import Parameters
from web.problem import Problem
from web.query import answered
from web.services import current

Interval = Annotated[list[float], Meta(min_length=2, max_length=2)]
_WEIGHT = re.compile(r"(.+):([0-9]+(?:\.[0-9]+)?)", re.DOTALL)


class ExperimentsAsked(Spanned, frozen=True, kw_only=True):
    """Which experiments."""

    limit: Limit = 100


class ExperimentsRow(Answer, frozen=True, kw_only=True):
    """An experiment; `first_at` and `last_at` are the starts of its first and its newest minute."""

    tenant_id: str
    experiment: str
    variants: Annotated[list[str], Meta(description="By name, 200 at most")]
    calls: int
    first_at: Time
    last_at: Time


class ExperimentsAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    experiments: list[ExperimentsRow]
    count: int


@app.page("/v1/experiments")
class Experiments(View):
    """The experiments that calls and evaluations have named."""

    @asks(ExperimentsAsked, ExperimentsAnswer)
    async def get(self, asked: ExperimentsAsked) -> dict[str, Any]:
        rows = await answered(experiments.experiments(current().pool, **msgspec.structs.asdict(asked)))
        return {"experiments": rows, "count": len(rows)}


def _read_metric(asked: Parameters, field: str) -> str:
    metric = asked.name(field)
    if metric not in METRICS and not (metric.startswith(SCORE) and metric != SCORE):
        raise Problem(400, f"not one of {', '.join(METRICS)}, nor {SCORE} and the name of an evaluation", field=field)
    return metric


def _read_shares(asked: Parameters, field: str) -> dict[str, float]:
    given = [_WEIGHT.fullmatch(each) for each in asked.name(field).split(",")]
    shares = {each[1]: float(each[2]) for each in given if each}
    if len(shares) < len(given) or not all(shares.values()):
        raise Problem(400, "not the weights, above 0, of different variants, as A:0.9,B:0.1", field=field)
    return shares


class ComparisonAsked(Spanned, frozen=True, kw_only=True):
    """Which experiment, and what its variants are compared by. Without a tenant: of the only one that has it."""

    experiment: Name
    metric: Annotated[
        str,
        reads(_read_metric, f"{', '.join(METRICS)}, or {SCORE} and the name of an evaluation", type="string"),
    ] = "latency_ms"
    baseline: Annotated[Name | None, Meta(description="The first variant by name")] = None
    expected: (
        Annotated[
            dict[str, float],
            reads(_read_shares, "Weights of the variants, as A:0.9,B:0.1; equal ones unless given", type="string"),
        ]
        | None
    ) = None


class VariantRow(Answer, frozen=True, kw_only=True):
    """A variant beside the baseline, which has no differences; null too is what can't be told of so few."""

    variant: str
    n: Annotated[int, Meta(description="Calls or evaluations that have a value")]
    mean: float | None
    standard_deviation: float | None
    interval: Annotated[Interval | None, Meta(description="Of the mean, at every look")]
    difference: float | None
    relative_difference: Annotated[float | None, Meta(description="Of the baseline's mean, which is 1")]
    difference_interval: Annotated[
        Interval | None, Meta(description="At every look; corrected for the number of variants")
    ]
    p_value: Annotated[float | None, Meta(description="At every look; corrected for the number of variants")]


class SampleRatioAnswer(Answer, frozen=True, kw_only=True):
    """Whether the variants have the shares of calls that they should; below a p-value of 0.01 they have not."""

    expected: Annotated[dict[str, float], Meta(description="Shares, of 1")]
    observed: Annotated[dict[str, int], Meta(description="Calls")]
    p_value: float
    ok: bool


class ComparisonAnswer(Answer, frozen=True, kw_only=True):
    """Variants by name, in the unit of the metric; differences are from the baseline."""

    tenant_id: str
    experiment: str
    metric: str
    baseline: str
    alpha: float
    variants: list[VariantRow]
    sample_ratio: SampleRatioAnswer


@app.page("/v1/experiments/{experiment}")
class Comparison(View):
    """How the variants of an experiment differ, with intervals and p-values that hold however often one asks."""

    @asks(ComparisonAsked, ComparisonAnswer)
    async def get(self, asked: ComparisonAsked) -> dict[str, Any]:
        tenant_id, found = await answered(_measured(asked))
        variants = [each.variant for each in found]
        baseline = asked.baseline or variants[0]
        if baseline not in variants:
            raise Problem(400, "there is no such variant", field="baseline")
        compared = compare({each.variant: _sample(asked.metric, each) for each in found}, baseline)
        ratio = sample_ratio({each.variant: each.calls for each in found}, asked.expected)
        return {
            "tenant_id": tenant_id,
            "experiment": asked.experiment,
            "metric": asked.metric,
            "baseline": baseline,
            "alpha": ALPHA,
            "variants": msgspec.to_builtins(compared),
            "sample_ratio": msgspec.to_builtins(ratio),
        }


async def _measured(asked: ComparisonAsked) -> tuple[str, list[Measured]]:
    """The experiment's tenant and what its variants measured. Raises `Problem`."""
    pool, tenant_id = current().pool, asked.tenant_id
    if tenant_id is None:
        tenants = await experiments.tenants_of(pool, asked.experiment)
        if len(tenants) > 1:
            raise Problem(400, "several tenants have an experiment of this name: which is meant?", field="tenant_id")
        tenant_id = tenants[0] if tenants else ""
    span = asked.from_us, asked.to_us
    found = await experiments.moments(pool, tenant_id, asked.experiment, asked.metric, *span)
    if not found:
        raise Problem(404, "there is no such experiment in this time")
    return tenant_id, found


def _sample(metric: str, measured: Measured) -> Sample:
    low, is_share = (-inf if metric.startswith(SCORE) else 0.0), metric == "error_rate"
    return Sample(measured.count, measured.sum, measured.squares, low, 1.0 if is_share else inf, is_share)
