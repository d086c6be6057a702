"""Every model of mlx-lm that a test calls is patched at the call, and its result is compared with that without a patch.

``with checked() as found:`` wraps the class ``Model`` of each module of ``mlx_lm.models``. A call gives the result of
the patched model, as a user would see it; twins of the model and of its cache give MLX's result and that of float32.
"""
import contextlib
import copy
import gc
import importlib
import io
import math
import pkgutil
import sys
from unittest import mock

import mlx.core as mx
from mlx.utils import tree_flatten

import mlx_kd
from mlx_kd.patching import float_type, proof, samples
from mlx_kd.patching.operators import calls_by_operator

# Each module's error is at most 1.25 times MLX's; roundings of many layers add up. Results of one row and 16 layers in
# float16 had ratios of up to 2.6; in float32, where MLX is the judge, a recurrent layer had an error of 1.5e-5.
RATIO, FLOAT32_SHARE = 4.0, 1e-4
MOST_BYTES = 3 << 30  # of a model: there are several copies


class Found:
    def __init__(self):
        self.wrong, self.calls, self.hits = [], 0, {}  # hits of operators by class of model
        self.not_evaluated = set()                     # classes whose result MLX cannot compute here
        self.not_finite = set()                        # classes of which it was NaN or infinite
        self.reports = {}


def wide(value):
    """Arrays of whatever holds them, caches too, as float32."""
    if isinstance(value, mx.array):
        return samples.to_float32(value)
    if isinstance(value, (list, tuple)):
        made = [wide(one) for one in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    if isinstance(value, dict):
        return {key: wide(one) for key, one in value.items()}
    if type(value).__module__.startswith("mlx_lm."):
        value.__dict__.update({key: wide(one) for key, one in value.__dict__.items()})
    return value


def first_of(result):
    return result[0] if isinstance(result, (tuple, list)) else result


def error(array, judge):
    return mx.sqrt(mx.mean(mx.square(array.astype(mx.float32) - judge))).item()


def operator_calls():
    return sum(sum(counts.values()) for counts in calls_by_operator().values())


def evaluated(own, model, arguments, named):
    result = own(model, *arguments, **named)
    mx.eval(result)
    return first_of(result)


class Checking:
    def __init__(self, found, cls):
        self.found, self.cls, self.own, self.inside = found, cls, cls.__call__, False

    def patch(self, model):
        """Again where the test has given the model another type."""
        dtype = str(float_type(model))
        if model.__dict__.get("_kd_checked") == dtype:
            return
        if (size := sum(array.nbytes for _, array in tree_flatten(model.parameters()))) > MOST_BYTES:
            raise MemoryError(f"{self.cls.__module__}: a model of {size / 1e9:.1f} GB is too large to be compared")
        gc.collect()  # earlier models are in cycles
        mx.clear_cache()
        mlx_kd.unpatch(model)
        with contextlib.redirect_stderr(io.StringIO()), mock.patch.object(proof, "speed_up", lambda *_: 2.0):
            self.found.reports[self.cls, dtype] = mlx_kd.patch(model)
        object.__setattr__(model, "_kd_checked", dtype)

    def __call__(self, model, arguments, named):
        if self.inside:
            return self.own(model, *arguments, **named)
        self.inside = True
        try:
            self.patch(model)
            given = copy.deepcopy((arguments, named)), copy.deepcopy((arguments, named))
            try:
                old = evaluated(self.own, samples.clone(model), *given[0])
            except RuntimeError:
                self.found.not_evaluated.add(self.cls)
                return self.own(model, *arguments, **named)
            judge = evaluated(self.own, samples.clone(model, samples.to_float32), *wide(given[1]))
            before = operator_calls()
            result = self.own(model, *arguments, **named)
            mx.eval(result)
            self.compare(first_of(result), old, judge, operator_calls() - before)
            return result
        finally:
            self.inside = False

    def compare(self, new, old, judge, hits):
        self.found.calls += 1
        self.found.hits[self.cls] = self.found.hits.get(self.cls, 0) + hits
        ours, mlx = error(new, judge), error(old, judge)
        if math.isnan(mlx) and math.isnan(ours):  # MLX's own result is not finite: a test with such weights
            self.found.not_finite.add(self.cls)
        elif not ours <= max(RATIO * mlx, FLOAT32_SHARE * error(judge, mx.zeros(()))):
            self.found.wrong.append(f"{self.cls.__module__}, {old.dtype} {old.shape}: its error is {ours:.3g}, MLX's {mlx:.3g}")
            print(self.found.wrong[-1], file=sys.stderr, flush=True)


def model_classes():
    package = importlib.import_module("mlx_lm.models")
    for one in pkgutil.iter_modules(package.__path__):
        with contextlib.suppress(ImportError, SystemExit, AttributeError):  # what needs other packages
            cls = getattr(importlib.import_module(f"mlx_lm.models.{one.name}"), "Model", None)
            if isinstance(cls, type) and "__call__" in cls.__dict__ and cls.__module__.endswith("." + one.name):
                yield cls


@contextlib.contextmanager
def checked():
    found, before = Found(), []
    with contextlib.redirect_stdout(io.StringIO()):
        classes = list(model_classes())
    for cls in classes:
        before.append((cls, cls.__call__))
        checking = Checking(found, cls)
        cls.__call__ = (lambda checking: lambda self, *arguments, **named: checking(self, arguments, named))(checking)
    try:
        yield found
    finally:
        for cls, call in before:
            cls.__call__ = call
