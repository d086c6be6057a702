"""Runs a user's reference in a process of its own: reference.py FOLDER/request.json.

The request; files are .npy, relative to its folder, row-major, bfloat16 as float32:
  mode       "values": in float64 where the function can, with its sensitivity; "exact": in the types of the arrays;
             "export": as a graph of MLX; "arrays": of a recorded file
  text, path, function, kernel   the Python file and what it defines; path alone names a recorded file (with sha256)
  inputs, outputs        [{"name", "dtype", "shape", "file"}]; outputs are written flat, those of "values" as float64
                         and with "terms" as well
  numbers                sizes and scalars by name

The answer is reply.json: {} | {"mlx": true} | {"shapes": {...}} | {"error": "what is wrong"}. Needs NumPy or MLX,
whichever the function works on.
"""
import hashlib
import inspect
import json
import os
import sys
import traceback
from pathlib import Path

DRAWS = 4
STEP = 2.0 ** -24


class Fault(Exception):
    """What is wrong, for a person."""


class NumPy:
    """Arrays of NumPy. What both libraries call alike is called as it is."""

    def __init__(self):
        import numpy
        self.np = numpy
        numpy.seterr(all="ignore")
        self.random = numpy.random.default_rng(1)

    def load(self, file):
        return self.np.load(file, allow_pickle=False)

    def cast(self, array, dtype):
        return self.np.asarray(array).astype("float32" if dtype == "bfloat16" else dtype)

    def save(self, file, array):
        self.np.save(file, self.np.ascontiguousarray(array).reshape(-1))

    def is_float(self, array):
        return array.dtype.kind == "f"

    def signs(self, shape):
        return self.random.choice((-1.0, 1.0), shape)

    def nan_to_num(self, array):
        return self.np.where(self.np.isfinite(array), array, 0.0)

    def __getattr__(self, name):
        return getattr(self.np, name)


class Mlx:
    def __init__(self):
        import mlx.core
        self.mx = mlx.core
        self.mx.set_default_device(self.mx.cpu)
        self.mx.random.seed(1)

    def type(self, dtype):
        return getattr(self.mx, "bool_" if dtype == "bool" else dtype)

    def load(self, file):
        return self.mx.load(file)

    def cast(self, array, dtype):
        return (array if isinstance(array, self.mx.array) else self.mx.array(array)).astype(self.type(dtype))

    def save(self, file, array):
        self.mx.save(file, self.mx.contiguous(array.reshape(-1)))

    def is_float(self, array):
        return self.mx.issubdtype(array.dtype, self.mx.floating)

    def signs(self, shape):
        ones = self.mx.ones(shape, dtype=self.mx.float64)
        return self.mx.where(self.mx.random.bernoulli(shape=shape), ones, -ones)

    def nan_to_num(self, array):
        return self.mx.where(self.mx.isfinite(array), array, self.mx.zeros_like(array))

    def __getattr__(self, name):
        return getattr(self.mx, name)


def function_of(request):
    """The function that the file defines, and the library whose arrays it takes."""
    path = Path(request["path"])
    sys.path.insert(0, str(path.parent))
    module = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(request["text"], str(path), "exec"), module)
    own = {name: value for name, value in module.items()
           if inspect.isfunction(value) and value.__module__ == path.stem and not name.startswith("_")}
    wanted = request["function"]
    names = [wanted] if wanted else [request["kernel"], "reference"] + (list(own) if len(own) == 1 else [])
    for name in names:
        if name in own:
            return own[name], library_for(module)
    known = ", ".join(sorted(own)) or "none"
    raise Fault(f"defines no function '{wanted or request['kernel']}', but {known}: name one as FILE.py:FUNCTION")


def library_for(module):
    packages = {str(getattr(value, "__name__" if inspect.ismodule(value) else "__module__", "")).split(".")[0]
                for value in module.values()}
    if "mlx" in packages:
        return Mlx()
    if "numpy" in packages:
        return NumPy()
    try:
        return Mlx()  # it uses the arrays' own methods
    except ImportError:
        return NumPy()


def described(error):
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    where = f" in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    return f"raised {type(error).__name__}: {error}{where}"


class Runner:
    def __init__(self, request):
        self.request = request
        self.function, self.lib = function_of(request)
        self.is_mlx = isinstance(self.lib, Mlx)

    def loaded(self):
        return [self.lib.load(port["file"]).reshape(port["shape"]) for port in self.request["inputs"]]

    def bound(self, arrays):
        """The call's arguments: arrays by name where the names agree, else by place; numbers by name."""
        parameters = inspect.signature(self.function).parameters
        names = [port["name"] for port in self.request["inputs"]]
        by_name = all(name in parameters for name in names)
        named = dict(zip(names, arrays)) if by_name else {}
        named.update((name, value) for name, value in self.request["numbers"].items()
                     if name in parameters and name not in names)
        return [] if by_name else list(arrays), named

    def call(self, arrays):
        positional, named = self.bound(arrays)
        made = self.function(*positional, **named)
        made = list(made) if isinstance(made, (tuple, list)) else [made]
        outputs = self.request["outputs"]
        if len(made) != len(outputs):
            raise Fault(f"returns {len(made)} arrays where the kernel has {len(outputs)} outputs")
        for array, port in zip(made, outputs):
            shape = tuple(getattr(array, "shape", ()))
            if shape != tuple(port["shape"]):
                raise Fault(f"returns shape {shape} for output '{port['name']}', which has {tuple(port['shape'])}")
        return made

    def numbers(self, inputs, wide):
        """The outputs as float64, from inputs in the type `wide`."""
        made = self.call([self.lib.cast(one, wide) if self.lib.is_float(one) else one for one in inputs])
        return [self.lib.cast(one, "float64") for one in made]

    def best(self, inputs):
        """In float64, or in float32 where the function does not take it."""
        first = None
        for wide in ("float64", "float32"):
            try:
                made = self.numbers(inputs, wide)
                self.evaluate(made)
                return made, wide
            except Fault:
                raise
            except Exception as error:
                first = first or error
        raise Fault(described(first))

    def evaluate(self, made):
        if self.is_mlx:
            self.lib.eval(made)


def sensitivity(runner, inputs, wide, y):
    """Per output how much its elements move, about, when every input is rounded to float32."""
    lib = runner.lib
    sums = [lib.zeros_like(one) for one in y]
    for _ in range(DRAWS):
        moved = [one * (1 + STEP * lib.signs(one.shape)) if lib.is_float(one) else one for one in inputs]
        made = runner.numbers(moved, "float64" if wide == "float64" else "float32")
        sums = [total + lib.nan_to_num((other - one) / STEP) ** 2 for total, other, one in zip(sums, made, y)]
        runner.evaluate(sums)
    return [lib.maximum(lib.abs(one), 4 * lib.sqrt(total / DRAWS)) for total, one in zip(sums, y)]


def check_nan(runner, inputs, y):
    lib = runner.lib
    floats = [one for one in inputs if lib.is_float(one)]
    if not all(bool(lib.isfinite(one).all()) for one in floats):
        return
    for port, made in zip(runner.request["outputs"], y):
        count = int(lib.isnan(made).sum())
        if count:
            largest = max((float(lib.abs(one).max()) for one in floats), default=0)
            raise Fault(f"returns NaN in {count} elements of output '{port['name']}' for finite inputs of up to "
                        f"{largest:.3g}: correct it, or state the range of the inputs in the kernel's head")


def values(request):
    runner = Runner(request)
    inputs = [runner.lib.cast(one, "float64") if runner.lib.is_float(one) else one for one in runner.loaded()]
    y, wide = runner.best(inputs)
    check_nan(runner, inputs, y)
    terms = sensitivity(runner, inputs, wide, y) if request["sensitivity"] else [runner.lib.abs(one) for one in y]
    for port, made, size in zip(request["outputs"], y, terms):
        runner.lib.save(port["file"], made)
        runner.lib.save(port["terms"], size)
    return {"mlx": runner.is_mlx}


def exact(request):
    runner = Runner(request)
    inputs = [runner.lib.cast(one, port["dtype"]) for one, port in zip(runner.loaded(), request["inputs"])]
    try:
        made = runner.call(inputs)
        runner.evaluate(made)
    except Fault:
        raise
    except Exception as error:
        raise Fault(described(error)) from error
    for array, port in zip(made, request["outputs"]):
        own = runner.lib.cast(array, port["dtype"])
        runner.lib.save(port["file"], runner.lib.cast(own, "float32") if port["dtype"] == "bfloat16" else own)
    return {"mlx": runner.is_mlx}


def export(request):
    runner = Runner(request)
    if not runner.is_mlx:
        return {"mlx": False}
    lib = runner.lib
    lib.set_default_device(getattr(lib, request["device"]))
    zeros = [lib.zeros(port["shape"], dtype=lib.type(port["dtype"])) for port in request["inputs"]]

    def graph(*arrays):
        return [lib.cast(one, port["dtype"]) for one, port in zip(runner.call(list(arrays)), request["outputs"])]

    try:
        lib.export_function(request["file"], graph, *zeros)
    except Fault:
        raise
    except Exception as error:  # it reads values, say: there is no graph to compare times with
        return {"mlx": False, "why": described(error)}
    return {"mlx": True}


def recorded(path):
    try:
        lib = Mlx()
    except ImportError:
        lib = NumPy()
        if not path.endswith(".npz"):
            raise
    arrays = lib.load(path)
    known = {name: arrays[name] for name in arrays}
    if isinstance(lib, Mlx):
        lib.eval(known)  # read now: what is saved while it is still to be read waits for itself
    return lib, known


def arrays(request):
    path = request["path"]
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != request["sha256"]:
        raise Fault("has changed since it was first read: start another run")
    lib, known = recorded(path)
    if request["only_shapes"]:
        return {"shapes": {name: list(array.shape) for name, array in known.items()}}
    for port in request["inputs"] + request["outputs"]:
        if port["name"] not in known:
            raise Fault(f"holds no array '{port['name']}', but {', '.join(sorted(known))}")
        array = known[port["name"]]
        if list(array.shape) != list(port["shape"]):
            raise Fault(f"holds '{port['name']}' with shape {tuple(array.shape)}, and the size asks for "
                        f"{tuple(port['shape'])}")
        if "terms" in port:  # an output as float64
            wide = lib.cast(array, "float64")
            lib.save(port["file"], wide)
            lib.save(port["terms"], lib.abs(wide))
        else:
            own = lib.cast(array, port["dtype"])
            lib.save(port["file"], lib.cast(own, "float32") if port["dtype"] == "bfloat16" else own)
    return {}


def main():
    os.chdir(Path(sys.argv[1]).parent)
    request = json.loads(Path("request.json").read_text())
    try:
        reply = {"values": values, "exact": exact, "export": export, "arrays": arrays}[request["mode"]](request)
    except Fault as fault:
        reply = {"error": str(fault)}
    except ModuleNotFoundError as error:
        reply = {"error": f"needs a Python package that {sys.executable} does not have ({error}): name another Python in "
                          "MLX_KD_PYTHON"}
    except Exception as error:
        reply = {"error": described(error)}
    Path("reply.json").write_text(json.dumps(reply))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what libraries do as a process ends, MLX with its threads, cannot spoil what was answered


main()
