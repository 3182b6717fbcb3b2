"""Requests of spans as protobuf has them, but for the attributes of spans: these stay bytes, a `KeyValue` each.

An object for each attribute and its value takes more time than all else that is done to a span, and most attributes
are of no interest. Only those that mean something are decoded.
"""

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

_KEY, _VALUE, _TEXT, _INT = 0x0A, 0x12, 0x0A, 0x18
"""The tags of what is in a `KeyValue`, and of a text in its value. Sizes below 128 are one byte."""
_SHORT = 128
"""Bytes."""
_MOST_SEEN = 1 << 12
_seen: dict[bytes, tuple[str, Value] | None] = {}
"""What short attributes say. Most come again and again: models, providers, why a call ended. Emptied when it is full,
which costs less than to forget what was seen long ago."""
_heads = {bytes((_KEY, len(name))) + name.encode(): name for name in KNOWN}
"""How the bytes of known attributes begin, as all encoders write them."""


def known_attributes_of(raws: Any) -> dict[str, Value]:
    """Those of a span that mean something, as `values.attributes_of` finds them. Raises `BadEvent` for bytes that are
    no attribute."""
    pairs = [_seen[raw] if len(raw) <= _SHORT and raw in _seen else _seen_first(raw) for raw in raws[::-1]]
    return dict(filter(None, pairs))


def _seen_first(raw: bytes) -> tuple[str, Value] | None:
    pair = _pair_of(raw)
    if len(raw) <= _SHORT:
        if len(_seen) == _MOST_SEEN:
            _seen.clear()
        _seen[raw] = pair
    return pair


def _pair_of(raw: bytes) -> tuple[str, Value] | None:
    """Name and value of an attribute, if it is known and has one."""
    at = 2 + raw[1] if len(raw) > 1 and raw[0] == _KEY and raw[1] < 0x80 else 0
    name = _heads.get(raw[:at])
    if at and name is None:
        return None
    size = len(raw) - at - 2
    if name and 2 <= size < 0x80 and raw[at] == _VALUE and raw[at + 1] == size:
        tag, first = raw[at + 2], raw[at + 3]
        if tag == _TEXT and first == size - 2:
            try:
                return name, raw[at + 4 :].decode()
            except UnicodeDecodeError:
                pass  # refused below
        elif tag == _INT and size == 3 and first >= 0x80 > raw[-1]:
            return name, first & 0x7F | raw[-1] << 7
    try:
        pair = KeyValue.FromString(raw)
    except DecodeError:
        raise BadEvent("attributes", "not protobuf, or a text that is not UTF-8") from None
    value = value_of(pair.value) if pair.key in KNOWN else None
    return None if value is None else (pair.key, value)


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
