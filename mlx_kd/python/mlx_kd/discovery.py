"""The search for kernels, from Python: run, report, install, pack, suggest_shapes.

Each starts the program kd that the package brings. (A run pins threads, spawns workers and compiles for minutes, and a
candidate may crash its worker: none of it belongs into the process of a model.)
"""
from __future__ import annotations

TYPE_CHECKING = False  # type checkers read True
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Union

    PathLike = Union[str, os.PathLike[str]]
    Progress = Callable[[Mapping[str, Any]], None]


def run(op: str, out: PathLike, *, shapes: str | Sequence[str] = (), dtype: str = "float16", budget: int = 50,
        seed: int = 0, device: str | None = None, resume: bool = False,
        progress: Progress | bool = False, **options: Any) -> dict[str, Any]:
    """Discovers the fastest kernels of an operator: tries, proves, times and chooses.

    Parameters
    ----------
    op : str
        The operator; :func:`op_names` lists them.
    out : str or os.PathLike
        Folder of the run; made if it is not there.
    shapes : str or sequence of str
        A suite's name, sizes as ``"rows=1,D=4096"``, or a JSON file; the operator's first suite if left out.
    dtype : {"float32", "float16", "bfloat16"}
        Type of the operator's arrays.
    budget : int
        Candidates to evaluate, each on all sizes.
    seed : int
        Of the search and of the test data.
    device : str, optional
        Where to run, as ``kd devices`` lists them.
    resume : bool
        Whether to go on with the run in `out`.
    progress : callable or bool
        Called with each record of ``run.ndjson`` as it is written (docs/formats.md), in this thread. ``True``: kd's own
        progress on stderr.
    **options
        Any other option of ``kd run``, with ``_`` for ``-``: ``time_budget="5m"``.

    Returns
    -------
    dict
        ``out``, ``evaluated``, ``benchmarked``, ``seconds``, and ``sizes``: for each its ``shape``, whether a kernel
        ``won``, its ``candidate_id`` and ``metrics``.

    Raises
    ------
    ValueError
        If something was asked for that cannot be meant: an unknown operator, a folder that holds another run.
    RuntimeError
        If the run could not be carried out: no compiler, disk full.
    KeyboardInterrupt
        On Ctrl-C; ``resume=True`` then continues. An exception of `progress` ends the run likewise.
    """
    from mlx_kd import _run
    arguments = dict(op=op, out=out, shapes=shapes, dtype=dtype, budget=budget, seed=seed, device=device, resume=resume)
    return _run.follow(arguments | options, out, progress)


def report(run: PathLike) -> dict[str, Any]:
    """Writes report.md and report.html of a run again.

    Parameters
    ----------
    run : str or os.PathLike
        Run directory.

    Returns
    -------
    dict
        The winners, as ``kd report --json`` prints them.

    Raises
    ------
    ValueError
        If `run` is not a run directory.
    """
    return _ask("report", run=run)


def install(run: PathLike, output: PathLike) -> dict[str, Any]:
    """Merges the winners of a run into a pack.

    Parameters
    ----------
    run : str or os.PathLike
        Run directory, or its best_kernels.json.
    output : str or os.PathLike
        The pack; made if it is not there, other entries in it are kept.

    Returns
    -------
    dict
        ``output``, ``changes`` (one for each entry: what happened and why), ``other_entries_kept``.

    Raises
    ------
    ValueError
        If `run` has no winners to read, or `output` is not a pack.
    """
    return _ask("install", run=run, output=output)


def pack(runs: Sequence[PathLike], out: PathLike) -> dict[str, Any]:
    """Merges the winners of several runs, also of machines that never met, into one pack.

    Parameters
    ----------
    runs : sequence of str or os.PathLike
        Run directories, best_kernels.json files or packs.
    out : str or os.PathLike
        The pack to write.

    Returns
    -------
    dict
        ``out``, ``entries`` (how many), ``dropped`` (which, and why).

    Raises
    ------
    ValueError
        If one of `runs` cannot be read.
    """
    return _ask("pack", runs=list(runs), out=out)


def suggest_shapes(model_id: PathLike, **options: Any) -> dict[str, Any]:
    """The sizes that a model's operators have, from its config.json.

    Parameters
    ----------
    model_id : str or os.PathLike
        A folder with a config.json, or the name of a model on the hub.
    **options
        Any option of ``kd suggest-shapes``, with ``_`` for ``-``: ``op="swiglu"``, ``decode_rows=[1, 2]``.

    Returns
    -------
    dict
        As ``kd suggest-shapes --json`` prints it.

    Raises
    ------
    ValueError
        If there is no such model, or its config lacks a field; the message names it.
    RuntimeError
        If the hub cannot be reached.
    """
    return _ask("suggest-shapes", **{"model_id": model_id, **options})


def _ask(verb: str, **arguments: Any) -> dict[str, Any]:
    from mlx_kd import _run
    return _run.ask(verb, arguments)


__all__ = ["install", "pack", "report", "run", "suggest_shapes"]
