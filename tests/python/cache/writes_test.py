"""What an append writes: the rows that it is given and nothing else, in place. Counted in bytes."""
import math
import unittest

from tests.support.package import PackageTest

import mlx.core as mx

import mlx_kd

HEADS, QUERIES, WIDTH, TOKENS, BLOCK, AT = 8, 32, 128, 4096, 32, 70
KERNELS = ["kv_append", "kv_append_quantized", "qk_norm_rope_append", "qk_norm_rope_append_paged",
           "qk_norm_rope_append_paged_quantized", "qk_norm_rope_append_quantized"]
UNSIGNED = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}


def filled(shape, dtype, byte):
    one = UNSIGNED[dtype.size]
    return mx.full(shape, int.from_bytes(bytes([byte]) * dtype.size, "little"), one).view(dtype)


def of_types(*types):
    """Shapes and types of a cache's arrays: keys' and values'."""
    return [((1, HEADS, TOKENS, width), dtype) for _ in range(2) for width, dtype in types]


PLAIN = of_types((WIDTH, mx.bfloat16))
PAGES = [((TOKENS // BLOCK, HEADS, BLOCK, WIDTH), mx.bfloat16)] * 2


def codes(bits):
    return of_types((WIDTH * bits // 32, mx.uint32), *[(WIDTH // 64, mx.bfloat16)] * 2)


def coded_pages(bits):
    return [((TOKENS // BLOCK, HEADS, BLOCK, shape[3]), dtype) for shape, dtype in codes(bits)]


def ways():
    """By name: the arrays of a cache, and an append of q, k and v to them."""
    def slots(k):
        return mx.array([[AT + t for t in range(k.shape[2])]], mx.int32)
    made = {
        "kv_append": (PLAIN, lambda c, q, k, v: mlx_kd.kv_append(*c, k, v, AT)),
        "qk_norm_rope_append": (PLAIN, lambda c, q, k, v: mlx_kd.qk_norm_rope_append(*c, q, k, v, AT)[:2]),
        "qk_norm_rope_append_paged": (PAGES, lambda c, q, k, v: mlx_kd.qk_norm_rope_append_paged(
            *c, q, k, v, slots(k), AT)[:2])}
    for bits in (4, 8):
        def quantised(c, q, k, v, bits=bits):
            return mlx_kd.kv_append_quantized(*c, k, v, AT, bits=bits, group_size=64)

        def turned(c, q, k, v, bits=bits):
            return mlx_kd.qk_norm_rope_append_quantized(*c, q, k, v, AT, AT, bits=bits, group_size=64)[:6]
        def paged(c, q, k, v, bits=bits):
            return mlx_kd.qk_norm_rope_append_paged_quantized(*c, q, k, v, slots(k), AT, bits=bits, group_size=64)[:6]
        made[f"qk_norm_rope_append_paged_quantized, {bits} bits"] = coded_pages(bits), paged
        made[f"kv_append_quantized, {bits} bits"] = codes(bits), quantised
        made[f"qk_norm_rope_append_quantized, {bits} bits"] = codes(bits), turned
    return made


class Writes(PackageTest):
    def setUp(self):
        mlx_kd.configure(default_kernels=KERNELS)
        self.addCleanup(mlx_kd.reset_settings)
        mx.random.seed(3)

    def heads(self, count, tokens):
        x = mx.random.normal((1, count, tokens, WIDTH)).astype(mx.bfloat16)
        mx.eval(x)
        return x

    def test_bytes_that_are_written_are_those_of_the_new_rows(self):
        for name, (arrays, append) in ways().items():
            for tokens in (1, 3):
                q, k, v = self.heads(QUERIES, tokens), self.heads(HEADS, tokens), self.heads(HEADS, tokens)
                # A byte that is written differs from one of two fillings that have no bit in common.
                changed = [mx.zeros(math.prod(shape) * dtype.size, mx.bool_) for shape, dtype in arrays]
                for byte in (0x55, 0xaa):
                    written = append([filled(shape, dtype, byte) for shape, dtype in arrays], q, k, v)
                    changed = [mx.logical_or(old, now.view(mx.uint8).reshape(-1) != byte)
                               for old, now in zip(changed, written)]
                    mx.eval(changed)
                payload = sum(math.prod(shape) * dtype.size for shape, dtype in arrays) // TOKENS * tokens
                self.assertEqual(sum(mx.sum(one).item() for one in changed), payload, (name, tokens))

    def is_served(self, name):
        """By the kernel: MLX's form copies a cache."""
        served = mlx_kd.stats()["by_default"]
        return any(one["op"] == name.split(",")[0] and one["calls"] for one in served)

    def test_no_second_buffer_is_taken(self):
        for name, (arrays, append) in ways().items():
            mlx_kd.reset_stats()
            q, k, v = self.heads(QUERIES, 1), self.heads(HEADS, 1), self.heads(HEADS, 1)
            held = [mx.zeros(shape, dtype) for shape, dtype in arrays]
            mx.eval(held)
            mx.eval(append([mx.zeros(shape, dtype) for shape, dtype in arrays], q, k, v))  # compiles
            if not self.is_served(name):
                self.skipTest(f"the kernel of {name} cannot be compiled here")
            mx.synchronize()
            size, before = sum(x.nbytes for x in held), mx.get_active_memory()
            mx.reset_peak_memory()
            for _ in range(3):
                cache = held
                held = None
                held = list(append(cache, q, k, v))
                del cache
                mx.eval(held)
            self.assertLess(mx.get_peak_memory() - before, size // 8, name)


if __name__ == "__main__":
    unittest.main()
