"""Every kind of cache against a plain list of tokens, over random sequences of operations.

A token's row of keys is its number plus a ramp from 0 to 1, so that it can be read again from any kind. MLX_KD_LONG runs
10^4 sequences, otherwise a few hundred. A failure names the seed of its sequence.
"""
import copy
import random
import unittest

from tests.support.package import LONG, PackageTest
from tests.support import mlx_lm_models  # noqa: F401  (mlx-lm becomes importable)

import mlx.core as mx

import mlx_kd.cache as caches
import mlx_kd.wire

SEQUENCES = 10_000 if LONG else 300
HEADS, WIDTH, MOST = 2, 32, 12  # MOST: max_size of rotating caches
RAMP = mx.arange(WIDTH) / (WIDTH - 1)


def rows_of(tokens):
    """Keys and values [B, H, T, D] of lists of tokens."""
    ids = mx.array(tokens, mx.float32)[:, None, :, None]
    keys = mx.broadcast_to(ids + RAMP, (len(tokens), HEADS, len(tokens[0]), WIDTH))
    return keys, -keys


def tokens_of(planes, cache, sign=1):
    """[B][rows] of what a fetch returned; both heads must agree."""
    if not isinstance(planes, mx.array):
        planes = mx.dequantize(*planes, group_size=cache.group_size, bits=cache.bits)
    ids = mx.round(sign * planes.mean(-1) - 0.5).astype(mx.int32)
    assert mx.array_equal(ids[:, 0], ids[:, 1])
    return ids[:, 0].tolist()


SINGLE = {
    "contiguous": caches.ContiguousCache,
    "quantized": lambda: caches.QuantizedCache(32, 8),
    "quantized, 4 bits": lambda: caches.QuantizedCache(32, 4),
    "rotating": lambda: caches.RotatingCache(MOST),
    "rotating, some kept": lambda: caches.RotatingCache(MOST, keep=3),
    "quantized-rotating": lambda: caches.QuantizedRotatingCache(MOST, 2, 32, 8),
    "paged": lambda: caches.PagedCache(blocks=40, block_size=4),
    "quantized-paged": lambda: caches.QuantizedPagedCache(blocks=40, block_size=4, group_size=32),
    "quantized-paged, 4 bits": lambda: caches.QuantizedPagedCache(blocks=40, block_size=4, group_size=32, bits=4),
}


class One:
    """A cache and the tokens that it must hold, in order."""

    def __init__(self, cache, held=()):
        self.cache, self.held, self.count = cache, list(held), len(held)

    def append(self, tokens):
        fetched = self.cache.update_and_fetch(*rows_of([tokens]))
        self.count += len(tokens)
        if hasattr(self.cache, "max_size"):
            keep, most = self.cache.keep, self.cache.max_size
            surplus = len(self.held) + 1 - most
            if surplus > 0:
                del self.held[keep:keep + surplus]
        self.held += tokens
        self.check(fetched)

    def check(self, fetched):
        got, values = (tokens_of(x, self.cache, sign)[0] for x, sign in zip(fetched, (1, -1)))
        assert got == values, (got, values)
        if hasattr(self.cache, "max_size"):
            got, wanted = sorted(got), sorted(self.held)  # a ring has its own order
        else:
            wanted = self.held
        assert got == wanted, (got, wanted)
        assert self.cache.offset == self.count, (self.cache.offset, self.count)

    def trim(self, n):
        if not self.cache.is_trimmable():
            return
        trimmed = self.cache.trim(n)
        assert trimmed == min(n, self.count), (trimmed, n, self.count)
        if trimmed:
            del self.held[-trimmed:]
        self.count -= trimmed

    def copied(self):
        other = One(copy.deepcopy(self.cache), self.held)
        other.count = self.count
        return other

    def stored(self):
        """Through its state, as files hold it."""
        cache = self.cache
        self.cache = type(cache).from_state(cache.state)

    def sent(self):
        if self.count:
            received = mlx_kd.wire.unpack(mlx_kd.wire.pack([self.cache])).cache[0]
            self.cache = received if type(received) is type(self.cache) else type(self.cache).from_state(received.state)


def sequence(kind, seed):
    draw = random.Random(seed)
    alive, token = [One(SINGLE[kind]())], 0
    for _ in range(draw.randrange(2, 14)):
        one = draw.choice(alive)
        act = draw.choice(["one", "one", "one", "several", "trim", "copy", "store", "send"])
        if act in ("one", "several"):
            count = 1 if act == "one" else draw.randrange(2, 9)
            one.append(list(range(token, token + count)))
            token = (token + count) % 500
        elif act == "trim":
            one.trim(draw.randrange(6))
        elif act == "copy" and len(alive) < 3:
            alive.append(one.copied())
        elif act == "store":
            one.stored()
        elif act == "send":
            one.sent()


PAGES = [None]  # the pool of a sequence's paged caches


def paged():
    return caches.PagedCache(PAGES[0]) if PAGES[0].bits is None else caches.QuantizedPagedCache(PAGES[0])


BATCHED = {
    "contiguous": (caches.ContiguousCache, caches.BatchCache),
    "quantized": (lambda: caches.QuantizedCache(32, 8), caches.BatchQuantizedCache),
    "rotating": (lambda: caches.RotatingCache(MOST), caches.BatchRotatingCache),
    "quantized-rotating": (lambda: caches.QuantizedRotatingCache(MOST, 0, 32, 8), caches.BatchQuantizedRotatingCache),
    "paged": (paged, caches.BatchPagedCache),
    "quantized-paged": (paged, caches.BatchQuantizedPagedCache),
}


class Several:
    """A batch and the tokens of each of its sequences."""

    def __init__(self, kind, draw, token):
        single, self.cls = BATCHED[kind]
        self.draw, self.next = draw, token
        self.held, parts = [], []
        for _ in range(draw.randrange(1, 4)):
            cache, tokens = single(), self.new(draw.randrange(0, 7))
            if tokens:
                cache.update_and_fetch(*rows_of([tokens]))
            parts.append(cache)
            self.held.append(tokens)
        self.cache = type(parts[0]).merge(parts)
        assert type(self.cache) is self.cls

    def new(self, count):
        self.next[0] = (self.next[0] + count) % 500
        return [(self.next[0] + i) % 500 for i in range(count)]

    def visible(self, tokens):
        return tokens[-MOST:] if hasattr(self.cache, "max_size") else tokens

    def one_token(self):
        added = [self.new(1) for _ in self.held]
        mask = self.cache.make_mask(1)
        fetched = self.cache.update_and_fetch(*rows_of(added))
        self.held = [a + b for a, b in zip(self.held, added)]
        got = tokens_of(fetched[0], self.cache)
        rows = len(got[0])
        seen = mx.broadcast_to(mask, (len(got), 1, 1, rows))[:, 0, 0].tolist()
        for ids, there, held in zip(got, seen, self.held):
            ids = sorted(i for i, sees in zip(ids, there) if sees)
            assert ids == sorted(self.visible(held)), (ids, held)
        assert self.cache.offset.tolist() == [len(h) for h in self.held]

    def prompt(self):
        """Of different lengths, padded on the right."""
        lengths = [self.draw.randrange(1, 6) for _ in self.held]
        longest = max(lengths)
        if longest == 1:
            return self.one_token()
        tokens = [self.new(n) for n in lengths]
        self.cache.prepare(lengths=lengths, right_padding=[longest - n for n in lengths])
        self.cache.update_and_fetch(*rows_of([t + [777] * (longest - len(t)) for t in tokens]))
        self.cache.finalize()
        self.held = [a + b for a, b in zip(self.held, tokens)]
        self.one_token()

    def filter(self):
        which = sorted(self.draw.sample(range(len(self.held)), self.draw.randrange(1, len(self.held) + 1)))
        self.cache.filter(which)
        self.held = [self.held[i] for i in which]

    def extract(self):
        which = self.draw.randrange(len(self.held))
        single = self.cache.extract(which)
        held = self.held[which]
        added = self.new(1)
        got = tokens_of(single.update_and_fetch(*rows_of([added]))[0], single)[0]
        assert sorted(got) == sorted(self.visible(held + added)), (got, held, added)
        assert single.offset == len(held) + 1

    def extend(self, other):
        self.cache.extend(other.cache)
        self.held += other.held

    def stored(self):
        self.cache = self.cls.from_state(self.cache.state)


def batch_sequence(kind, seed):
    draw, token = random.Random(seed), [0]
    PAGES[0] = caches.PagePool(400, 4, 32, 8 if kind.startswith("quantized") else None)
    batch = Several(kind, draw, token)
    for _ in range(draw.randrange(2, 9)):
        act = draw.choice(["token", "token", "token", "prompt", "filter", "extract", "extend", "store"])
        if act == "token":
            batch.one_token()
        elif act == "prompt":
            batch.prompt()
        elif act == "filter":
            batch.filter()
        elif act == "extract":
            batch.extract()
        elif act == "extend" and len(batch.held) < 6:
            batch.extend(Several(kind, draw, token))
        elif act == "store" and not kind.endswith("paged"):  # which would leave its pool
            batch.stored()


class AgainstLists(PackageTest):
    def run_all(self, kinds, run, first):
        for seed in range(first, first + SEQUENCES // 2):
            for kind in list(kinds)[seed % len(kinds)::len(kinds)]:
                with self.subTest(kind=kind, seed=seed):
                    run(kind, seed)

    def test_a_cache_of_one_sequence_holds_what_a_list_holds(self):
        self.run_all(SINGLE, sequence, 0)

    def test_a_batch_shows_each_sequence_what_its_list_holds(self):
        self.run_all(BATCHED, batch_sequence, 1_000_000)


if __name__ == "__main__":
    unittest.main()
