"""What kd tune reads of a Python function: the kernel that it makes for each setting, and its reference as graphs."""
from __future__ import annotations

import hashlib
import itertools
import threading
from pathlib import Path

import mlx.core as mx

from mlx_kd import _core

TYPE_CHECKING = False  # type checkers read True
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from mlx_kd.tuning.autotuned import Autotuned

MOST_SETTINGS = 2048
_tracing = threading.Lock()


class KernelCall:
    """What a function asked of the one kernel that it made."""

    def __init__(self, made: dict[str, Any], call: dict[str, Any]) -> None:
        self.made, self.call = made, call


class Recorder:
    """In place of metal_kernel while a function is traced: its kernels give zeros."""

    def __init__(self) -> None:
        self.calls: list[KernelCall] = []

    def __call__(self, name: str, input_names: Sequence[str], output_names: Sequence[str], source: str,
                 header: str = "", **options: Any) -> Callable[..., list[mx.array]]:
        made = {"input_names": list(input_names), "output_names": list(output_names), "source": source,
                "header": header, "options": options}

        def kernel(**call: Any) -> list[mx.array]:
            self.calls.append(KernelCall(made, call))
            return [mx.zeros(shape, dtype) for shape, dtype in zip(call["output_shapes"], call["output_dtypes"])]

        return kernel


def trace(function: Callable[..., Any], arrays: Sequence[mx.array], setting: Mapping[str, int]) -> KernelCall:
    """The one kernel call that the function makes of these arrays."""
    recorder = Recorder()
    places: list[tuple[Any, str, Any]] = []
    real = {id(one) for one in (mx.fast.metal_kernel, _core.metal_kernel)}
    names = function.__globals__
    with _tracing:
        mine = threading.get_ident()

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *a, **k: (recorder if threading.get_ident() == mine else original)(*a, **k)

        import mlx_kd
        for where, name in ((mx.fast, "metal_kernel"), (mlx_kd, "metal_kernel"), (mlx_kd.metal, "metal_kernel")):
            places.append((where, name, getattr(where, name)))
        shadowed = {name: value for name, value in names.items() if id(value) in real}
        try:
            for where, name, value in places:
                setattr(where, name, make(value))
            names.update({name: make(value) for name, value in shadowed.items()})
            function(*arrays, **setting)
        finally:
            names.update(shadowed)
            for where, name, value in places:
                setattr(where, name, value)
    if len(recorder.calls) != 1:
        raise ValueError(f"{function.__name__} makes {len(recorder.calls)} calls of a metal_kernel that it made: autotune "
                         "takes functions that make one kernel and call it once")
    return recorder.calls[0]


def shape_key(arrays: Sequence[mx.array]) -> tuple[Any, ...]:
    return tuple((one.shape, one.dtype) for one in arrays)


def name_of(dtype: mx.Dtype) -> str:
    return str(dtype).split(".")[-1]


def macro(name: str, value: Any) -> str:
    types = {"float32": "float", "float16": "half", "bfloat16": "bfloat", "int32": "int", "uint32": "uint",
             "int64": "long", "uint8": "uchar", "bool": "bool"}
    if isinstance(value, mx.Dtype):
        return f"#define {name} {types[name_of(value)]}\n"
    return f"#define {name} {str(value).lower() if isinstance(value, bool) else value}\n"


def canonical(value: Any) -> str:
    """What an export says of a graph, the same in every process; arrays by their bytes."""
    if isinstance(value, mx.array):
        plain = value.view(mx.uint16) if value.dtype == mx.bfloat16 else value
        return f"{name_of(value.dtype)}{value.shape}{memoryview(plain).tobytes().hex()}"  # type: ignore[arg-type]
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    return repr(value)


class Description:
    """The files that kd tune reads for one size."""

    def __init__(self, tuned_function: Autotuned, arrays: Sequence[mx.array]) -> None:
        self.of = tuned_function
        self.arrays = list(arrays)
        floats = [one.dtype for one in arrays if mx.issubdtype(one.dtype, mx.floating)]
        self.dtype = floats[0] if floats else mx.float32
        self.calls = self.traced()
        self.first = next(iter(self.calls.values()))
        self.order = self.input_order()

    def traced(self) -> dict[tuple[int, ...], KernelCall]:
        calls, first_error = {}, None
        for values in itertools.islice(itertools.product(*self.of.knobs.values()), MOST_SETTINGS):
            try:
                calls[values] = trace(self.of.function, self.arrays, dict(zip(self.of.knobs, values)))
            except Exception as error:  # a setting that the function refuses at this size
                first_error = first_error or error
        if not calls:
            raise ValueError(f"{self.of.name} refuses every setting of its knobs: {first_error}") from first_error
        return calls

    def input_order(self) -> list[int]:
        """The place among the function's arrays of each input of the kernel."""
        order = []
        for name, given in zip(self.first.made["input_names"], self.first.call["inputs"]):
            place = next((i for i, array in enumerate(self.arrays) if array is given), None)
            if place is None:
                raise ValueError(f"input '{name}' of the kernel of {self.of.name} is not one of the function's arrays: "
                                 "autotune takes functions that pass their arrays on as they are")
            if self.arrays[place].ndim == 0:
                raise ValueError(f"input '{name}' of {self.of.name} is a number: autotune takes arrays with axes; put numbers "
                                 "into the source, or give them an axis")
            order.append(place)
        if sorted(order) != list(range(len(self.arrays))):
            raise ValueError(f"the kernel of {self.of.name} does not take each of the function's {len(self.arrays)} arrays "
                             "once")
        return order

    def port(self, name: str, dtype: mx.Dtype, shape: Sequence[Any]) -> str:
        kind = "" if dtype == self.dtype else f": {name_of(dtype)}"
        return f"{name}{kind} ({', '.join(map(str, shape))})"

    def head(self) -> str:
        lines = []
        for name, place in zip(self.first.made["input_names"], self.order):
            array = self.arrays[place]
            line = "in " + self.port(name, array.dtype, [f"i{place}_{axis}" for axis in range(array.ndim)])
            if name in self.of.ranges:
                line += " from {} to {}".format(*self.of.ranges[name])
            lines.append(line)
        for name, dtype, shape in zip(self.first.made["output_names"], self.first.call["output_dtypes"],
                                      self.first.call["output_shapes"]):
            lines.append("out " + self.port(name, dtype, shape or [1]))
        lines += [f"knob {name} {', '.join(map(str, values))}" for name, values in self.of.knobs.items()]
        lines += [f"where {text}" for text in self.of.where]
        for values, call in self.calls.items():
            setting = ",".join(f"{name}={value}" for name, value in zip(self.of.knobs, values))
            numbers = [*call.call["grid"], *call.call["threadgroup"]]
            lines.append(f"launch {setting} {' '.join(map(str, numbers))}")
        return "".join(f"// kd: {line}\n" for line in [*lines, "batch none"])

    def body(self) -> str:
        """Every text once, behind the settings that it belongs to."""
        texts: dict[str, list[tuple[int, ...]]] = {}
        for values, call in self.calls.items():
            macros = "".join(macro(name, value) for name, value in call.call.get("template") or [])
            texts.setdefault(macros + call.made["source"], []).append(values)
        parts = []
        for text, settings in texts.items():
            conditions = ["(" + " && ".join(f"{name} == {value}" for name, value in zip(self.of.knobs, values)) + ")"
                          for values in settings]
            parts.append(f"{' || '.join(conditions)}\n{text}\n")
        return "#if " + "#elif ".join(parts) + "#endif\n"

    def text(self) -> str:
        headers: set[str] = {call.made["header"] for call in self.calls.values()}
        if len(headers) > 1:
            raise ValueError(f"the header of {self.of.name}'s kernel depends on its knobs: put what varies into its source")
        return self.head() + headers.pop() + "\n// kd: body\n" + self.body()

    def digest(self) -> str:
        """What the proof of a setting is about: the kernel with its launches, and the reference's graph."""
        digest = hashlib.sha256(self.text().encode())
        self.export(lambda record: digest.update(canonical(record).encode()), self.dtype)
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        text = self.text()
        self.write_reference(folder)
        (folder / "kernel.metal").write_text(f"// autotune {self.digest()}\n{text}")

    def graph(self, *arrays: mx.array) -> list[mx.array]:
        """The reference of the kernel's inputs."""
        made = self.of.reference(*[arrays[self.order.index(i)] for i in range(len(self.arrays))])
        return list(made) if isinstance(made, (tuple, list)) else [made]

    def export(self, to: Any, wide: mx.Dtype) -> None:
        with mx.stream(mx.cpu):
            zeros = [mx.zeros(self.arrays[place].shape, wide if self.arrays[place].dtype == self.dtype
                              else self.arrays[place].dtype) for place in self.order]
            mx.export_function(to, self.graph, *zeros)

    def write_reference(self, folder: Path) -> None:
        """The reference as graphs of MLX, in float64 too if it can be."""
        for wide in dict.fromkeys((mx.float64, mx.float32, self.dtype)):
            try:
                self.export(str(folder / f"{name_of(wide)}.mlxfn"), wide)
            except Exception as error:
                if wide == self.dtype:
                    raise ValueError(f"the reference of {self.of.name} has no graph ({error}): write it with functions of "
                                     "MLX that read no values") from error
        names = ", ".join(f"a{i}" for i in range(len(self.order)))
        (folder / "reference.py").write_text(
            "import mlx.core as mx\n\n_graphs = {}\n\n\n"
            f"def reference({names}):\n"
            f"    arrays = [{names}]\n"
            "    wide = next((str(one.dtype).split('.')[-1] for one in arrays if mx.issubdtype(one.dtype, mx.floating)), "
            "'float32')\n"
            f"    if wide not in _graphs:\n        _graphs[wide] = mx.import_function({str(folder)!r} + f'/{{wide}}.mlxfn')\n"
            "    made = _graphs[wide](*arrays)\n"
            "    return made if len(made) > 1 else made[0]\n")

    def sizes(self) -> str:
        return ",".join(f"i{i}_{axis}={extent}" for i, array in enumerate(self.arrays)
                        for axis, extent in enumerate(array.shape))
