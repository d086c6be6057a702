"""Every model of mlx-lm that a test calls is patched at the call, and its result is compared with that without a patch.

``with checked() as found:`` wraps the class ``Model`` of each module of ``mlx_lm.models``. A call gives the result of
the patched model, as a user would see it; twins of the model and of its cache give MLX's result and that of float32.

A model that rounds what it computes to steps, as afm7 does with keys and values, has another result once a value lies
next to the middle of two steps: there a last bit decides, in MLX's result as in any other. All three take the float32
model's step there (``Steps``), so that what is left of an error is that of the operators.
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
NEAR_A_TIE = 0.02     # of a step: roundings of float16 move a value by a tenth of it


class Found:
    def __init__(self):
        self.wrong, self.calls, self.hits = [], 0, {}  # hits of operators by class of model
        self.not_evaluated = set()                     # classes whose result MLX cannot compute here
        self.broken = set()                            # classes whose own code fails: a package is missing
        self.not_finite = set()                        # classes of which it was NaN or infinite
        self.reports = {}
        self.errors = []                               # of each call: that of the operators, and MLX's


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


class Steps:
    """In the place of a function (x, step) of a model's module that rounds x to multiples of the step."""

    def __init__(self, own):
        self.own, self.judges, self.next = own, [], None  # the judge's results; None: its run is now

    def __call__(self, x, step):
        if self.next is None:
            self.judges.append(self.own(x, step))
            return self.judges[-1]
        judge, self.next = self.judges[self.next], self.next + 1
        is_near = mx.abs(x.astype(mx.float32) - judge) <= (0.5 + NEAR_A_TIE) * step
        return mx.where(is_near, judge.astype(x.dtype), self.own(x, step))

    def judge_runs(self):
        self.judges, self.next = [], None

    def other_runs(self):
        self.next = 0


def rounding(module):
    """The names of such functions; MLX's compiled functions keep their code."""
    return [name for name, value in vars(module).items()
            if "round" in getattr(getattr(value, "__code__", None), "co_names", ()) and value.__code__.co_argcount == 2]


class Checking:
    def __init__(self, found, cls):
        self.found, self.cls, self.own, self.inside = found, cls, cls.__call__, False
        self.module = sys.modules[cls.__module__]
        self.steps = {name: Steps(getattr(self.module, name)) for name in rounding(self.module)}

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
            with contextlib.ExitStack() as context:
                for name, step in self.steps.items():
                    context.enter_context(mock.patch.object(self.module, name, step))
                return self.compared(model, arguments, named)
        finally:
            self.inside = False

    def other_runs(self):
        for step in self.steps.values():
            step.other_runs()

    def compared(self, model, arguments, named):
        given = copy.deepcopy((arguments, named)), copy.deepcopy((arguments, named))
        for step in self.steps.values():
            step.judge_runs()
        try:
            judge = evaluated(self.own, samples.clone(model, samples.to_float32), *wide(given[1]))
            self.other_runs()
            old = evaluated(self.own, samples.clone(model), *given[0])
        except RuntimeError:
            self.found.not_evaluated.add(self.cls)
            for step in self.steps.values():
                step.judge_runs()
            return self.own(model, *arguments, **named)
        except Exception:
            self.found.broken.add(self.cls)
            raise
        self.other_runs()
        before = operator_calls()
        result = self.own(model, *arguments, **named)
        mx.eval(result)
        self.compare(first_of(result), old, judge, operator_calls() - before)
        return result

    def compare(self, new, old, judge, hits):
        self.found.calls += 1
        self.found.hits[self.cls] = self.found.hits.get(self.cls, 0) + hits
        ours, mlx = error(new, judge), error(old, judge)
        self.found.errors.append((ours, mlx))
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
