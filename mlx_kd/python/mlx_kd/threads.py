"""Streams of threads: ``with mlx_kd.own_stream():`` around all that a thread computes."""
from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Optional

import mlx.core as mx


class own_stream:
    """A context manager: the default stream inside is one of this thread alone. ``as`` gives it.

    MLX's default streams belong to the thread that made them, so a thread that computes needs its own. It is made when
    a thread enters for the first time, and used again; MLX keeps it until the thread ends.

    Parameters
    ----------
    device : mlx.core.Device or mlx.core.DeviceType, optional
        MLX's default device if left out.
    """

    _made = threading.local()

    def __init__(self, device: Any = None) -> None:
        self._device = device if device is not None else mx.default_device()
        self._context: Any = None

    def __enter__(self) -> Any:
        if self._context is not None:
            raise ValueError("[threads] this own_stream is entered already: make one for each `with`")
        streams = self._made.__dict__
        name = str(self._device)
        if name not in streams:
            streams[name] = mx.new_thread_local_stream(self._device)
        self._context = mx.stream(streams[name])
        return self._context.__enter__()

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        context, self._context = self._context, None
        context.__exit__(kind, error, trace)
