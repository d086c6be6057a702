"""Caches as bytes between processes: exo's frames for the caches that exo knows, an extension frame for all others.

>>> frames = mlx_kd.wire.pack(cache, "request", "model")       # doctest: +SKIP
>>> received = mlx_kd.wire.unpack(frames)                      # doctest: +SKIP
>>> received.cache, received.total_tokens                      # doctest: +SKIP

:func:`frames` gives the same bytes layer by layer, :func:`send` and :func:`receive` use a stream. The format is in
docs/formats.md. Errors name the frame, and a stream that is wrong anywhere gives no cache at all.
"""
from mlx_kd.wire.caches import frames, pack, send
from mlx_kd.wire.reading import Assembler, Received, RemoteError, receive, receive_request, unpack
from mlx_kd.wire.tensors import (
    LIMITS, error_frame, pack_tensor, request_frame, unpack_tensor)

__all__ = ["Assembler", "LIMITS", "Received", "RemoteError", "error_frame", "frames", "pack", "pack_tensor", "receive",
           "receive_request", "request_frame", "send", "unpack", "unpack_tensor"]
