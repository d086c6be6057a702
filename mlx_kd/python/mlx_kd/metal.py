"""Unmodified programs with Metal kernels, on machines that are not a Mac.

>>> import mlx_kd
>>> with mlx_kd.enable_metal_kernels(report_metal_available=True):  # doctest: +SKIP
...     import mlx_lm                                               # its kernels are now made by mlx_kd
"""
from __future__ import annotations

import os
import threading

import mlx.core as mx

from mlx_kd import _core
from mlx_kd._core import metal_kernel

TYPE_CHECKING = False  # type checkers read True
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable, Optional, Type, Union

__all__ = ["KernelFault", "MetalKernels", "enable_metal_kernels", "metal_kernel"]

_lock = threading.RLock()
_enabled: list["MetalKernels"] = []
_replaced: list[tuple[Any, str, Any]] = []  # what MLX had there
_tracing = threading.local()  # .depth: exports that this thread is in
_gpu = mx.gpu
_mlx_kernel: Any = mx.fast.metal_kernel


class KernelFault(RuntimeError):
    """What watching Metal kernels found, where ``report="raise"`` was asked for."""


class _CpuThatPassesForAGpu(mx.Device):
    """The CPU, equal to itself and to mx.gpu. Everything that takes a device takes it as the CPU."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CpuThatPassesForAGpu) or bool(_gpu == other) or bool(super().__eq__(other))

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


def _device_count(real: Callable[..., int]) -> Callable[..., int]:
    def device_count(device: Any) -> int:
        return 1 if isinstance(device, _CpuThatPassesForAGpu) or device == _gpu else real(device)

    device_count.__doc__ = real.__doc__
    return device_count


class _Kernel:
    """A kernel in place of MLX's. While MLX traces for an export, calls go to MLX's own: it can be written."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._ours = metal_kernel(*args, **kwargs)
        kwargs.pop("check", None)
        self._made_of = args, kwargs

    def __call__(self, **kwargs: Any) -> Any:
        if getattr(_tracing, "depth", 0):
            args, named = self._made_of
            return _mlx_kernel(*args, **named)(**kwargs)
        for one in _enabled:
            one._raise_findings()
        if kwargs.get("stream") is _gpu:
            kwargs["stream"] = mx.cpu
        return self._ours(**kwargs)


def _kernel(*args: Any, **kwargs: Any) -> _Kernel:
    return _Kernel(args, kwargs)


_kernel.__doc__ = metal_kernel.__doc__


def _traced(real: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*args: Any, **kwargs: Any) -> Any:
        _tracing.depth = getattr(_tracing, "depth", 0) + 1
        try:
            return real(*args, **kwargs)
        finally:
            _tracing.depth -= 1

    traced.__doc__ = real.__doc__
    return traced


class _Exporter:
    """mx.exporter, whose calls trace."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __enter__(self) -> "_Exporter":
        self._real.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._real.__exit__(*error)

    def close(self) -> None:
        self._real.close()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _traced(self._real)(*args, **kwargs)


def _exporter(real: Callable[..., Any]) -> Callable[..., Any]:
    def exporter(*args: Any, **kwargs: Any) -> _Exporter:
        return _Exporter(real(*args, **kwargs))

    exporter.__doc__ = real.__doc__
    return exporter


def _replacements(report_metal_available: bool) -> list[tuple[Any, str, Any]]:
    found: list[tuple[Any, str, Any]] = [(mx.fast, "metal_kernel", _kernel),
                                         (mx, "export_function", _traced(mx.export_function)),
                                         (mx, "exporter", _exporter(mx.exporter))]
    if report_metal_available:
        found += [(mx.metal, "is_available", lambda: True),
                  (mx, "gpu", _CpuThatPassesForAGpu(mx.cpu, 0)),
                  (mx, "device_count", _device_count(mx.device_count)),
                  (mx, "default_device", _default_device(mx.default_device)),
                  (mx, "device_info", _device_info(mx.device_info)),
                  (mx.metal, "device_info", _device_info(mx.device_info))]
    return found


def _apply() -> None:
    """MLX as it is with what is enabled now."""
    for where, name, value in _replaced:
        setattr(where, name, value)
    _replaced.clear()
    watching = [(one, one.check) for one in _enabled if one.check is not None]
    if watching:
        last, checks = watching[-1]
        _core._watch_kernels(checks, last.order, last.seed, last.budget_s, last.report == "stderr")
    else:
        _core._watch_kernels(os.environ.get("MLX_KD_METAL_CHECK", ""))
    if not _enabled or mx.metal.is_available():  # on a Mac all of it is true already
        return
    for where, name, value in _replacements(any(one.report_metal_available for one in _enabled)):
        _replaced.append((where, name, getattr(where, name)))
        setattr(where, name, value)


class MetalKernels:
    """What :func:`enable_metal_kernels` returns: the way back, and a context manager."""

    def __init__(self, report_metal_available: bool, check: Optional[str], order: str, seed: int, budget_s: float,
                 report: Union[str, Callable[[dict[str, Any]], None]]) -> None:
        if not callable(report) and report not in ("stderr", "raise"):
            raise ValueError(f"[metal_kernel] report {report!r} is neither 'stderr', 'raise' nor a callable")
        self.report_metal_available = report_metal_available
        self.check, self.order, self.seed, self.budget_s, self.report = check, order, seed, budget_s, report
        self._reports: list[dict[str, Any]] = []
        self._raised = 0
        with _lock:
            _enabled.append(self)
            try:
                _apply()
            except Exception:
                _enabled.remove(self)
                raise

    def reports(self) -> list[dict[str, Any]]:
        """One entry for each kernel and signature that was watched so far.

        Its keys are ``kernel``, ``grid``, ``threadgroup``, ``threadgroups`` (of the call), ``watched`` (of them),
        ``findings`` (a line each) and ``note`` (why watching ended early, or an empty text).
        """
        mx.synchronize()
        return self._take()

    def _take(self) -> list[dict[str, Any]]:
        with _lock:
            fresh = _core._take_reports()
            self._reports += fresh
        if callable(self.report):
            for one in fresh:
                self.report(one)
        return list(self._reports)

    def _raise_findings(self) -> None:
        if self.report != "raise":
            return
        found = [f"kernel '{one['kernel']}': {line}" for one in self._take() for line in one["findings"]]
        fresh, self._raised = found[self._raised:], len(found)
        if fresh:
            raise KernelFault("[metal_kernel] " + "\n".join(fresh))

    def disable(self) -> None:
        """Put back what was there. What was enabled twice is undone twice, in any order; again does nothing."""
        with _lock:
            if self not in _enabled:
                return
            if self.check is not None:
                self.reports()
            _enabled.remove(self)
            _apply()
        self._raise_findings()

    def __enter__(self) -> "MetalKernels":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        try:
            self.disable()
        except KernelFault:
            if error is None:
                raise


def enable_metal_kernels(report_metal_available: bool = False, check: Optional[str] = None, order: str = "forward",
                         seed: int = 0, budget_s: float = 1.0,
                         report: Union[str, Callable[[dict[str, Any]], None]] = "stderr") -> MetalKernels:
    """Put :func:`metal_kernel` in place of ``mx.fast.metal_kernel``, so that programs run their Metal kernels here.

    Call it before the program is imported: many make their kernels when they are. On a Mac nothing changes.

    Parameters
    ----------
    report_metal_available : bool
        Whether the guards that programs put before such kernels let them through as well:
        ``mx.metal.is_available()`` and ``mx.is_available(mx.gpu)`` are true, ``mx.default_device() == mx.gpu``
        holds, and ``mx.device_info()`` has the entries of a Metal device. ``mx.gpu`` is the CPU then, wherever a
        device or a stream is taken.
    check : str, optional
        What is watched at the first call of each kernel with each size: ``"races,memory"``, one of them, or
        ``"none"``. None: what ``MLX_KD_METAL_CHECK`` says.
    order : {"forward", "reverse", "random"}
        In which order the threads of a group run, in all calls; with `check` alone.
    seed : int
        Of the random order.
    budget_s : float
        Seconds for watching one kernel at one size: as many threadgroups as fit, at least one.
    report : "stderr", "raise" or callable
        Where findings go: to stderr when they are found, into a :class:`KernelFault` of the next call of a kernel
        or of ``disable()``, or to a function that takes an entry of :meth:`MetalKernels.reports`.

    Returns
    -------
    MetalKernels
        Its ``disable()`` is the way back; as a context manager it goes back by itself.
    """
    return MetalKernels(report_metal_available, check, order, seed, budget_s, report)
