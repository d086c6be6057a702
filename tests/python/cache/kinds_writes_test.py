"""What a token costs a cache of each kind, alone and in a batch: its own rows are written, in place. Counted in bytes."""
import unittest

from tests.support.package import PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx

import mlx_kd
import mlx_kd.cache as caches
from mlx_kd.cache.planes import arrays_of

HEADS, WIDTH, TOKENS, MOST = 4, 128, 300, 1024
UNSIGNED = {2: mx.uint16, 4: mx.uint32}


def rows(tokens, batch=1):
    x = mx.random.normal((batch, HEADS, tokens, WIDTH)).astype(mx.bfloat16)
    mx.eval(x)
    return x


def holder(cache):
    """What has the memory as `keys` and `values`."""
    return getattr(cache, "pool", cache)


def held(cache):
    return arrays_of([holder(cache).keys, holder(cache).values])


def refill(cache, byte):
    """The same memory, of bytes that are all `byte`."""
    def one(x):
        number = int.from_bytes(bytes([byte]) * x.dtype.size, "little")
        return mx.full(x.shape, number, UNSIGNED[x.dtype.size]).view(x.dtype)
    for name in ("keys", "values"):
        planes = getattr(holder(cache), name)
        setattr(holder(cache), name, one(planes) if isinstance(planes, mx.array) else tuple(one(x) for x in planes))
    mx.eval(held(cache))


class KindsWrite(PackageTest):
    def setUp(self):
        mx.random.seed(5)
        self.model = models.make("llama", dtype=mx.float32, bits=16)
        self.addCleanup(mlx_kd.reset_settings)

    def each(self):
        """By MLX and by the kernels: a cache of each kind, then a batch of two, with room for tokens."""
        for names in ([], ["kv_append", "kv_append_quantized"]):
            mlx_kd.configure(default_kernels=names)
            for kind in caches.KINDS:
                yield f"{kind} {names}", 1, self.filled(kind)
                first = self.filled(kind)
                second = self.filled(kind, **({"like": [first] * len(self.model.layers)} if kind.endswith("paged") else {}))
                batch = type(first).merge([first, second])
                del first, second
                batch.update_and_fetch(rows(1, 2), rows(1, 2))
                yield f"batch of {kind} {names}", 2, batch

    def filled(self, kind, **options):
        cache = caches.make(self.model, kind, max_size=MOST, **options)[0]
        for tokens in (TOKENS, 1):  # a rotating cache takes room at the first token alone
            cache.update_and_fetch(rows(tokens), rows(tokens))
        return cache

    def payload(self, cache, batch):
        """Bytes of a token's rows as the cache holds them."""
        slots = cache.pool.blocks * cache.pool.block_size if hasattr(cache, "pool") else None
        return sum(x.nbytes // (slots or x.shape[0] * x.shape[2]) for x in held(cache)) * batch

    def test_bytes_that_are_written_are_at_most_half_more_than_the_rows(self):
        for name, batch, cache in self.each():
            payload, changed = self.payload(cache, batch), []
            # A byte that is written differs from one of two fillings that have no bit in common.
            for byte in (0x55, 0xaa):
                cache.trim(1)
                refill(cache, byte)
                cache.update_and_fetch(mx.full((batch, HEADS, 1, WIDTH), 0.3, mx.bfloat16),
                                       mx.full((batch, HEADS, 1, WIDTH), 0.7, mx.bfloat16))
                changed.append([mx.view(x, mx.uint8).reshape(-1) != byte for x in held(cache)])
            written = sum(mx.sum(mx.logical_or(a, b)).item() for a, b in zip(*changed))
            self.assertGreaterEqual(written, payload, name)
            self.assertLessEqual(written, 1.5 * payload, name)

    def test_no_second_buffer_is_taken(self):
        for name, batch, cache in self.each():
            new = rows(1, batch)
            cache.update_and_fetch(new, new)
            mx.eval(held(cache))  # compiles
            mx.synchronize()
            size, before = sum(x.nbytes for x in held(cache)), mx.get_active_memory()
            mx.reset_peak_memory()
            for _ in range(3):
                cache.update_and_fetch(new, new)
                mx.eval(held(cache))
            self.assertLess(mx.get_peak_memory() - before, size // 8, name)


if __name__ == "__main__":
    unittest.main()
