"""What do a token's append and attention cost with each kind of cache? caches.py [--out FILE]

In one process, in random order: attention of one token over a cache of --tokens by our bfloat16 kernel and by the
quantised ones (32 query heads and 8 key heads of 128), and the append of one token as operators in a graph of 64, next
to one that has hardly any work: what a primitive costs in a graph. Kernels are the defaults. Prints medians, and those
of paired ratios and differences, and writes them as JSON.
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
from common import machine, write_result  # noqa: E402

QUERIES, HEADS, WIDTH, GRAPH = 32, 8, 128, 64
EMPTY = "a norm of 32 elements"


def normal(*shape):
    return mx.random.normal(shape).astype(mx.bfloat16)


def attentions(tokens):
    """Each as a function that evaluates a graph of 8 calls on different queries."""
    queries = [normal(1, QUERIES, 1, WIDTH) for _ in range(8)]
    keys, values = normal(1, HEADS, tokens, WIDTH), normal(1, HEADS, tokens, WIDTH)
    ways = {"bf16": lambda q: mlx_kd.attention(q, keys, values, scale=WIDTH ** -0.5)}
    sizes = {"bf16": keys.nbytes + values.nbytes}
    for bits in (8, 4):
        parts = [*mx.quantize(keys, 64, bits), *mx.quantize(values, 64, bits)]
        mx.eval(parts)
        sizes[f"{bits} bits"] = sum(part.nbytes for part in parts)
        ways[f"{bits} bits"] = lambda q, parts=parts, bits=bits: mlx_kd.attention_quantized(
            q, *parts, scale=WIDTH ** -0.5, bits=bits, group_size=64)
    mx.eval(queries, keys, values)
    return {name: lambda way=way: mx.eval([way(q) for q in queries]) for name, way in ways.items()}, sizes


def appends(tokens):
    """A token after the other into a cache with room, as a chain in one graph; and a chain of an operator without work."""
    new = normal(1, HEADS, 1, WIDTH)
    plain = [mx.zeros((1, HEADS, tokens, WIDTH), mx.bfloat16) for _ in range(2)]
    coded = [part for _ in range(2) for part in mx.quantize(plain[0], 64, 8)]
    row, weight = normal(1, 32), mx.ones(32, mx.bfloat16)
    mx.eval(new, plain, coded, row, weight)

    def empty():
        x = row
        for _ in range(GRAPH):
            x = mlx_kd.rmsnorm(x, weight, 1e-5)
        mx.eval(x)

    def contiguous():
        cache = plain
        for i in range(GRAPH):
            cache = mlx_kd.kv_append(*cache, new, new, i)
        plain[:] = cache
        del cache
        mx.eval(plain)

    def quantized():
        cache = coded
        for i in range(GRAPH):
            cache = mlx_kd.kv_append_quantized(*cache, new, new, i, bits=8, group_size=64)
        coded[:] = cache
        del cache
        mx.eval(coded)
    return {EMPTY: empty, "kv_append": contiguous, "kv_append_quantized": quantized}


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--samples", type=int, default=41)
    parser.add_argument("--out", help="the JSON file to write")
    arguments = parser.parse_args()
    mlx_kd.configure(default_kernels=["attention", "attention_quantized", "kv_append", "kv_append_quantized", "rmsnorm"])
    ways, sizes = attentions(arguments.tokens)
    medians, times = measure(ways, arguments.samples, 8)
    ratios = {name: statistics.median(a / b for a, b in zip(times["bf16"], times[name])) for name in times}
    append, times = measure(appends(arguments.tokens), arguments.samples, GRAPH)
    more = {name: statistics.median(a - b for a, b in zip(times[name], times[EMPTY])) for name in times}
    result = {"what": "microseconds of attention of one token and of an append, by kind of cache",
              "tokens": arguments.tokens, "attention_us": medians, "times_bf16": ratios,
              "bytes": {name: size / sizes["bf16"] for name, size in sizes.items()}, "append_us": append,
              "append_more_than_empty_us": more,
              "samples": arguments.samples, "machine": machine(), "date": datetime.date.today().isoformat(),
              "mlx": mx.__version__}
    write_result(result, arguments.out)


if __name__ == "__main__":
    main()
