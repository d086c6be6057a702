"""How close does packing a cache come to copying its bytes? wire.py [--tokens N] [--out FILE]

A cache of 32 layers of 8 heads of 128 in bfloat16, with spare rows behind the tokens, is packed by mlx_kd.wire.pack
into a buffer that is used again. In the same process, in random order, for each sample: memcpy of as many bytes on one
thread and on all, and the five passes of exo's adapter (slice, transpose, evaluate, bytes, MessagePack; the last is
one more copy). Prints the medians and writes them as JSON.
"""
import argparse
import ctypes
import datetime
import os
import random
import statistics
import threading
import sys
import time
from pathlib import Path

import mlx.core as mx

import mlx_kd.wire
from mlx_lm.models.cache import KVCache

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine, write_result  # noqa: E402

LAYERS, HEADS, WIDTH = 32, 8, 128


def cache_of(tokens):
    cache, one = [], mx.random.uniform(shape=(1, HEADS, tokens + 256, WIDTH)).astype(mx.bfloat16)
    for layer in range(LAYERS):
        keys, values = one * (layer + 1), one - layer
        mx.eval(keys, values)
        cache.append(KVCache.from_state((keys, values, tokens)))
    return cache


def address(buffer):
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def memcpy(to, source, size, threads):
    copy = ctypes.CDLL(None).memcpy
    copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    each = size // threads
    parts = [threading.Thread(target=copy, args=(to + i * each, source + i * each, each)) for i in range(threads)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()


def five_passes(cache, tokens):
    """As exo packs it; what MessagePack adds is joining the bytes once more."""
    parts = []
    for one in cache:
        for array in (one.keys, one.values):
            turned = mx.contiguous(mx.array(array[:, :, :tokens, :])[0].transpose(1, 0, 2))
            mx.eval(turned)
            parts.append(bytes(memoryview(turned.view(mx.uint16))))
    return b"".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--out", help="the JSON file to write")
    arguments = parser.parse_args()
    cache = cache_of(arguments.tokens)
    size = 2 * LAYERS * HEADS * arguments.tokens * WIDTH * 2
    to, source = bytearray(size + 65536), bytearray(size)
    cores = os.cpu_count() or 1
    ways = {
        "memcpy, one thread": lambda: memcpy(address(to), address(source), size, 1),
        "memcpy, all threads": lambda: memcpy(address(to), address(source), size, cores),
        "pack": lambda: mlx_kd.wire.pack(cache, "r", "m", into=to),
        "exo's passes": lambda: five_passes(cache, arguments.tokens),
    }
    seconds = {name: [] for name in ways}
    for _ in range(arguments.samples):
        for name in random.sample(list(ways), len(ways)):
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: size / statistics.median(times) / 1e9 for name, times in seconds.items()}
    share = statistics.median(a / b for a, b in zip(seconds["memcpy, all threads"], seconds["pack"]))
    result = {"what": "GB/s of packing 32 layers of keys and values, and of copying as many bytes", "bytes": size,
              "tokens": arguments.tokens, "gb_per_s": rates, "share_of_copy": share, "samples": arguments.samples,
              "machine": machine(),
              "date": datetime.date.today().isoformat(), "mlx": mx.__version__}
    write_result(result, arguments.out)


if __name__ == "__main__":
    main()
