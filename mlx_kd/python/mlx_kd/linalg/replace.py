"""enable(): the functions of mlx_kd.linalg in the place of mx.linalg's."""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

from mlx_kd._core import raising
from mlx_kd.linalg import arrays as ar
from mlx_kd.linalg import decompositions, measures, solving
from mlx_kd.linalg.calls import MLX

_lock = threading.RLock()
_handles: list["Replaced"] = []

REPLACED = {
    **{name: getattr(decompositions, name) for name in (
        "cholesky", "eig", "eigh", "eigvals", "eigvalsh", "lu", "lu_factor", "qr", "svd")},
    **{name: getattr(solving, name) for name in (
        "cholesky_inv", "det", "inv", "pinv", "slogdet", "solve", "solve_triangular", "tri_inv")},
    **{name: getattr(measures, name) for name in ("cross", "norm")}}

# Evaluation of these raises in MLX where a matrix fails.
MESSAGES = {"inv": "[Inverse::eval_cpu] LU factorization failed with error code ",
            "solve": "[Inverse::eval_cpu] triangular inversion failed with error code ",
            "svd": "[SVD::eval_cpu] SVD failed with error code "}


def _with_exceptions(name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(ours)
    def function(*args: Any, stream: ar.Stream = None, **options: Any) -> Any:
        where = ar.place(stream)
        if not ar.is_cpu(where) or options.get("return_info") or options.get("check"):
            return ours(*args, stream=stream, **options)
        *found, info = ours(*args, stream=where, return_info=True, **options)
        checked = raising(found, info, MESSAGES[name], where)
        return checked[0] if len(checked) == 1 else tuple(checked)
    return function


class Replaced:
    """Ours in the place of MLX's until disable(), or the end of a with."""

    def __init__(self) -> None:
        self._is_on = True

    def disable(self) -> None:
        """Takes this call of enable() back; MLX's functions are there again after the last one."""
        with _lock:
            if not self._is_on:
                return
            self._is_on = False
            _handles.remove(self)
            if not _handles:
                for name in REPLACED:
                    setattr(mx.linalg, name, getattr(MLX, name))

    def __enter__(self) -> "Replaced":
        return self

    def __exit__(self, *_: Optional[object]) -> None:
        self.disable()


def enable() -> Replaced:
    """Puts the functions of this module in the place of those of mx.linalg with the same names.

    On a CPU stream inv, solve and svd raise at their evaluation where a matrix fails, as MLX's do; the others, and
    all of them on a GPU, give NaN.
    """
    with _lock:
        handle = Replaced()
        if not _handles:
            for name, ours in REPLACED.items():
                setattr(mx.linalg, name, _with_exceptions(name, ours) if name in MESSAGES else ours)
        _handles.append(handle)
        return handle
