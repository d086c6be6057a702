"""What do a token's append and attention cost with each kind of cache? caches.py [--out FILE]

In one process, in random order: attention of one token by our bfloat16 kernel, by the quantised ones and over pages (32
query heads and 8 key heads of 128), over caches of each of --tokens, as a graph of so many layers that no cache is in
the processor's caches when its turn comes; and the append of one token as operators in a graph of 64, next to operators
that do next to nothing, and to appends that write nothing because their offset is negative: alone, and with the
rotation of queries and keys, in one operator and in two. Next to nothing do a norm of 32 elements, and MLX's own divmod
of 32 elements, which has two results as an append has: MLX takes 1 us or more for the second. Kernels are the defaults.
Prints medians and the medians of paired ratios and differences, and writes them as JSON.
"""
import argparse
import datetime
import random
import statistics
import sys
import time
from pathlib import Path

import mlx.core as mx

import mlx_kd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, machine, write_result  # noqa: E402

QUERIES, HEADS, WIDTH, GRAPH, BLOCK = 32, 8, 128, 64, 32
OF_NOTHING = " of nothing"
EMPTY, TWO = "a norm of 32 elements", "MLX's divmod of 32 elements"
PAGES = {"paged": BLOCK, "paged, blocks of 64": 64}
COLD = 64 << 20  # bytes of the smallest caches of all layers
KERNELS = ["attention", "attention_paged", "attention_paged_quantized", "attention_quantized", "kv_append",
           "kv_append_quantized", "qk_norm_rope", "qk_norm_rope_append", "qk_norm_rope_append_paged",
           "qk_norm_rope_append_paged_quantized", "qk_norm_rope_append_quantized", "rmsnorm"]


def normal(*shape):
    return mx.random.normal(shape).astype(mx.bfloat16)


def layer_of(tokens):
    """The arrays of one layer's caches, by kind."""
    keys, values = normal(1, HEADS, tokens, WIDTH), normal(1, HEADS, tokens, WIDTH)
    made = {"bf16": [keys, values]}
    for bits in (8, 4):
        made[f"{bits} bits"] = [*mx.quantize(keys, 64, bits), *mx.quantize(values, 64, bits)]
    def in_pages(arrays, block):
        return [mx.contiguous(x.reshape(HEADS, tokens // block, block, -1).swapaxes(0, 1)) for x in arrays]
    for kind, block in PAGES.items():
        made[kind] = in_pages((keys, values), block)
        made[f"{kind}, 8 bits"] = in_pages(made["8 bits"], block)
    mx.eval(made)
    return made


def attentions(tokens):
    """Each as a function that evaluates a graph of a call for each layer; how many there are, and bytes of a cache."""
    first = layer_of(tokens)
    sizes = {kind: sum(x.nbytes for x in arrays) for kind, arrays in first.items()}
    count = max(2, -(-COLD // min(sizes.values())))
    layers = [first] + [layer_of(tokens) for _ in range(count - 1)]
    queries = [normal(1, QUERIES, 1, WIDTH) for _ in layers]
    scale = WIDTH ** -0.5

    def coded(bits):
        return lambda q, x: mlx_kd.attention_quantized(q, *x, scale=scale, bits=bits, group_size=64)

    def in_pages(block):
        order = list(range(tokens // block))
        random.shuffle(order)
        places = mx.array([order], mx.int32), mx.array([0], mx.int32), mx.array([tokens], mx.int32)
        mx.eval(places)
        return {"": lambda q, x: mlx_kd.attention_paged(q, *x, *places, scale=scale),
                ", 8 bits": lambda q, x: mlx_kd.attention_paged_quantized(q, *x, *places, scale=scale, bits=8, group_size=64)}
    mx.eval(queries)
    calls = {"bf16": lambda q, x: mlx_kd.attention(q, *x, scale=scale), "8 bits": coded(8), "4 bits": coded(4),
             **{kind + bits: call for kind, block in PAGES.items() for bits, call in in_pages(block).items()}}

    def step(kind):
        return lambda: mx.eval([calls[kind](q, layer[kind]) for q, layer in zip(queries, layers)])
    return {kind: step(kind) for kind in calls}, count, sizes


def chain(held, operator):
    """One call after the other on what the last one left, which nothing else holds, as one graph."""
    def run():
        cache = tuple(held)
        held.clear()
        for i in range(GRAPH):
            cache = operator(cache, i)
        held.extend(cache)
        del cache
        mx.eval(held)
    return run


def appends(tokens):
    """A token after the other into a cache with room; and a chain of an operator that does next to nothing."""
    new, q = normal(1, HEADS, 1, WIDTH), normal(1, QUERIES, 1, WIDTH)
    row, weight = [normal(1, 32)], mx.ones(32, mx.bfloat16)
    at = [mx.array([i], mx.int32) for i in range(GRAPH)]
    slots = [mx.array([[i]], mx.int32) for i in range(GRAPH)]
    nowhere = mx.array([-1], mx.int32)
    mx.eval(new, q, row, weight, at, slots, nowhere)

    def plain():
        return [mx.zeros((1, HEADS, tokens, WIDTH), mx.bfloat16) for _ in range(2)]

    def coded():
        return [part for x in plain() for part in mx.quantize(x, 64, 8)]

    def paged():
        return [mx.zeros((tokens // BLOCK, HEADS, BLOCK, WIDTH), mx.bfloat16) for _ in range(2)]

    def coded_pages():
        return [part for x in paged() for part in mx.quantize(x, 64, 8)]

    def apart(cache, i):
        turned, keys = mlx_kd.qk_norm_rope(q, new, at[i])
        return (*mlx_kd.kv_append_quantized(*cache[:6], keys, new, i, bits=8, group_size=64), turned)
    codes = {"bits": 8, "group_size": 64}
    # Of each operator: the caches, and a call that writes at an offset or slot.
    writes = {
        "kv_append": (plain, at, lambda x, i, to: mlx_kd.kv_append(*x, new, new, to)),
        "kv_append_quantized": (coded, at, lambda x, i, to: mlx_kd.kv_append_quantized(*x, new, new, to, **codes)),
        "qk_norm_rope_append": (plain, at, lambda x, i, to: mlx_kd.qk_norm_rope_append(*x[:2], q, new, new, to)),
        "qk_norm_rope_append_quantized": (coded, at, lambda x, i, to: mlx_kd.qk_norm_rope_append_quantized(
            *x[:6], q, new, new, to, at[i], **codes)),
        "qk_norm_rope_append_paged": (paged, slots, lambda x, i, to: mlx_kd.qk_norm_rope_append_paged(
            *x[:2], q, new, new, to, at[i])),
        "qk_norm_rope_append_paged_quantized": (coded_pages, slots, lambda x, i, to: (
            mlx_kd.qk_norm_rope_append_paged_quantized(*x[:6], q, new, new, to, at[i], **codes))),
    }
    ways = {
        TWO: ([mx.ones(32), mx.ones(32)], lambda x, i: mx.divmod(*x)),
        EMPTY: (row, lambda x, i: (mlx_kd.rmsnorm(x[0], weight, 1e-5),)),
        "qk_norm_rope, kv_append_quantized": (coded(), apart),
    }

    def both(name, caches, places, call):
        none = nowhere if places is at else mx.array([[-1]], mx.int32)
        mx.eval(none)
        ways[name] = caches(), lambda x, i: call(x, i, places[i])
        ways[name + OF_NOTHING] = caches(), lambda x, i: call(x, i, none)
    for name, (caches, places, call) in writes.items():
        both(name, caches, places, call)
    mx.eval([held for held, _ in ways.values()])
    return {name: chain(held, operator) for name, (held, operator) in ways.items()}


def measure(ways, samples, calls):
    """Median microseconds a call of each, and the samples."""
    times = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(samples):
        for name in random.sample(list(ways), len(ways)):
            start = time.perf_counter()
            ways[name]()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return {name: statistics.median(one) for name, one in times.items()}, times


def of_tokens(tokens, samples):
    ways, layers, sizes = attentions(tokens)
    medians, times = measure(ways, samples, layers)
    ratios = {name: statistics.median(a / b for a, b in zip(times["bf16"], times[name])) for name in times}
    return {"tokens": tokens, "layers": layers, "attention_us": medians, "times_bf16": ratios,
            "bytes": {name: size / sizes["bf16"] for name, size in sizes.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--samples", type=int, default=41)
    parser.add_argument("--appends", action="store_true", help="only what appends cost")
    parser.add_argument("--out", help="the JSON file to write")
    arguments = parser.parse_args()
    mlx_kd.configure(default_kernels=KERNELS)
    append, times = measure(appends(arguments.tokens[0]), arguments.samples, GRAPH)

    def more(than):
        return {name: statistics.median(a - b for a, b in zip(times[name], times[than])) for name in times}
    over = {name: statistics.median(a - b for a, b in zip(times[name], times[name + OF_NOTHING]))
            for name in times if name + OF_NOTHING in times}
    is_gpu = mx.default_device() == mx.gpu
    result = {"what": "microseconds of attention of one token and of an append, by kind of cache",
              "append_us": append, "append_more_than_of_nothing_us": over, "append_more_than_empty_us": more(EMPTY),
              "append_more_than_divmod_us": more(TWO), "samples": arguments.samples,
              "machine": gpu_machine() if is_gpu else machine(), "date": datetime.date.today().isoformat(),
              "mlx": mx.__version__}
    if not arguments.appends:
        result["attention"] = [of_tokens(tokens, arguments.samples) for tokens in arguments.tokens]
    write_result(result, arguments.out)


if __name__ == "__main__":
    main()
