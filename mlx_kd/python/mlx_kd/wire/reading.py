"""From frames to caches. A cache is given out whole, after `done`, or not at all."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Optional

import mlx.core as mx

from mlx_kd import _core
from mlx_kd.wire.states import cache_from, their_class
from mlx_kd.wire.tensors import limits_of, of_frame

PIECE = 1 << 24  # bytes read from a stream at once: memory grows with what arrives, not with what is announced


class RemoteError(RuntimeError):
    """The sender ended its stream with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"[wire] the sender reports error {code}: {message}")
        self.code, self.message = code, message


@dataclass
class Received:
    """A stream that arrived whole."""

    request_id: str
    model_id: str
    start_pos: int
    total_tokens: int
    cache: list[Any]


class Assembler:
    """Takes a stream's bytes in pieces of any size.

    >>> assembler = Assembler()                  # doctest: +SKIP
    >>> while not assembler.feed(read_some()):   # doctest: +SKIP
    ...     pass
    >>> received = assembler.result()            # doctest: +SKIP

    `have` is the cache of the tokens before ``start_pos``, where the sender leaves them out. It is not changed.
    """

    def __init__(self, limits: Optional[Mapping[str, int]] = None, have: Optional[Sequence[Any]] = None) -> None:
        self._limits = limits_of(limits)
        self._of_frame = of_frame(self._limits)
        self._have: Any = have
        self._held = bytearray()
        self._number = self._bytes = 0
        self._header: Any = None
        self._layers: dict[int, Any] = {}
        self._tokens: Optional[int] = None
        self._total: Optional[int] = None
        self._wrong: Optional[BaseException] = None

    def feed(self, data: Any) -> bool:
        """Whether the stream is complete. A wrong frame raises, and so does every later call."""
        if self._wrong is not None:
            raise self._wrong
        try:
            self._bytes += len(data)
            if self._bytes > self._limits["total_bytes"]:
                self._refuse(f"the stream has more than {self._limits['total_bytes']} bytes")
            self._held += data
            while self._take_frame():
                pass
        except (ValueError, RemoteError) as error:
            self._wrong = error
            self._layers, self._held = {}, bytearray()
            raise
        return self._total is not None

    def layers(self) -> list[int]:
        """Which layers have arrived."""
        return sorted(self._layers)

    def result(self) -> Received:
        """The caches of all layers. ValueError where the stream is not complete."""
        if self._wrong is not None:
            raise self._wrong
        if self._header is None or self._total is None:
            what = "ends inside this frame" if self._held else "ends before `done`"
            self._refuse(f"the stream {what}")
        _, request_id, model_id, count, _, start_pos = self._header
        caches = [self._made(layer, start_pos) for layer in range(count)]
        return Received(request_id, model_id, start_pos, self._total, caches)

    def _name(self) -> str:
        return f"frame {self._number}"

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"[wire] {self._name()}: {what}")

    def _take_frame(self) -> bool:
        if len(self._held) < 4:
            return False
        if self._total is not None:
            self._refuse("it follows `done`, which ends a stream")
        length = _core.wire_frame_length(bytes(self._held[:4]), self._of_frame, self._name())
        if len(self._held) < 4 + length:
            return False
        with memoryview(self._held) as held, held[4:4 + length] as payload:
            self._take(payload)
        del self._held[:4 + length]
        self._number += 1
        if self._total is not None and self._held:
            self._refuse("it follows `done`, which ends a stream")
        return True

    def _take(self, payload: memoryview) -> None:
        if self._header is None:
            self._header = _core.wire_read(payload, "header", self._of_frame, self._name())
            if self._header[3] < 1:
                self._refuse("the header announces no layers")
            self._check_have()
            return
        message = _core.wire_read(payload, "message", self._of_frame, self._name())
        if message[0] == "error":
            raise RemoteError(message[1], message[2])
        if message[0] == "done":
            self._finish(message[1])
        else:
            self._add(message)

    def _check_have(self) -> None:
        count, start_pos = self._header[3], self._header[5]
        if start_pos == 0:
            return
        if self._have is None or len(self._have) != count:
            self._refuse(f"the header starts at token {start_pos}: give the cache of the tokens before it, with {count} "
                         "layers, as `have`")

    def _add(self, message: tuple[Any, ...]) -> None:
        kind, layer = message[:2]
        if layer >= self._header[3]:
            self._refuse(f"layer {layer} of {self._header[3]}: the header announces fewer")
        if layer in self._layers:
            self._refuse(f"layer {layer} comes twice")
        if kind == "kv_chunk":
            tokens = message[2].shape[2]
            if self._tokens not in (None, tokens):
                self._refuse(f"layer {layer} has {tokens} tokens, and those before it have {self._tokens}")
            self._tokens = tokens
            self._layers[layer] = ("KVCache", message[2], message[3])
            self._joined(layer)  # refused here, not when all is there
        elif kind == "arrays_state":
            self._layers[layer] = cache_from("ArraysCache", [message[2], None, None], self._name())
        else:
            self._layers[layer] = cache_from(message[2], message[3], self._name())

    def _finish(self, total: int) -> None:
        if self._tokens is not None and total != self._tokens:
            self._refuse(f"`done` counts {total} tokens, and the layers have {self._tokens}")
        self._total = total

    def _joined(self, layer: int) -> tuple[mx.array, mx.array]:
        """Keys and values with those that the receiver has already."""
        start_pos, (_, keys, values) = self._header[5], self._layers[layer]
        if start_pos == 0:
            return keys, values
        have = self._have[layer]
        there = getattr(have, "keys", None)
        if there is None or have.offset < start_pos or there.shape[1] != keys.shape[1] or there.shape[3] != keys.shape[3] \
                or have.values.shape[3] != values.shape[3] or there.dtype != keys.dtype:
            self._refuse(f"layer {layer} does not continue the cache that is there: it needs {start_pos} tokens of the same "
                         "heads, width and type")
        return (mx.concatenate([there[..., :start_pos, :], keys], axis=2),
                mx.concatenate([have.values[..., :start_pos, :], values], axis=2))

    def _made(self, layer: int, start_pos: int) -> Any:
        KVCache = their_class("KVCache")
        if layer not in self._layers:
            return KVCache()
        one = self._layers[layer]
        if not isinstance(one, tuple):
            return one
        keys, values = self._joined(layer)
        return KVCache.from_state((keys, values, keys.shape[2]))


def unpack(data: Any, limits: Optional[Mapping[str, int]] = None, have: Optional[Sequence[Any]] = None) -> Received:
    """The caches of a whole stream.

    Parameters
    ----------
    data : buffer
        What :func:`pack` returned, or what exo sent.
    limits : mapping, optional
        Other values for names of ``LIMITS``.
    have : list, optional
        The cache of the tokens before the sender's ``start_pos``. It is not changed.

    Returns
    -------
    Received
        ``cache`` has one entry for each layer: KVCache for a kv_chunk, ArraysCache for an arrays_state, the class that was
        sent for an extension frame, an empty KVCache for a layer that was not sent.

    Raises
    ------
    ValueError
        Naming the frame: for a stream that is cut short, passes the limits, has unknown types, sizes that do not fit,
        a layer twice or no `done`.
    RemoteError
        If the sender ended the stream with an error.
    """
    assembler = Assembler(limits, have)
    assembler.feed(data)
    return assembler.result()


def receive(stream: Any, limits: Optional[Mapping[str, int]] = None, have: Optional[Sequence[Any]] = None) -> Received:
    """As :func:`unpack`, from a stream (``read``), up to its `done` and no further."""
    assembler = Assembler(limits, have)
    done = False
    while not done:
        done = assembler.feed(whole_frame(stream, assembler))
    return assembler.result()


def receive_request(stream: Any, limits: Optional[Mapping[str, int]] = None) -> tuple[str, str, list[int], int]:
    """What :func:`request_frame` made: request_id, model_id, token_ids, start_pos."""
    given = of_frame(limits_of(limits))
    length = _core.wire_frame_length(exactly(stream, 4, "frame 0"), given, "frame 0")
    return tuple(_core.wire_read(exactly(stream, length, "frame 0"), "request", given, "frame 0")[1:])


def whole_frame(stream: Any, assembler: Assembler) -> bytes:
    name = assembler._name()
    first = exactly(stream, 4, name)
    return first + exactly(stream, _core.wire_frame_length(first, assembler._of_frame, name), name)


def exactly(stream: Any, count: int, name: str) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = stream.read(min(PIECE, count - len(data)))
        if not piece:
            raise ValueError(f"[wire] {name}: the stream ends after {len(data)} of {count} bytes")
        data += piece
    return bytes(data)
