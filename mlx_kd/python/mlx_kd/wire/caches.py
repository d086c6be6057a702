"""From the caches of a model to messages. What exo's frames can hold goes in them, all else in the extension."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from mlx_kd import _core
from mlx_kd.wire.states import their_class

FLOATS = {mx.bfloat16: "bfloat16", mx.float16: "float16", mx.float32: "float32"}
FILLED = ("KVCache", "QuantizedKVCache", "ContiguousCache", "QuantizedCache")  # the rows from `offset` on are spare


def is_plain(cache: Any) -> bool:
    """Whether it holds keys and values that a kv_chunk can hold: one sequence, one head size, one float type."""
    if not isinstance(cache, their_class("KVCache")) or cache.keys is None:
        return False
    keys, values = cache.keys, cache.values
    return (isinstance(keys, mx.array) and keys.ndim == 4 and keys.shape == values.shape and keys.shape[0] == 1
            and keys.dtype == values.dtype and keys.dtype in FLOATS and cache.offset > 0)


def is_arrays(cache: Any) -> bool:
    """Whether an arrays_state holds all of it."""
    return (isinstance(cache, their_class("ArraysCache")) and cache.left_padding is None and cache.lengths is None
            and all(one is not None and one.dtype in FLOATS for one in cache.cache))


def is_empty(cache: Any) -> bool:
    """An empty cache of plain keys and values: nothing is sent, and the receiver makes one."""
    return type(cache).__name__ in ("KVCache", "ContiguousCache") and cache.keys is None


def filled(cache: Any) -> Any:
    """The state without its spare rows."""
    state = cache.state
    if type(cache).__name__ in FILLED and cache.keys is not None:
        return tree_map(lambda x: x[..., :cache.offset, :] if isinstance(x, mx.array) else x, list(state[:2])) + list(
            state[2:])
    return state


def nested(state: Any) -> Any:
    """Lists and tuples as lists; what is not an array, number or text is refused when it is packed."""
    return [nested(one) for one in state] if isinstance(state, (list, tuple)) else state


def message(layer: int, cache: Any, start_pos: int) -> list[tuple[Any, ...]]:
    if is_empty(cache):
        return []
    if is_plain(cache):
        if start_pos >= cache.offset:
            raise ValueError(f"[wire] start_pos is {start_pos}, and layer {layer} has {cache.offset} tokens: send those that "
                             "the receiver lacks, at least one")
        return [("kv_chunk", layer, cache.keys[..., start_pos:cache.offset, :],
                 cache.values[..., start_pos:cache.offset, :])]
    if is_arrays(cache):
        return [("arrays_state", layer, list(cache.cache))]
    if not hasattr(type(cache), "from_state"):
        raise ValueError(f"[wire] layer {layer} has a {type(cache).__name__}, which has no from_state: it cannot be made "
                         "again from what is sent")
    return [("mlx_kd.cache", layer, type(cache).__name__, nested(filled(cache)))]


def tokens_of(caches: Sequence[Any], start_pos: int) -> int:
    """How many tokens are sent: as many as each kv_chunk has; without one, as many as the longest cache holds."""
    for cache in caches:
        if is_plain(cache):
            return int(cache.offset) - start_pos
    sizes = [cache.offset for cache in caches if isinstance(getattr(cache, "offset", None), int)]
    return max(sizes, default=0)


def wire_type(caches: Sequence[Any]) -> str:
    return next((FLOATS[cache.keys.dtype] for cache in caches if is_plain(cache)), "bfloat16")


def messages(caches: Sequence[Any], request_id: str, model_id: str, start_pos: int) -> list[list[tuple[Any, ...]]]:
    """The header, then those of each layer, then the end. Everything that can be refused is refused here."""
    if not isinstance(caches, (list, tuple)) or not caches:
        raise ValueError("[wire] a cache is a list with one entry for each layer, as make_prompt_cache returns it")
    if not isinstance(start_pos, int) or start_pos < 0:
        raise ValueError(f"[wire] start_pos is {start_pos!r}: it must be a whole number from 0")
    made = [message(layer, cache, start_pos) for layer, cache in enumerate(caches)]
    lengths = {one[2].shape[2] for layer in made for one in layer if one[0] == "kv_chunk"}
    if len(lengths) > 1:
        raise ValueError(f"[wire] layers hold {sorted(lengths)} tokens: those of a stream must hold equally many")
    header = ("header", request_id, model_id, len(caches), wire_type(caches), start_pos)
    return [[header], *made, [("done", tokens_of(caches, start_pos))]]


def evaluated(one: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    flat: Any = tree_flatten([list(part[2:]) for part in one])
    mx.eval([x for _, x in flat if isinstance(x, mx.array)])
    return one


def pack(cache: Sequence[Any], request_id: str = "", model_id: str = "", start_pos: int = 0, into: Any = None) -> Any:
    """A whole cache as one piece of bytes: header, one frame for each layer, done.

    Parameters
    ----------
    cache : list
        One entry for each layer, as ``make_prompt_cache`` or :func:`mlx_kd.cache.make` return it.
    request_id, model_id : str
        Passed on to the receiver.
    start_pos : int
        Tokens that the receiver has already: keys and values start after them. Caches that go in extension frames
        are sent whole.
    into : buffer, optional
        Memory to write to, such as a ``bytearray`` that is used again; it must be large enough.

    Returns
    -------
    bytes, or int with `into`
        The frames; how many bytes were written.

    Raises
    ------
    ValueError
        If a layer cannot be sent, layers hold different numbers of tokens, or `into` is too small; then nothing was
        written.
    """
    parts = messages(cache, request_id, model_id, start_pos)
    return _core.wire_pack(evaluated([one for part in parts for one in part]), into)


def frames(cache: Sequence[Any], request_id: str = "", model_id: str = "", start_pos: int = 0) -> Iterator[bytes]:
    """The bytes of :func:`pack`, a frame at a time: a layer is packed when its frame is asked for."""
    for part in messages(cache, request_id, model_id, start_pos):
        if part:
            yield _core.wire_pack(evaluated(part))


def send(stream: Any, cache: Sequence[Any], request_id: str = "", model_id: str = "", start_pos: int = 0) -> int:
    """Writes the frames to a stream (``write`` and ``flush``), a layer at a time; returns how many bytes."""
    sent = 0
    for frame in frames(cache, request_id, model_id, start_pos):
        stream.write(frame)
        sent += len(frame)
    stream.flush()
    return sent
