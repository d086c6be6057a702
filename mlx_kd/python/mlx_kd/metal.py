"""Unmodified programs with Metal kernels, on machines that are no Mac.

>>> import mlx_kd
>>> with mlx_kd.enable_metal_kernels(report_metal_available=True):  # doctest: +SKIP
...     import mlx_lm                                               # its kernels are now made by mlx_kd
"""
from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any, Callable, Optional, Type

import mlx.core as mx

from mlx_kd._core import metal_kernel

__all__ = ["MetalKernels", "enable_metal_kernels", "metal_kernel"]

_lock = threading.RLock()
_enabled: list["MetalKernels"] = []
_replaced: list[tuple[Any, str, Any]] = []  # what MLX had there


class _CpuThatPassesForAGpu(mx.Device):
    """The CPU, equal to itself and to mx.gpu. Everything that takes a device takes it as the CPU."""

    def __eq__(self, other: object) -> bool:
        return bool(other == mx.gpu) or bool(super().__eq__(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = mx.Device.__hash__


def _default_device(real: Callable[[], mx.Device]) -> Callable[[], mx.Device]:
    def default_device() -> mx.Device:
        device = real()
        return _CpuThatPassesForAGpu(device.type, 0) if device == mx.cpu else device

    default_device.__doc__ = real.__doc__
    return default_device


def _device_info(real: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """What programs read of a Metal device, where the real one does not say: from the machine's memory."""

    def device_info(*args: Any, **kwargs: Any) -> dict[str, Any]:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        answers = {"memory_size": memory, "max_recommended_working_set_size": memory // 4 * 3,
                   "max_buffer_length": memory // 2, "resource_limit": 499000}
        return {**answers, **real(*args, **kwargs)}

    device_info.__doc__ = real.__doc__
    return device_info


def _replacements(report_metal_available: bool) -> list[tuple[Any, str, Any]]:
    found: list[tuple[Any, str, Any]] = [(mx.fast, "metal_kernel", metal_kernel)]
    if report_metal_available:
        found += [(mx.metal, "is_available", lambda: True),
                  (mx, "default_device", _default_device(mx.default_device)),
                  (mx, "device_info", _device_info(mx.device_info)),
                  (mx.metal, "device_info", _device_info(mx.device_info))]
    return found


def _apply() -> None:
    """MLX as it is with what is enabled now."""
    for where, name, value in _replaced:
        setattr(where, name, value)
    _replaced.clear()
    if not _enabled or mx.metal.is_available():  # on a Mac all of it is true already
        return
    for where, name, value in _replacements(any(one.report_metal_available for one in _enabled)):
        _replaced.append((where, name, getattr(where, name)))
        setattr(where, name, value)


class MetalKernels:
    """What :func:`enable_metal_kernels` returns: the way back, and a context manager."""

    def __init__(self, report_metal_available: bool) -> None:
        self.report_metal_available = report_metal_available
        with _lock:
            _enabled.append(self)
            _apply()

    def disable(self) -> None:
        """Put back what was there. What was enabled twice is undone twice, in any order; again does nothing."""
        with _lock:
            if self in _enabled:
                _enabled.remove(self)
                _apply()

    def __enter__(self) -> "MetalKernels":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.disable()


def enable_metal_kernels(report_metal_available: bool = False) -> MetalKernels:
    """Put :func:`metal_kernel` in place of ``mx.fast.metal_kernel``, so that programs run their Metal kernels here.

    Call it before the program is imported: many make their kernels when they are. On a Mac nothing changes.

    Parameters
    ----------
    report_metal_available : bool
        Whether the guards that programs put before such kernels let them through as well:
        ``mx.metal.is_available()`` is true, ``mx.default_device() == mx.gpu`` holds, and ``mx.device_info()``
        has the entries of a Metal device. The default device stays what it is, and works wherever a device is
        taken.

    Returns
    -------
    MetalKernels
        Its ``disable()`` is the way back; as a context manager it goes back by itself.
    """
    return MetalKernels(report_metal_available)
