"""What an ONNX file asks for, read from its bytes before anything is made of it.

The wire format of protocol buffers and the numbers of the fields are those of the ONNX specification (onnx.proto).
"""

import math
from collections.abc import Iterator
from pathlib import Path

from underpaint.errors import ModelError
from underpaint.runtime.untrusted import read_bounded

MAX_BYTES = 64 * 2**20
"""The largest network that ships has 5.6 MB."""
MAX_NODES = 5000
_MAX_FIELDS = 200_000
_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_STANDARD_DOMAINS = {b"", b"ai.onnx"}
_EXTERNAL_LOCATION = 1
_Field = tuple[int, int | memoryview]


def read_network(path: Path) -> bytes:
    """Read an ONNX file that may be made into a network.

    Raises
    ------
    ModelError
        As for :func:`check_network`; also, the file cannot be read.
    """
    content = read_bounded(path, MAX_BYTES, ModelError)
    check_network(content, str(path))
    return content


def check_network(content: bytes, name: str) -> None:
    """Refuse what a network of this package does not need, and what could take memory or time without bound.

    That is nested graphs (loops, branches), functions, operators of others, weights in other files, sparse weights,
    and weights that say they are larger than the file.

    Raises
    ------
    ModelError
        One of them, or the file is damaged or too large.
    """
    if len(content) > MAX_BYTES:
        raise ModelError(f"Cannot load the network {name}: it has {len(content)} bytes, up to {MAX_BYTES} are allowed.")
    try:
        _NetworkChecker().model(memoryview(content))
    except _RefusedError as refused:
        raise ModelError(
            f"Cannot load the network {name}: {refused}. Take one that this package wrote, shipped or from "
            "`underpaint train`."
        ) from None


class _RefusedError(Exception):
    pass


class _NetworkChecker:
    def __init__(self) -> None:
        self.n_field = self.n_node = 0

    def model(self, content: memoryview) -> None:
        graphs = 0
        for field, value in self.fields(content):
            if field == 7:
                graphs += 1
                self.graph(_message(value))
            elif field == 8:
                self.domain(value, 1)
            elif field in {20, 25}:
                reason = "it holds functions or a training graph, which networks of this package do not have"
                raise _RefusedError(reason)
        if not graphs:
            reason = "the file is damaged: no graph is in it"
            raise _RefusedError(reason)

    def graph(self, content: memoryview) -> None:
        for field, value in self.fields(content):
            if field == 1:
                self.n_node += 1
                self.node(_message(value))
            elif field == 5:
                self.tensor(_message(value))
            elif field == 15:
                reason = "it holds sparse weights, whose full size has no bound"
                raise _RefusedError(reason)
        if self.n_node > MAX_NODES:
            reason = f"it has {self.n_node} operators, up to {MAX_NODES} are allowed"
            raise _RefusedError(reason)

    def node(self, content: memoryview) -> None:
        self.domain(content, 7)
        for field, value in self.fields(content):
            if field == 5:
                self.attribute(_message(value))

    def domain(self, content: int | memoryview, number: int) -> None:
        for field, value in self.fields(_message(content)):
            if field == number and bytes(_message(value)) not in _STANDARD_DOMAINS:
                reason = f"it calls operators of {bytes(_message(value))[:60]!r}; only those of ONNX itself are run"
                raise _RefusedError(reason)

    def attribute(self, content: memoryview) -> None:
        for field, value in self.fields(content):
            if field in {5, 10}:
                self.tensor(_message(value))
            elif field in {6, 11}:
                reason = "it holds loops or branches (nested graphs), whose time has no bound"
                raise _RefusedError(reason)
            elif field in {22, 23}:
                reason = "it holds sparse weights, whose full size has no bound"
                raise _RefusedError(reason)

    def tensor(self, content: memoryview) -> None:
        sizes: list[int] = []
        for field, value in self.fields(content):
            if field == 1:
                sizes += [value] if isinstance(value, int) else self.packed(value)
            elif field == 13 or (field == 14 and value == _EXTERNAL_LOCATION):
                reason = "its weights lie in another file, which is not opened"
                raise _RefusedError(reason)
        # The smallest numbers take half a byte.
        if math.prod(sizes) > 2 * len(content):
            reason = f"weights of {' x '.join(map(str, sizes[:8]))} are said to lie in {len(content)} bytes"
            raise _RefusedError(reason)

    def packed(self, content: memoryview) -> list[int]:
        values, at = [], 0
        while at < len(content):
            value, at = _varint(content, at)
            values.append(value)
            self.count()
        return values

    def fields(self, content: memoryview) -> Iterator[_Field]:
        """Yield number and value of each field of a message."""
        at = 0
        while at < len(content):
            self.count()
            key, at = _varint(content, at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = _varint(content, at)
                yield number, value
                continue
            if kind == _LENGTH:
                size, at = _varint(content, at)
            elif kind in {_FIXED_64, _FIXED_32}:
                size = 8 if kind == _FIXED_64 else 4
            else:
                reason = "the file is damaged: it is not ONNX"
                raise _RefusedError(reason)
            if at + size > len(content):
                reason = "the file is damaged: it is not ONNX, or cut short"
                raise _RefusedError(reason)
            yield number, content[at : at + size]
            at += size

    def count(self) -> None:
        self.n_field += 1
        if self.n_field > _MAX_FIELDS:
            reason = f"it has more than {_MAX_FIELDS} fields"
            raise _RefusedError(reason)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        reason = "the file is damaged: a number stands where a part is expected"
        raise _RefusedError(reason)
    return value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    reason = "the file is damaged: it is not ONNX, or cut short"
    raise _RefusedError(reason)
