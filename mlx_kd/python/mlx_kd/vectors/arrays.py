"""Arrays of users: what comes in is checked and becomes float32, what goes out is of the kind that came in."""
import ctypes
import functools
import importlib
import sys
from typing import Any

import mlx.core as mx

import mlx_kd

try:
    np: Any = importlib.import_module("numpy")
except ImportError as error:
    raise ImportError("mlx_kd.vectors needs NumPy: pip install numpy") from error

MOST_NEIGHBOURS = 1024
GPU = "sm_90"  # whose kernels there are
LEAST_LARGE, LARGE_PAGE = 1 << 22, 1 << 21  # bytes
MADV_DONTNEED, MADV_HUGEPAGE = 4, 14  # of Linux
PAD = {True: np.finfo(np.float32).max, False: np.finfo(np.float32).min}  # of a result that is missing; True: L2


def found_on(device: Any) -> Any:
    """Ids that the operators find in some vectors: sampled rows, all rows, lists."""
    x = np.random.default_rng(1).standard_normal((20000, 12)).astype(np.float32)
    base, few = mx.array(x), mx.array(x[:900])
    q = mx.array(x[:9] + np.float32(0.25))
    offsets, labels = mx.array([0, 400, 900], mx.int64), mx.arange(900, dtype=mx.int64)
    probes = mx.array([[0, 1], [1, -1], [0, -1]] * 3, mx.int64)
    found = [operator(q, where, k=5, stream=device)[1] for operator in (mlx_kd.l2_topk, mlx_kd.ip_topk)
             for where in (base, few)]
    found += [mlx_kd.ivf_topk(q, few, probes, offsets, labels, k=5, inner=inner, stream=device)[1] for inner in (0, 1)]
    codes = mx.array((np.arange(900)[:, None] * (37, 101, 211) >> 3 & 255).astype(np.uint8))
    books = mx.array(x[2000:2256].T.reshape(3, 4, 256))
    found += [mlx_kd.ivfpq_topk(q, codes, books, base[:2], probes, offsets, labels, k=5, inner=inner, stream=device)[1]
              for inner in (0, 1)]
    mx.eval(found)
    return [np.array(each) for each in found]


@functools.cache
def has_kernels() -> bool:
    """Whether this GPU runs the kernels of searches and finds what a CPU finds. Without the module for MLX's arrays on
    CUDA, for one, it does not run them."""
    if mx.device_info(mx.gpu).get("architecture") != GPU:
        return False
    try:
        return all((ours == theirs).all() for ours, theirs in zip(found_on(mx.gpu), found_on(mx.cpu)))
    except (RuntimeError, ValueError):
        return False


def device() -> Any:
    """Where searches run: MLX's default device if it is an NVIDIA GPU with kernels, else the CPU."""
    is_cuda = mx.default_device() == mx.gpu and mx.is_available(mx.gpu) and not mx.metal.is_available()
    return mx.gpu if is_cuda and has_kernels() else mx.cpu


class Rows:
    """The rows of a call: `values` float32 [n, d], and whether an array of MLX was given."""

    def __init__(self, what: str, x: Any, d: int, check: bool) -> None:
        self.is_mlx = isinstance(x, mx.array)
        if self.is_mlx:
            if x.dtype not in (mx.float32, mx.float16, mx.bfloat16):
                raise ValueError(f"[vectors] {what} has type {x.dtype}: give float32")
            x = x.astype(mx.float32)
        values = np.asarray(x)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"[vectors] {what} has type {values.dtype}: give float32")
        if values.ndim != 2 or values.shape[1] != d:
            raise ValueError(f"[vectors] {what} has shape {values.shape}: give (n, {d})")
        self.values = np.ascontiguousarray(values, np.float32)
        if check:
            self._refuse_nan(what)

    def _refuse_nan(self, what: str) -> None:
        flat = self.values.reshape(-1)
        squares = flat.dot(flat)  # NaN if any is, and not with infinities
        if squares == squares:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            suspects = np.flatnonzero(np.isnan(self.values @ np.ones(self.values.shape[1], np.float32)))
        for row in suspects:  # sums of infinities may be NaN too
            if np.isnan(self.values[row]).any():
                raise ValueError(f"[vectors] row {row} of {what} has a NaN: correct it, or give check=False")

    def __len__(self) -> int:
        return len(self.values)

    def given(self, *arrays: Any) -> Any:
        """Results of the kind of the rows."""
        return tuple(to_mlx(array) if self.is_mlx else array for array in arrays)


def to_mlx(values: Any) -> Any:
    array = mx.array(values)
    mx.eval(array)
    return array


def to_numpy(array: Any) -> Any:
    """The memory of an array that was evaluated."""
    return np.array(array, copy=False)


def in_large_pages(zeros: Any) -> None:
    """Asks Linux to back an array of zeros with pages of 2 MiB when it is written: a scan of many lists then needs fewer
    page lookups. Does nothing where such pages are not available."""
    if zeros.nbytes < LEAST_LARGE or not sys.platform.startswith("linux") or mx.is_available(mx.gpu):
        return
    first = -(-zeros.ctypes.data // LARGE_PAGE) * LARGE_PAGE
    size = (zeros.ctypes.data + zeros.nbytes - first) // LARGE_PAGE * LARGE_PAGE
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if size > 0 and advise(first, size, MADV_HUGEPAGE) == 0:
        advise(first, size, MADV_DONTNEED)


def empty(shape: Any, dtype: Any = mx.float32) -> Any:
    """An array of MLX, and its memory for NumPy to fill."""
    array = mx.zeros(shape, dtype)
    mx.eval(array)
    memory = np.array(array, copy=False)
    in_large_pages(memory)
    return array, memory


def count(what: str, value: Any, most: Any = None) -> int:
    """A positive int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"[vectors] {what} is {value!r}: give an int")
    if value < 1 or (most is not None and value > most):
        raise ValueError(f"[vectors] {what} is {value}: give " + (f"1 to {most}" if most else "at least 1"))
    return int(value)


def ids_of(ids: Any, rows: Any = None) -> Any:
    """int64 [n]; as many as there are rows where those are given."""
    values = to_numpy(ids) if isinstance(ids, mx.array) else np.asarray(ids)
    if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
        raise ValueError(f"[vectors] ids have type {values.dtype} and shape {values.shape}: give int64 (n)")
    if rows is not None and len(values) != rows:
        raise ValueError(f"[vectors] there are {len(values)} ids for {rows} vectors: give one for each")
    return np.ascontiguousarray(values, np.int64)


def padded(rows: Any, k: int, is_l2: bool) -> Any:
    """Results of searches that find nothing."""
    return np.full((rows, k), PAD[is_l2], np.float32), np.full((rows, k), -1, np.int64)


def best(found: Any, k: int, is_l2: bool) -> Any:
    """The k best of several results (D, I); equal distances by id."""
    if len(found) == 1:
        return found[0]
    distances = np.concatenate([each[0] for each in found], 1)
    ids = np.concatenate([each[1] for each in found], 1)
    missing = ids < 0
    order = np.lexsort((ids, distances if is_l2 else -distances, missing), axis=1)[:, :k]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(ids, order, 1)
