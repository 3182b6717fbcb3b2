"""Data points of metrics as measurements of systems. Gauges and sums have one value; histograms are not taken."""

from collections.abc import Iterator
from typing import Any

import msgspec

from streamlens.errors import BadEvent
from streamlens.observations import MAX_TAGS
from streamlens.otlp.scalars import bounded
from streamlens.otlp.values import Resource, Value, attributes_of, float_of, moment, text_of

_NO_VALUE = 1
"""The flag of a point that says only that a series has ended."""
_encode = msgspec.json.Encoder().encode


def events(request: Any, key_tenant: str | None, received_us: int) -> Iterator[tuple[Any, bytes | BadEvent | None]]:
    """Each metric of an `ExportMetricsServiceRequest`, once per data point, with the measurement that the point is, as
    JSON, None if it has no value, or why it is not taken."""
    for group in request.resource_metrics or ():
        resource = Resource.of(group.resource, key_tenant)
        for scope in group.scope_metrics or ():
            for metric in scope.metrics or ():
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points or () if kind else ():
                    try:
                        yield metric, measurement_of(metric, kind, point, resource, received_us)
                    except BadEvent as error:
                        yield metric, error


def measurement_of(metric: Any, kind: str, point: Any, resource: Resource, received_us: int) -> bytes | None:
    """The measurement, as JSON, that a point is. It still has to be validated. Raises `BadEvent`."""
    if kind not in ("gauge", "sum"):
        raise BadEvent("", f"data points of kind {kind} are not taken, only those of gauges and sums")
    value = point.WhichOneof("value")
    if value is None or (point.flags or 0) & _NO_VALUE:
        return None
    said = attributes_of(point.attributes)
    service: dict[str, Value] = {"service.name": resource.service} if resource.service else {}
    measurement = {
        "timestamp": moment(point.time_unix_nano or received_us * 1000),
        "name": metric.name or "",
        "value": float_of(getattr(point, value)),
        "unit": (metric.unit or "")[:256],
        "tenant_id": text_of(said.get("tenant.id", said.get("tenant_id"))) or resource.tenant_id,
        "tags": bounded(service | said, MAX_TAGS),
    }
    return _encode(measurement)


def refusal(metric: Any, error: BadEvent) -> str:
    """A sentence for the sender of a point that is not taken."""
    return f'metric "{(metric.name or "")[:64]}": ' + (f"{error.field}: " if error.field else "") + error.detail
