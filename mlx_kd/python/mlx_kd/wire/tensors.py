"""Single frames and messages, and the limits of what is read."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import mlx.core as mx

from mlx_kd import _core

# What is accepted: bytes of one frame and of a whole stream, values in a frame, layers, axes of an array.
LIMITS = {"frame_bytes": 1 << 30, "total_bytes": 1 << 36, "items": 1 << 20, "layers": 4096, "axes": 8}


def limits_of(given: Optional[Mapping[str, int]]) -> dict[str, int]:
    limits = dict(LIMITS)
    for name, value in (given or {}).items():
        if name not in LIMITS or not isinstance(value, int) or value < 1:
            raise ValueError(f"[wire] the limit {name!r} is {value!r}: limits are {', '.join(LIMITS)}, each a whole number "
                             "from 1")
        limits[name] = value
    return limits


def of_frame(limits: Mapping[str, int]) -> dict[str, int]:
    """The limits that hold for each frame by itself."""
    return {name: value for name, value in limits.items() if name != "total_bytes"}


def request_frame(request_id: str, model_id: str, token_ids: Sequence[int], start_pos: int = 0) -> bytes:
    """What the receiver of a cache sends first: the tokens whose cache it wants, and how many it has already."""
    return bytes(_core.wire_pack([("request", request_id, model_id, [int(t) for t in token_ids], start_pos)]))


def error_frame(code: int, message: str) -> bytes:
    """What ends a stream that cannot be completed, in the place of `done`."""
    return bytes(_core.wire_pack([("error", code, message)]))


def pack_tensor(array: mx.array) -> bytes:
    """exo's older gRPC message ``Tensor``: bytes tensor_data, repeated int32 shape, string dtype."""
    mx.eval(array)
    return _core.wire_grpc_pack(array)


def unpack_tensor(message: Any, limits: Optional[Mapping[str, int]] = None) -> mx.array:
    """The array of a message ``Tensor``.

    Raises
    ------
    ValueError
        If the message is cut short, its bytes do not fit its shape and type, or it passes the limits.
    """
    return _core.wire_grpc_unpack(message, of_frame(limits_of(limits)))
