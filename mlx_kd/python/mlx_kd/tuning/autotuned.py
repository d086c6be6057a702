"""A function with knobs: which setting runs for the arrays of a call, and how it is found."""
from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import mlx.core as mx

from mlx_kd import _core, _program
from mlx_kd._core import call_key
from mlx_kd.tuning.description import Description, name_of, shape_key

TYPE_CHECKING = False  # type checkers read True
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

MOST_SHAPES = 1024  # of a function: what it knows of calls does not grow beyond
PAUSE_POLL_S = 0.1


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mlx_kd" / "autotune"


class Autotuned:
    """What :func:`autotune` returns: the function, with the setting that was proved for the arrays of a call."""

    __name__: str  # the function's

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.function = function
        self.knobs: dict[str, list[int]] = {name: list(values) for name, values in options["knobs"].items()}
        self.reference: Callable[..., Any] = options["reference"]
        self.where = tuple(options["where"])
        self.ranges = dict(options["ranges"])
        self.serve: str = options["serve"]
        self.background: bool = options["background"]
        self.judge: str = options["judge"]
        self.budget: int = options["budget"]
        self.enabled = os.environ.get("MLX_KD_AUTOTUNE", "1") not in ("0", "false", "off")
        self.calls = 0
        self._check()
        self.name = f"{function.__name__}_{self._fingerprint()}"
        self.folder = Path(options["folder"] or default_folder()) / self.name
        # All by call_key of the arrays.
        self._ready: dict[bytes, Callable[..., Any]] = {}
        self._wanted: dict[bytes, list[mx.array]] = {}
        self._failed: dict[bytes, str] = {}
        self._kept: dict[bytes, tuple[list[mx.array], dict[str, int], str]] = {}  # arrays, setting, text that was proved
        self._proved: dict[bytes, Any] = {}  # the key as shape_key has it
        self._lock = threading.RLock()
        self._worker: threading.Thread | None = None
        self._told = False
        self._loaded = False
        self._device = ""  # of the first call, whose winners are served
        functools.update_wrapper(self, function)

    def _check(self) -> None:
        if not inspect.isfunction(self.function) or not self.function.__name__.isidentifier():
            raise TypeError(f"autotune is around {self.function!r}: decorate a function that def makes, whose name the kernel "
                            "takes")
        where = self.function.__qualname__.split(".")
        parameters = list(inspect.signature(self.function).parameters.values())
        if (len(where) > 1 and where[-2] != "<locals>") or (parameters and parameters[0].name in ("self", "cls")):
            raise TypeError(f"autotune is around {self.function.__qualname__}, which is a method: decorate a function of arrays "
                            "and call it from the method")
        if not self.knobs or not all(self.knobs.values()):
            raise ValueError(f"{self.function.__name__} has no knobs: give knobs={{\"TG\": [64, 128]}}")
        known = {one.name for one in parameters}
        for name, values in self.knobs.items():
            if name not in known:
                raise ValueError(f"the knob '{name}' is no parameter of {self.function.__name__}: add it, as *, {name}")
            if not all(isinstance(value, int) for value in values):
                raise ValueError(f"the knob '{name}' has the values {values}: give whole numbers")
        if self.serve not in ("reference", "default"):
            raise ValueError(f"serve is {self.serve!r}: choose 'reference' or 'default'")

    def _fingerprint(self) -> str:
        """Winners are of this text: a changed function is another one."""
        parts = [json.dumps([self.knobs, self.where, self.judge], sort_keys=True)]
        for function in (self.function, self.reference):
            try:
                parts.append(inspect.getsource(function))
            except (OSError, TypeError):
                code = getattr(function, "__code__", None)
                parts.append(repr((code.co_code, code.co_consts)) if code else repr(function))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    # ---- serving

    def __call__(self, *arrays: mx.array) -> Any:
        ready = self._ready.get(call_key(*arrays))
        if ready is None:
            return self._serve_unknown(arrays)
        self.calls += 1
        return ready(*arrays)

    def _serve_unknown(self, arrays: Sequence[mx.array]) -> Any:
        """The first call of a size: what is known of it decides all later ones."""
        self.calls += 1
        if not self.enabled:
            return self.reference(*arrays)
        key = call_key(*arrays)
        with self._lock:
            self._load()
            self._check_kept(key)
            if key in self._ready:
                return self._ready[key](*arrays)
            if len(self._ready) >= MOST_SHAPES:
                self._forget()
            served = self._ready[key] = self._unproved()
            if self.background and key not in self._failed:
                self._wanted[key] = [mx.zeros(one.shape, one.dtype) for one in arrays]
                self._start_worker()
        return served(*arrays)

    def _unproved(self) -> Callable[..., Any]:
        if self.serve == "default":
            return functools.partial(self.function, **{name: values[0] for name, values in self.knobs.items()})
        return self.reference

    def _forget(self) -> None:
        """Sizes without a setting of their own."""
        for key in [key for key in self._ready if key not in self._proved]:
            del self._ready[key]
        if not self._told:
            self._told = True
            warnings.warn(f"{self.__name__} has been called with more than {MOST_SHAPES} sizes, which are not all kept: tune "
                          "kernels whose inputs have few sizes, or pad them", RuntimeWarning, stacklevel=4)

    @property
    def settings(self) -> dict[Any, dict[str, int]]:
        """The proved setting for each size, by ((shape, dtype), ...) of the arrays."""
        with self._lock:
            self._load()
            for key in list(self._kept):
                self._check_kept(key)
            return {shapes: dict(self._ready[key].keywords)  # type: ignore[attr-defined]
                    for key, shapes in self._proved.items()}

    # ---- tuning

    def prepare(self, *sizes: Sequence[Any], budget: int | None = None) -> dict[Any, dict[str, int]]:
        """Tune ahead of time.

        Parameters
        ----------
        *sizes : sequence of arrays
            The arrays of a call, one sequence for each size; ``(shape, dtype)`` in place of an array will do.
        budget : int, optional
            Settings to try for each; the decorator's if left out.

        Returns
        -------
        dict
            :attr:`settings`.

        Raises
        ------
        RuntimeError
            If a size could not be tuned: the kernel is wrong at its defaults, say.
        TypeError
            For what is not a sequence of arrays.
        """
        for size in sizes if self.enabled else ():
            if not isinstance(size, (tuple, list)):
                raise self._no_array(size)
            arrays = [self._like(one) for one in size]
            key = call_key(*arrays)
            with self._lock:
                self._load()
                self._check_kept(key)
                done = key in self._proved
            if not done:
                self._tune(key, arrays, budget or self.budget, None)
        return self.settings

    def _no_array(self, given: Any) -> TypeError:
        return TypeError(f"{self.__name__}.prepare was given {str(given)[:80]} in place of an array: give a sequence for each "
                         "size, of arrays or of (shape, dtype), as prepare([((64, 1024), mx.float32)])")

    def _like(self, given: Any) -> mx.array:
        if isinstance(given, mx.array):
            return given
        if not isinstance(given, (tuple, list)) or len(given) != 2 or not isinstance(given[1], mx.Dtype):
            raise self._no_array(given)
        return mx.zeros(*given)

    def _pack(self) -> Path:
        return self.folder / "pack.json"

    def _tune(self, key: bytes, arrays: Sequence[mx.array], budget: int, pause: Path | None) -> None:
        description = Description(self, arrays)
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / hashlib.sha256(key).hexdigest()[:12]
        place.mkdir(exist_ok=True)
        description.write(place)
        with tempfile.TemporaryDirectory(prefix="kd-autotune-") as temp:
            run = Path(temp) / "run"
            options = ["--fn", self.__name__, "--name", self.name, "--ref", place / "reference.py:reference",
                       "--judge", self.judge, "--shapes", description.sizes(), "--dtype", name_of(description.dtype),
                       "--device", self._device, "--budget", budget, "--out", run, "--quiet"]
            if pause:
                options += ["--pause", pause, "--batch", 1]
            self._kd("tune", place / "kernel.metal", *options, pause=pause)
            winners = json.loads((run / "best_kernels.json").read_text())["entries"] if (
                run / "best_kernels.json").exists() else []
            if winners:
                self._kd("install", "--run", run, "--output", self._pack())
        with self._lock:
            if winners:
                self._take(arrays, winners[0]["template_params"])
            else:
                self._failed[key] = "no setting was surely faster than the reference"

    def _kd(self, *words: Any, pause: Path | None = None) -> None:
        command = [str(_program.path()), *map(str, words)]
        if pause:
            command = ["nice", "-n", "5", *command]
        with tempfile.TemporaryFile("w+") as messages:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages,
                                       env=_program.environment())
            self._wait(process, pause)
            if process.returncode:
                messages.seek(0)
                lines = [line.rstrip() for line in messages if line.strip()]
                raise RuntimeError(lines[-1] if lines else f"kd ended with status {process.returncode}")

    def _wait(self, process: subprocess.Popen[bytes], pause: Path | None) -> None:
        """To its end; `pause` is touched while the program makes calls."""
        try:
            while True:
                before = self.calls
                try:
                    process.wait(PAUSE_POLL_S)
                    return
                except subprocess.TimeoutExpired:
                    if pause and self.calls != before:
                        pause.touch()
        except BaseException:
            process.terminate()
            process.wait()
            raise

    def _take(self, arrays: Sequence[mx.array], setting: Mapping[str, int]) -> None:
        key = call_key(*arrays)
        self._proved[key] = shape_key(arrays)
        self._ready[key] = functools.partial(self.function, **{name: setting[name] for name in self.knobs})

    def _load(self) -> None:
        """The winners of earlier processes that can run here."""
        if self._loaded:
            return
        self._loaded = True
        self._device = "simt" if mx.default_device() == mx.cpu else "metal" if sys.platform == "darwin" else "cuda"
        if not self._pack().exists():
            return
        try:
            kernel = _core.tuned(str(self._pack()), self.name)
        except ValueError:  # another device, another MLX
            return
        def case(text: str) -> tuple[str, ...]:
            return tuple(sorted(text.replace(",", " ").split()))

        usable = {case(line.split(": ")[0]) for line in kernel.settings}
        for entry in json.loads(self._pack().read_text())["entries"]:
            sizes = entry["kernel"]["sizes"][0]
            is_here = (entry["key"]["device_arch"] == "simt") == (self._device == "simt")
            if is_here and case(f"{entry['key']['dtype']} {sizes}") in usable:
                arrays = self._arrays_of(entry)
                self._kept[call_key(*arrays)] = (arrays, entry["template_params"], entry["kernel"]["source"])

    def _check_kept(self, key: bytes) -> None:
        """Takes the winner of an earlier process for arrays of this key, if what was proved is what the function makes now:
        its text may be the same and what it reads, the body of the kernel for one, another."""
        if key not in self._kept:
            return
        arrays, setting, source = self._kept.pop(key)
        try:
            is_same = Description(self, arrays).digest() in source
        except Exception:  # it could not be tuned for these arrays now
            is_same = False
        if is_same:
            self._take(arrays, setting)

    def _arrays_of(self, entry: Mapping[str, Any]) -> list[mx.array]:
        """Arrays like those of the calls that the entry serves."""
        sizes = {name: int(extent) for name, extent in
                 (item.split("=") for item in entry["kernel"]["sizes"][0].split(","))}
        arrays = {}
        for port in entry["kernel"]["inputs"]:
            dtype = entry["key"]["dtype"] if port["type"] == "T" else port["type"]
            place = int(port["shape"][0].split("_")[0][1:])
            arrays[place] = mx.zeros([sizes[axis] for axis in port["shape"]],
                                     getattr(mx, "bool_" if dtype == "bool" else dtype))
        return [arrays[place] for place in sorted(arrays)]

    # ---- in the background

    def _start_worker(self) -> None:
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name=f"kd-autotune-{self.__name__}", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        """Tunes what calls asked for, one size after the other; ends when there is nothing left."""
        while True:
            with self._lock:
                if not self._wanted:
                    self._worker = None
                    return
                key, arrays = self._wanted.popitem()
            with tempfile.TemporaryDirectory(prefix="kd-autotune-") as temp:
                try:
                    (Path(temp) / "in-use").touch()  # for the call that asked
                    self._tune(key, arrays, self.budget, Path(temp) / "in-use")
                except Exception as error:  # the program continues with the reference
                    with self._lock:
                        self._failed[key] = str(error)
                    warnings.warn(f"{self.__name__} is not tuned for {shape_key(arrays)}: {error}", RuntimeWarning, stacklevel=2)
