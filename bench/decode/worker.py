"""One side of the comparison in a process of its own: worker.py SIDE BITS_OR_FILE SHAPE_AS_JSON THREADS.

SIDE is mlx, ours, llama or torch. Reads one request per line from stdin, and answers each with one line of JSON:

    prompt N            seconds of a prompt of N tokens, from an empty cache
    decode N COUNT      seconds of COUNT tokens, one at a time, after N tokens of context
    profile N           seconds per operator of one decode step after N tokens (mlx and ours)
    about               versions; what was replaced
    memory              peak of the process since its model was made, MiB
"""
import collections
import json
import re
import sys
import time
from pathlib import Path

import model as models


class Mlx:
    """mlx-lm, as installed or patched."""

    def __init__(self, bits, shape, patched):
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache
        self.mx, self.shape, self.make_cache = mx, shape, make_prompt_cache
        self.model = models.mlx_model(bits, shape)
        self.contexts, self.report = {}, None
        forget_peak()
        if patched:
            import mlx_kd
            self.report = mlx_kd.patch(self.model)

    def about(self):
        import mlx_lm
        return {"versions": {"MLX": self.mx.__version__, "mlx-lm": mlx_lm.__version__},
                "replaced": str(self.report).splitlines() if self.report else []}

    def prompt(self, count):
        tokens = self.mx.array([[300 + i % 1000 for i in range(count)]])
        cache = self.make_cache(self.model)
        start = time.perf_counter()
        self.mx.eval(self.model(tokens, cache=cache)[:, -1])
        return time.perf_counter() - start

    def context(self, count):
        """A cache that is filled with random keys and values instead of a prompt, which takes MLX too long."""
        if count not in self.contexts:
            mx, shape = self.mx, self.shape
            cache = self.make_cache(self.model)
            for layer in cache:
                size = (1, shape["kv_heads"], count + 256, shape["head_dim"])
                layer.keys, layer.values = (mx.random.normal(size).astype(mx.bfloat16) for _ in range(2))
                layer.offset = count
                mx.eval(layer.keys, layer.values)
            self.contexts[count] = cache
        return self.contexts[count]

    def decode(self, context, count):
        """As mlx_lm.generate does: the graph of a token is made while the token before it is computed."""
        mx, cache = self.mx, self.context(context)
        token = mx.array([300])
        start = time.perf_counter()
        for _ in range(count):
            following = mx.argmax(self.model(token[:, None], cache=cache)[:, -1], -1)
            mx.async_eval(following)
            token.item()
            token = following
        token.item()
        seconds = time.perf_counter() - start
        for layer in cache:
            layer.trim(count)
        return seconds

    def profile(self, context):
        """Seconds of all calls of an operator in a step, each operator's calls in a graph of their own."""
        calls = record_step(self, context)
        step = sorted(self.decode(context, 1) for _ in range(5))[2]
        result = {"step": step, "operators": {}}
        for name, made in calls.items():
            times = sorted(self.time_of(made) for _ in range(5))
            result["operators"][name] = {"calls": len(made), "seconds": times[2]}
        return result

    def time_of(self, made):
        start = time.perf_counter()
        self.mx.eval([function(*arguments, **named) for function, arguments, named in made])
        return time.perf_counter() - start


def record_step(side, context):
    """The calls of one step by operator, with evaluated arguments."""
    import mlx.core as mx
    calls, undo = collections.defaultdict(list), []

    def recording(name, function):
        def call(*arguments, **named):
            mx.eval([value for value in (*arguments, *named.values()) if isinstance(value, mx.array)])
            calls[name].append((function, arguments, named))
            return function(*arguments, **named)
        return call

    def replace(place, name, function):
        undo.append((place, name, getattr(place, name)))
        setattr(place, name, function)

    for place, name in ((mx, "quantized_matmul"), (mx.fast, "rms_norm"), (mx.fast, "rope"),
                        (mx.fast, "scaled_dot_product_attention")):
        replace(place, name, recording(name, getattr(place, name)))
    if side.report is not None:
        from mlx_kd import _operators
        ours = {id(getattr(_operators, name)): name for name in _operators.__all__}
        for module in side.model.modules():
            replace_in_plan(module.__dict__.get("_kd_plan"), ours, recording, replace)
    try:
        side.decode(context, 1)
    finally:
        for place, name, function in reversed(undo):
            setattr(place, name, function)
    return calls


def replace_in_plan(plan, ours, recording, replace):
    """The operators that a plan and its parts hold."""
    for name, value in list(getattr(plan, "__dict__", {}).items()):
        if id(value) in ours:
            replace(plan, name, recording(ours[id(value)], value))
        elif type(value).__module__.startswith("mlx_kd.patching."):
            replace_in_plan(value, ours, recording, replace)


class Llama:
    """llama.cpp through xllamacpp. Its context is a real prompt, kept between calls."""

    def __init__(self, file, threads):
        import xllamacpp
        params = xllamacpp.CommonParams()
        params.model.path = file
        params.n_ctx, params.n_parallel, params.warmup = 8192, 1, True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self.server, self.shift = xllamacpp.Server(params), 0

    def about(self):
        from importlib.metadata import version
        return {"versions": {"xllamacpp": version("xllamacpp")}, "replaced": []}

    def ask(self, tokens, count, keep):
        request = {"prompt": tokens, "n_predict": count, "ignore_eos": True, "temperature": 0.0, "cache_prompt": keep}
        answer = self.server.handle_completions(request)
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        return answer["timings"]

    def prompt(self, count):
        self.shift += 1
        tokens = [1] + [300 + (i + self.shift) % 1000 for i in range(count - 1)]
        return self.ask(tokens, 1, False)["prompt_ms"] / 1000

    def decode(self, context, count):
        tokens = [1] + [300 + i % 1000 for i in range(context - 1)]
        timings = self.ask(tokens, count, True)
        return timings["predicted_ms"] / 1000 * count / timings["predicted_n"]


def forget_peak():
    """The peak starts again (Linux): making random weights is not part of it."""
    Path("/proc/self/clear_refs").write_text("5")


def memory_mib():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024


def make(side, what, shape, threads):
    if side == "llama":
        return Llama(what, threads)
    if side == "torch":
        from torch_side import Torch
        forget_peak()
        return Torch(int(what), shape, threads)
    return Mlx(int(what), shape, side == "ours")


def main():
    side, what, shape, threads = sys.argv[1:5]
    run = make(side, what, json.loads(shape), int(threads))
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is not an answer
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        verb, *numbers = line.split()
        value = memory_mib() if verb == "memory" else getattr(run, verb)(*map(int, numbers))
        print(json.dumps(value), file=answers, flush=True)


if __name__ == "__main__":
    main()
