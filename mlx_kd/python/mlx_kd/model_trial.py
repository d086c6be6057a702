"""Packs in turn inside the code of a model: kd tune-model keeps the kernels that are faster there.

The program starts it as ``python -c "... model_trial.main(REQUEST)"`` with a JSON object: ``config``, a file; ``dtype``;
``seed``; ``out``, a file; and ``passes``, each with ``tokens`` (of a call of the model), ``context`` (tokens before them; 0:
the call is a prompt), ``seconds`` and ``packs`` (files; "": the pins that mlx_kd.patch takes without a pack). Into ``out``
goes the time of a call in us by pass, by pack and by round.

The model has few layers and random weights of at most MEMORY bytes, and is patched without a proof. In each round each
pack has one sample, in random order, in one process: what the machine does meanwhile, all of them see alike.
"""
from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_kd import skeleton

LAYERS = (8, 4, 2)  # of the model: the first with which ENOUGH rounds fit the time
ENOUGH, LEAST = 12, 6  # rounds; the least whatever the time is: fewer have no interval
STEPS = 4  # of decoding, in a sample
MEMORY = 1 << 30  # bytes of weights, about
BLOCK = 1 << 18  # random numbers; larger arrays repeat them
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers")


def main(text: str) -> int:
    request = json.loads(text)
    try:
        run(request)
    except Exception as error:  # of a model's code: any can come
        lines = str(error).splitlines()
        print(f"{type(error).__name__}: {lines[0] if lines else ''}", file=sys.stderr)
        return 1
    return 0


def run(request: dict[str, Any]) -> None:
    for name in (*skeleton.SETTINGS, *skeleton.OWN_LOG, *("Z" + name for name in skeleton.OWN_LOG)):
        os.environ.pop(name, None)
    mx.set_default_device(mx.cpu)
    mx.random.seed(request["seed"])
    order = random.Random(request["seed"])
    config, dtype = json.loads(Path(request["config"]).read_text()), getattr(mx, request["dtype"])
    models: dict[int, Model] = {}

    def model_of(layers: int) -> Model:
        """The last one is kept: more would take its memory as often."""
        if layers not in models:
            models.clear()
            models[layers] = Model(config, dtype, layers)
        return models[layers]

    times = [times_of(one, model_of, order) for one in request["passes"]]
    Path(request["out"]).write_text(json.dumps(times))


def times_of(one: dict[str, Any], model_of: Callable[[int], Model], order: random.Random) -> list[list[float]]:
    """us by pack and round, of one pass."""
    sample = None
    for layers in LAYERS:
        begin = time.perf_counter()
        try:
            fewer = model_of(layers).sampler(int(one["tokens"]), int(one["context"]))
            fewer("")
        except Exception:  # of a model's code, which may need more layers
            if sample is None:
                raise
            break
        sample, start = fewer, time.perf_counter()
        sample("")
        if (time.perf_counter() - start) * len(one["packs"]) * ENOUGH <= one["seconds"]:
            break
    assert sample is not None
    return in_turn(sample, one["packs"], begin + one["seconds"], order)


def in_turn(sample: Callable[[str], float], packs: list[str], end: float, order: random.Random) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in packs]
    for pack in packs:  # the first call with a pack may compile
        sample(pack)
    while len(times[0]) < LEAST or time.perf_counter() < end:
        for at in order.sample(range(len(packs)), len(packs)):
            times[at].append(1e6 * sample(packs[at]))
    return times


class Model:
    def __init__(self, config: dict[str, Any], dtype: mx.Dtype, layers: int) -> None:
        self.model = skeleton.made(with_layers(config, layers), dtype)
        fill(self.model)
        skeleton.patch(self.model, dtype)
        self.vocabulary = int(config.get("vocab_size", 2))
        self.caches: dict[int, Any] = {}

    def tokens(self, count: int) -> mx.array:
        return mx.random.randint(0, self.vocabulary, (1, count)).astype(mx.uint32)

    def read(self, tokens: mx.array, cache: Any) -> None:
        """A prompt, as mlx_lm.generate reads it: without its logits."""
        self.model(tokens, cache=cache)
        mx.eval([one.state for one in cache])

    def sampler(self, count: int, context: int) -> Callable[[str], float]:
        """A function that gives the seconds of a call with so many tokens and the pins of a pack."""
        calls = self.tokens(count)
        if context and context not in self.caches:
            use("")
            self.caches[context] = new_cache(self.model)
            self.read(self.tokens(context), self.caches[context])

        def sample(pack: str) -> float:
            use(pack)
            if context:
                return self.steps(calls, self.caches[context])
            cache, start = new_cache(self.model), time.perf_counter()
            self.read(calls, cache)
            return time.perf_counter() - start
        return sample

    def steps(self, tokens: mx.array, cache: Any) -> float:
        """As mlx_lm.generate decodes: the graph of a step is made while the one before it is computed."""
        start_to_compute: Any = mx.async_eval

        def step(tokens: mx.array) -> mx.array:
            following = mx.argmax(self.model(tokens, cache=cache), -1).astype(mx.uint32)
            start_to_compute(following)
            return following

        mx.eval(step(tokens))  # its pins are found, and the processor's caches hold what a step leaves
        start, now = time.perf_counter(), step(tokens)
        for _ in range(STEPS - 1):
            following = step(now)
            mx.eval(now)
            now = following
        mx.eval(now)
        seconds = (time.perf_counter() - start) / STEPS
        trim(cache, (STEPS + 1) * tokens.size)
        return seconds


def use(pack: str) -> None:
    """The pins of a pack, or those of a model that is patched without one, and default kernels for what they leave."""
    from mlx_kd import _core
    from mlx_kd.patching.operators import chosen
    known = set(_core.op_names())
    defaults = sorted(name for name in chosen(None).functions if name in known)
    try:
        _core.configure(enabled=True, path=pack or "shipped", default_kernels=defaults, wait_for_compile=True)
    except ValueError:
        if pack:
            raise
        _core.configure(enabled=False, default_kernels=defaults, wait_for_compile=True)  # this build has no pack


def new_cache(model: Any) -> Any:
    return importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)


def trim(cache: Any, tokens: int) -> None:
    """Where it can: other caches have one size, or grow for all packs alike."""
    caches = importlib.import_module("mlx_lm.models.cache")
    if caches.can_trim_prompt_cache(cache):
        caches.trim_prompt_cache(cache, tokens)


# --- the model ---

def with_layers(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """A config of the first layers: lists with an entry per layer are cut too."""
    name = next((name for name in LAYER_COUNTS if name in config), None)
    if name is None or config[name] <= layers:
        return config
    total = config[name]
    return {**{key: value[:layers] if isinstance(value, list) and len(value) == total else value
               for key, value in config.items()}, name: layers}


def fill(model: Any) -> None:
    """Random weights. Where those of all layers would exceed MEMORY, layers share some."""
    from mlx_kd.patching import classes
    places: dict[Any, list[tuple[Any, str]]] = {}
    for path, module in classes.walk(model):
        for name, value in module.items():
            if isinstance(value, mx.array) and not name.startswith("_"):
                kind = (path.rpartition(".")[2], name, tuple(value.shape), value.dtype)
                places.setdefault(kind, []).append((module, name))
    total = sum(module[name].nbytes for found in places.values() for module, name in found)
    share = min(1.0, MEMORY / max(1, total))
    for found in places.values():
        arrays = [random_array(module, name) for module, name in found[:max(1, round(share * len(found)))]]
        mx.eval(arrays)
        for (module, name), array in zip(found, itertools.cycle(arrays)):
            module[name] = array


def random_array(module: Any, name: str) -> mx.array:
    """Of the size and type of an array of a module; products with it have the size of what they multiply, about."""
    like = module[name]
    if like.dtype == mx.uint32:
        return repeated(mx.random.randint(0, 1 << 32, (BLOCK,), mx.uint32), like.shape)
    if like.dtype == mx.uint8:  # scales of 4-bit floats: 2**-6, or 1 in their other format
        return mx.full(like.shape, 56 if getattr(module, "mode", "") == "nvfp4" else 121, mx.uint8)
    half = 2.0 ** (getattr(module, "bits", 4) - 1)
    if name == "scales":
        return mx.full(like.shape, 0.02 / half, like.dtype)
    if name == "biases":
        return mx.full(like.shape, -0.02, like.dtype)
    if like.ndim == 1 and name == "weight":
        return mx.ones(like.shape, like.dtype)
    return repeated((0.02 * mx.random.normal((BLOCK,))).astype(like.dtype), like.shape)


def repeated(block: mx.array, shape: Any) -> mx.array:
    size = 1
    for length in shape:
        size *= length
    copies = -(-size // block.size)
    return mx.contiguous(mx.tile(block, (copies,))[:size].reshape(shape))
