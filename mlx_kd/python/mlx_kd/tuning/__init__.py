"""Kernels of the user's own, tuned: :func:`autotune` around a function that makes one, :func:`tuned` for a run.

>>> import mlx.core as mx, mlx_kd
>>> @mlx_kd.autotune(knobs={"TG": [64, 128, 256]}, reference=lambda x: mx.softmax(x, -1))   # doctest: +SKIP
... def softmax_rows(x, *, TG): ...
"""
from __future__ import annotations

import os

from mlx_kd import _core
from mlx_kd.tuning.autotuned import Autotuned

TYPE_CHECKING = False  # type checkers read True
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Union

    PathLike = Union[str, os.PathLike[str]]

__all__ = ["Autotuned", "autotune", "tuned"]


def tuned(path: PathLike, name: str = "") -> _core.Tuned:
    """A kernel of ``kd tune`` with the settings that its run found: ``y = tuned("runs/mine")(inputs=[x])[0]``.

    Parameters
    ----------
    path : str or os.PathLike
        Folder of a run, or a pack.
    name : str
        Name of the kernel, where a pack holds several.

    Returns
    -------
    Tuned
        Called with ``inputs=[...]``, it returns the list of outputs, lazily; grid, group, shapes and types come from
        the run. ``settings`` lists what won.

    Raises
    ------
    ValueError
        If nothing in `path` can run here: no winners, another device, another MLX. A call raises it for a size or a
        type that was not tuned.
    """
    return _core.tuned(os.fspath(path), name)


def autotune(*, knobs: Mapping[str, Sequence[int]], reference: Callable[..., Any], where: Sequence[str] = (),
             ranges: Mapping[str, tuple[Any, Any]] | None = None, serve: str = "reference", background: bool = False,
             judge: str = "bound", budget: int = 50,
             folder: PathLike | None = None) -> Callable[[Callable[..., Any]], Autotuned]:
    """Decorates a function that makes one metal_kernel and calls it, so that its knobs have proved values.

    Until a setting is proved for the arrays of a call, the reference runs. Nothing is tuned inside the program unless
    it is asked for: by :meth:`Autotuned.prepare`, ahead of time, or by `background`. Winners are kept in a pack and
    found again by later processes; ``MLX_KD_AUTOTUNE=0`` switches all of it off, and the reference runs.

    Parameters
    ----------
    knobs : mapping of str to sequence of int
        The values of each keyword of the function; the first are the defaults.
    reference : callable
        The same of MLX's functions: arrays to an array, or to a tuple of them.
    where : sequence of str
        Constraints, as ``"TG * VEC <= 1024"``. A setting at which the function raises is left out as well.
    ranges : mapping, optional
        ``{"index": (0, 99)}``: the least and the most of an input, by the kernel's name of it.
    serve : {"reference", "default"}
        What runs until a setting is proved; "default": the function with its first values, which are not proved.
    background : bool
        Whether sizes that are called are tuned in the background, which pauses while the program makes calls.
    judge : str
        As ``kd tune --judge``.
    budget : int
        Settings to try for each size.
    folder : str or os.PathLike, optional
        Where winners are kept; a folder of the user's cache if left out.

    Returns
    -------
    callable
        Gives an :class:`Autotuned`, called as the function is, without its knobs.

    Raises
    ------
    TypeError
        Around a method.
    ValueError
        For knobs that are not parameters of the function.
    """
    options = {"knobs": knobs, "reference": reference, "where": where, "ranges": ranges or {}, "serve": serve,
               "background": background, "judge": judge, "budget": budget, "folder": folder}
    return lambda function: Autotuned(function, options)
