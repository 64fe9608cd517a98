"""ONNX files and model cards of trained networks, which can be read without torch.

The bytes of an ONNX file are checked before a network is created from them. The wire format of protocol buffers and the
field numbers are those of the ONNX specification (onnx.proto).
"""

import math
from collections.abc import Iterator
from pathlib import Path

from underpaint.errors import ModelError
from underpaint.pigments.weights.card import (
    UNBOUNDED_LOG_ODDS,
    LayersKind,
    ModelAxis,
    ModelCard,
    NetworkKind,
    PaperKind,
    PredictionSets,
    Training,
    load_card,
    model_path,
    shipped_models,
)
from underpaint.runtime.untrusted import read_bounded

__all__ = [
    "UNBOUNDED_LOG_ODDS",
    "LayersKind",
    "ModelAxis",
    "ModelCard",
    "NetworkKind",
    "PaperKind",
    "PredictionSets",
    "Training",
    "check_network",
    "load_card",
    "model_path",
    "read_network",
    "shipped_models",
]


MAX_BYTES = 64 * 2**20
"""Maximum size of a network, in bytes. The largest included network has 7 MB."""
MAX_NODES = 5000
_MAX_FIELDS = 200_000
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_STANDARD_DOMAINS = {b"", b"ai.onnx"}
_EXTERNAL_LOCATION = 1
_Field = tuple[int, int | memoryview]


def read_network(path: Path) -> bytes:
    """Read and check an ONNX file.

    Raises
    ------
    ModelError
        The file cannot be read, or :func:`check_network` refuses it.
    """
    content = read_bounded(path, MAX_BYTES, ModelError)
    check_network(content, str(path))
    return content


def check_network(content: bytes, name: str) -> None:
    """Raise an error for content that could need unlimited memory or time, or that this package never writes.

    Nested graphs (loops, branches), functions and operators of other domains are refused. Refused weights are those in
    other files, sparse weights, and weights with a declared size above that of the file.

    Raises
    ------
    ModelError
        The file is damaged or too large, or contains refused content.
    """
    if len(content) > MAX_BYTES:
        raise ModelError(f"Cannot load the network {name}: it has {len(content)} bytes, up to {MAX_BYTES} are allowed.")
    try:
        _NetworkChecker().check_model(memoryview(content))
    except _RefusedError as refused:
        raise ModelError(
            f"Cannot load the network {name}: {refused}. Take one that is included in this package or was written by "
            "`underpaint train`."
        ) from None


class _RefusedError(Exception):
    pass


class _NetworkChecker:
    def __init__(self) -> None:
        self.n_field = self.n_node = 0

    def check_model(self, content: memoryview) -> None:
        n_graph = 0
        for field_number, field_value in self.iterate_fields(content):
            if field_number == 7:
                n_graph += 1
                self.check_graph(_as_message(field_value))
            elif field_number == 8:
                self.check_domain(field_value, 1)
            elif field_number in {20, 25}:
                reason = "it contains functions or a training graph, which networks of this package do not have"
                raise _RefusedError(reason)
        if not n_graph:
            reason = "the file is damaged: it contains no graph"
            raise _RefusedError(reason)

    def check_graph(self, content: memoryview) -> None:
        for field_number, field_value in self.iterate_fields(content):
            if field_number == 1:
                self.n_node += 1
                self.check_node(_as_message(field_value))
            elif field_number == 5:
                self.check_tensor(_as_message(field_value))
            elif field_number == 15:
                reason = "it holds sparse weights, whose full size has no bound"
                raise _RefusedError(reason)
        if self.n_node > MAX_NODES:
            reason = f"it has {self.n_node} operators, up to {MAX_NODES} are allowed"
            raise _RefusedError(reason)

    def check_node(self, content: memoryview) -> None:
        self.check_domain(content, 7)
        for field_number, field_value in self.iterate_fields(content):
            if field_number == 5:
                self.check_attribute(_as_message(field_value))

    def check_domain(self, content: int | memoryview, domain_field: int) -> None:
        for field_number, field_value in self.iterate_fields(_as_message(content)):
            if field_number == domain_field and bytes(_as_message(field_value)) not in _STANDARD_DOMAINS:
                reason = (
                    f"it calls operators of {bytes(_as_message(field_value))[:60]!r}; only ONNX operators are allowed"
                )
                raise _RefusedError(reason)

    def check_attribute(self, content: memoryview) -> None:
        for field_number, field_value in self.iterate_fields(content):
            if field_number in {5, 10}:
                self.check_tensor(_as_message(field_value))
            elif field_number in {6, 11}:
                reason = "it contains loops or branches (nested graphs), whose computing time has no limit"
                raise _RefusedError(reason)
            elif field_number in {22, 23}:
                reason = "it holds sparse weights, whose full size has no bound"
                raise _RefusedError(reason)

    def check_tensor(self, content: memoryview) -> None:
        tensor_shape: list[int] = []
        for field_number, field_value in self.iterate_fields(content):
            if field_number == 1:
                tensor_shape += (
                    [field_value] if isinstance(field_value, int) else self.read_packed_integers(field_value)
                )
            elif field_number == 13 or (field_number == 14 and field_value == _EXTERNAL_LOCATION):
                reason = "its weights are in another file, which is not opened"
                raise _RefusedError(reason)
        # The smallest number type takes half a byte.
        if math.prod(tensor_shape) > 2 * len(content):
            reason = f"it declares weights of {' x '.join(map(str, tensor_shape[:8]))} in {len(content)} bytes"
            raise _RefusedError(reason)

    def read_packed_integers(self, content: memoryview) -> list[int]:
        integers, byte_position = [], 0
        while byte_position < len(content):
            value, byte_position = _read_varint(content, byte_position)
            integers.append(value)
            self.count_field()
        return integers

    def iterate_fields(self, content: memoryview) -> Iterator[_Field]:
        """Yield the number and value of each field of a message."""
        byte_position = 0
        while byte_position < len(content):
            self.count_field()
            field_tag, byte_position = _read_varint(content, byte_position)
            field_number, wire_type = field_tag >> 3, field_tag & 7
            if wire_type == _VARINT:
                field_value, byte_position = _read_varint(content, byte_position)
                yield field_number, field_value
                continue
            if wire_type == _LENGTH_DELIMITED:
                n_byte, byte_position = _read_varint(content, byte_position)
            elif wire_type in {_FIXED_64, _FIXED_32}:
                n_byte = 8 if wire_type == _FIXED_64 else 4
            else:
                reason = "the file is damaged: it is not ONNX"
                raise _RefusedError(reason)
            if byte_position + n_byte > len(content):
                reason = "the file is damaged: it is not ONNX, or cut short"
                raise _RefusedError(reason)
            yield field_number, content[byte_position : byte_position + n_byte]
            byte_position += n_byte

    def count_field(self) -> None:
        self.n_field += 1
        if self.n_field > _MAX_FIELDS:
            reason = f"it has more than {_MAX_FIELDS} fields"
            raise _RefusedError(reason)


def _as_message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        reason = "the file is damaged: it has a number in place of a message"
        raise _RefusedError(reason)
    return value


def _read_varint(content: memoryview, byte_position: int) -> tuple[int, int]:
    value = 0
    for bit_shift in range(0, 70, 7):
        if byte_position >= len(content):
            break
        next_byte = content[byte_position]
        byte_position += 1
        value |= (next_byte & 0x7F) << bit_shift
        if next_byte < 0x80:
            return value, byte_position
    reason = "the file is damaged: it is not ONNX, or cut short"
    raise _RefusedError(reason)
