"""mlx_kd: MLX operators that run the fastest kernel that was found and proved for a size and a device.

>>> import mlx.core as mx, mlx_kd
>>> y = mlx_kd.rmsnorm(mx.ones((1, 2048)), mx.ones(2048))   # MLX's own bits: pins are off
>>> mlx_kd.enable("pins.json")                              # doctest: +SKIP

Three parts: the operators, which pins they use (:func:`enable`, :func:`stats`, :func:`explain`), and the
search for new ones (:func:`run`, :func:`install`). Modules for models are in :mod:`mlx_kd.nn`; :func:`patch`
has a whole model use the operators, :func:`sample` and :func:`make_sampler` draw tokens. :mod:`mlx_kd.cache` has
caches of keys and values, :mod:`mlx_kd.wire` sends them. :mod:`mlx_kd.linalg` has the linear algebra of mx.linalg.
"""
from mlx_kd import _built_for

TYPE_CHECKING = False  # type checkers read True; typing itself takes longer to import than all of this


def _check_mlx() -> None:
    """MLX passes arrays and C++ objects to the extension, so only the version that it was built for will do."""
    wanted = _built_for.MLX_VERSION
    how = f"pip install 'mlx[cpu]=={wanted}' (cuda13 in place of cpu for NVIDIA; plain mlx on macOS)"
    try:
        import mlx.core as mx
    except ImportError as error:
        raise ImportError(
            f"mlx_kd needs MLX {wanted} with a backend, and it cannot be imported ({error}): {how}") from error
    found = getattr(mx, "__version__", "unknown")  # MLX's own stub does not name it
    if found.split("+")[0] != wanted:
        raise ImportError(f"mlx_kd was built for MLX {wanted}, and this is MLX {found}: {how}, "
                          "or build mlx_kd again for this one")


_check_mlx()

from mlx_kd._core import (  # noqa: E402
    call, configure, disable, enable, explain, flush_shape_log, op_names, prepare, reload, reset_settings, reset_stats,
    settings, stats)
from mlx_kd import _operators  # noqa: E402
from mlx_kd._operators import *  # noqa: E402, F403
from mlx_kd.metal import KernelFault, MetalKernels, enable_metal_kernels, metal_kernel  # noqa: E402
from mlx_kd.discovery import install, pack, report, run, suggest_shapes  # noqa: E402
from mlx_kd.threads import own_stream  # noqa: E402

__version__ = _built_for.VERSION
__all__ = [
    "KernelFault", "MetalKernels", "call", "configure", "disable", "enable", "enable_metal_kernels", "explain", "flush_shape_log",
    "install", "metal_kernel", "op_names", "own_stream", "pack", "prepare", "reload", "report", "reset_settings", "reset_stats",
    "run", "settings", "stats", "suggest_shapes"]
__all__ += _operators.__all__


if TYPE_CHECKING:
    from mlx_kd import cache as cache, linalg as linalg, nn as nn, wire as wire
    from mlx_kd.sampling import (
        make_logits_processors as make_logits_processors, make_sampler as make_sampler, sample as sample,
        sampling_counts as sampling_counts)
    from mlx_kd.tuning import Autotuned as Autotuned, autotune as autotune, tuned as tuned
    from mlx_kd.patching import PatchReport as PatchReport, patch as patch, patched as patched, unpatch as unpatch
else:
    def __getattr__(name):
        """What needs mlx.nn or mlx-lm, on first use: they take longer to import than the rest together."""
        from importlib import import_module
        if name in ("cache", "linalg", "nn", "wire"):
            return import_module(f"mlx_kd.{name}")
        if name in ("PatchReport", "patch", "patched", "unpatch"):
            return getattr(import_module("mlx_kd.patching"), name)
        if name in ("make_logits_processors", "make_sampler", "sample", "sampling_counts"):
            return getattr(import_module("mlx_kd.sampling"), name)
        if name in ("Autotuned", "autotune", "tuned"):
            return getattr(import_module("mlx_kd.tuning"), name)
        raise AttributeError(f"module 'mlx_kd' has no attribute {name!r}")
