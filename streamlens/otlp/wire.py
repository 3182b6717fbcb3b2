"""Requests of spans as protobuf has them, but for the attributes of spans: these stay bytes, a `KeyValue` each.

An object for each attribute and its value takes more time than all else that is done to a span, and most attributes
are of no interest. Only those that mean something are decoded.
"""

from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from streamlens.dialects import KNOWN
from streamlens.errors import BadEvent
from streamlens.otlp.values import Value, value_of

_KEY, _VALUE, _TEXT = 0x0A, 0x12, 0x0A
"""The tags of what is in a `KeyValue`, and of a text in its value. Sizes below 128 are one byte."""
_MAX_REMEMBERED_BYTES = 128
_heads = {bytes((_KEY, len(name))) + name.encode(): name for name in KNOWN}
"""How the bytes of known attributes begin, as all encoders write them."""


def known_attributes_of(raws: Any) -> dict[str, Value]:
    """Those of a span that mean something, as `values.attributes_of` finds them. Raises `BadEvent` for bytes that are
    no attribute."""
    pairs = [_of_short(raw) if len(raw) <= _MAX_REMEMBERED_BYTES else _pair_of(raw) for raw in raws[::-1]]
    return dict(filter(None, pairs))


def _pair_of(raw: bytes) -> tuple[str, Value] | None:
    """Name and value of an attribute, if it is known and has one."""
    at = 2 + raw[1] if len(raw) > 1 and raw[0] == _KEY and raw[1] < 0x80 else 0
    name = _heads.get(raw[:at])
    if at and name is None:
        return None
    size = len(raw) - at - 4
    if name and size < 0x7E and tuple(raw[at : at + 4]) == (_VALUE, size + 2, _TEXT, size):
        try:
            return name, raw[at + 4 :].decode()
        except UnicodeDecodeError:
            pass  # refused below
    try:
        pair = KeyValue.FromString(raw)
    except DecodeError:
        raise BadEvent("attributes", "not protobuf, or a text that is not UTF-8") from None
    value = value_of(pair.value) if pair.key in KNOWN else None
    return None if value is None else (pair.key, value)


_of_short = lru_cache(1 << 12)(_pair_of)
"""Most come again and again: models, providers, why a call ended."""


def _load(pool: DescriptorPool, file: FileDescriptor) -> None:
    """Put a file into `pool`, after those that it imports."""
    for each in file.dependencies:
        _load(pool, each)
    changed = FileDescriptorProto()
    file.CopyToProto(changed)
    for message in changed.message_type:
        for field in message.field:
            if (message.name, field.name) == ("Span", "attributes"):
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    pool.AddSerializedFile(changed.SerializeToString())


_pool = DescriptorPool()
_load(_pool, ExportTraceServiceRequest.DESCRIPTOR.file)
TracesRequest: Any = GetMessageClass(_pool.FindMessageTypeByName(ExportTraceServiceRequest.DESCRIPTOR.full_name))
"""An `ExportTraceServiceRequest` whose spans have their attributes as bytes."""
