"""Frames that are wrong: an error that names the frame, no memory taken for what is only announced, nothing half-done.

MLX_KD_LONG fuzzes 10^6 frames, otherwise 10^4.
"""
import io
import random
import struct
import unittest

from tests.support.package import LONG, PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx

import mlx_kd.cache as caches
import mlx_kd.wire as wire

theirs = models.module("cache")
FRAMES = 1_000_000 if LONG else 10_000


def cache_of(layers=2, tokens=3, **sizes):
    cache = [theirs.KVCache() for _ in range(layers)]
    for one in cache:
        x = mx.random.normal((1, 2, tokens, 4)).astype(mx.bfloat16)
        one.update_and_fetch(x, x)
    return cache


def framed(payload):
    return struct.pack(">I", len(payload)) + payload


def split(stream):
    frames = []
    while stream:
        length = struct.unpack(">I", stream[:4])[0]
        frames.append(stream[4:4 + length])
        stream = stream[4 + length:]
    return frames


class BadFrames(PackageTest):
    def setUp(self):
        mx.random.seed(5)
        self.good = wire.pack(cache_of(), "r", "m")
        self.parts = split(self.good)

    def assert_refused(self, stream, pattern, **options):
        with self.assertRaisesRegex(ValueError, pattern):
            wire.unpack(stream, **options)

    def with_parts(self, *parts):
        return b"".join(framed(part) for part in parts)

    def changed(self, index, old, new):
        self.assertIn(old, self.parts[index])
        parts = list(self.parts)
        parts[index] = parts[index].replace(old, new, 1)
        return self.with_parts(*parts)

    def test_streams_that_end_too_early_name_the_frame(self):
        ends, at = {}, 0
        for number, part in enumerate(self.parts):
            ends[at] = number
            at += 4 + len(part)
        for cut in range(len(self.good)):
            with self.assertRaises(ValueError) as caught:
                wire.unpack(self.good[:cut])
            number = max(n for begin, n in ends.items() if begin <= cut)
            self.assertIn(f"[wire] frame {number}: the stream ends", str(caught.exception))
        with self.assertRaisesRegex(ValueError, r"frame 2: the stream ends after 3 of"):
            wire.receive(io.BytesIO(self.with_parts(*self.parts[:2]) + struct.pack(">I", 99) + b"abc"))

    def test_sizes_are_refused_before_memory_is_taken(self):
        self.assert_refused(b"\xff\xff\xff\xff", "frame 0: it has 4294967295 bytes, and the limit is 1073741824")
        self.assert_refused(self.good, "frame 1: it has .* bytes, and the limit is 100", limits={"frame_bytes": 100})
        self.assert_refused(self.good, "the stream has more than 90 bytes", limits={"total_bytes": 90})
        self.assert_refused(self.good, "num_layers' is 2: it must be 0 to 1", limits={"layers": 1})
        for name, value in (("bits", 1), ("items", 0), ("layers", "4")):
            with self.assertRaisesRegex(ValueError, f"the limit '{name}'"):
                wire.unpack(self.good, limits={name: value})

    def test_fields_of_other_sizes_and_types_are_refused(self):
        where = r"frame 1 \(kv_chunk of layer 0\)"
        for old, new, what in (
                (b"num_tokens\x03", b"num_tokens\x04", where + ".*'keys' has 48 bytes, and its shape and type need 64"),
                (b"num_tokens\x03", b"num_tokens\xff", where + ".*num_tokens' is -1"),
                (b"head_dim\x04", b"head_dim\x00", where + ".*holds no tokens"),
                (b"n_heads\x02", b"n_heads\xcf" + b"\xff" * 8, "frame 1: the number 18446744073709551615"),
                (b"n_heads\x02", b"n_heads\xce\x7f\xff\xff\xff", where + ".*would have more than"),
                (b"bfloat16", b"bfloat8x", where + ".*dtype is 'bfloat8x'"),
                (b"kv_chunk", b"kv_chunq", "frame 1: its type is 'kv_chunq'"),
                (b"layer_idx\x00", b"layer_idx\x02", "frame 1: layer 2 of 2"),
                (b"layer_idx\x00", b"layer_idx\xc3", "frame 1: the field 'layer_idx' is not an integer"),
                (b"values\xc4", b"valuez\xc4", where + ".*the field 'values' is missing"),
                (b"values\xc4", b"num_tokens\xc4"[-7:], "frame 1"),
                (b"\xa4keys", b"\xa4type", "frame 1: it has the field 'type' twice")):
            self.assert_refused(self.changed(1, old, new), what)
        self.assert_refused(self.changed(0, b"bfloat16", b"bfloat64"), r"frame 0 \(header\).*dtype is 'bfloat64'")
        self.assert_refused(self.changed(3, b"total_tokens\x03", b"total_tokens\x09"), "frame 3: `done` counts 9 tokens")
        self.assert_refused(self.with_parts(self.parts[1], *self.parts), r"frame 0 \(header\): it has a type")
        self.assert_refused(self.with_parts(self.parts[0] + b"\x00"), "frame 0: 1 bytes follow its value")
        self.assert_refused(self.with_parts(b"\xc1"), "frame 0: it holds the code 193")

    def test_bombs_are_refused(self):
        for bomb in (b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
            self.assert_refused(self.with_parts(bomb), "frame 0: it (announces|ends)")
        self.assert_refused(self.with_parts(b"\x91" * 100_000), "nested more than 12 deep")
        self.assert_refused(self.with_parts(b"\xdd\x00\x20\x00\x00" + b"\xc0" * (1 << 21)), "more than 1048576 values")
        many = b"\xde\x00\x50" + b"".join(b"\xa2%02d\x01" % (i % 100) for i in range(80))
        self.assert_refused(self.with_parts(many), "a map has 80 fields")

    def test_layers_that_come_twice_and_streams_without_their_end_give_nothing(self):
        header, one, two, done = self.parts
        self.assert_refused(self.with_parts(header, one, one, done), "frame 2: layer 0 comes twice")
        self.assert_refused(self.with_parts(header, one, two), "frame 3: the stream ends before `done`")
        self.assert_refused(self.good + self.good, "frame 4: it follows `done`")
        other = split(wire.pack(cache_of(1, 5)))[1]
        self.assert_refused(self.with_parts(header, two, other, done), "layer 0 has 5 tokens, and those before it have 3")
        assembler = wire.Assembler()
        with self.assertRaises(ValueError):
            assembler.feed(self.with_parts(header, one, one))
        for call in (lambda: assembler.feed(framed(done)), assembler.result):
            with self.assertRaisesRegex(ValueError, "layer 0 comes twice"):
                call()
        with self.assertRaises(wire.RemoteError) as caught:
            wire.unpack(self.with_parts(header, one) + wire.error_frame(507, "no memory"))
        self.assertEqual((caught.exception.code, caught.exception.message), (507, "no memory"))

    def test_the_cache_that_the_receiver_has_is_not_changed(self):
        have, cache = cache_of(tokens=2), cache_of(tokens=5)
        parts = split(wire.pack(cache, start_pos=2))
        before = [(c.offset, c.keys.tolist()) for c in have]
        self.assert_refused(self.with_parts(*parts[:2], parts[1]), "twice", have=have)
        self.assert_refused(self.with_parts(*parts), "frame 1: layer 0 does not continue", have=cache_of(tokens=1))
        self.assertEqual([(c.offset, c.keys.tolist()) for c in have], before)

    def test_states_that_do_not_fit_their_class_are_refused(self):
        def sent(cls, state):
            from mlx_kd import _core
            return _core.wire_pack([("header", "r", "m", 1, "bfloat16", 0), ("mlx_kd.cache", 0, cls, state), ("done", 0)])
        x, codes, scales = mx.ones((1, 2, 8, 4)), mx.ones((1, 2, 8, 16), mx.uint32), mx.ones((1, 2, 8, 1))
        mx.eval(x, codes, scales)
        for cls, state in (
                ("object", []), ("load_prompt_cache", []), ("KVCache", [x, x]), ("KVCache", [x, x, 9]), ("KVCache", [x, x, -1]),
                ("KVCache", [x, x[:, :1] + 0, 1]), ("KVCache", [x, "x", 1]), ("KVCache", None), ("KVCache", [x[0], x[0], 1]),
                ("QuantizedKVCache", [[codes, scales, scales], [codes, scales, scales], 4, 32, 8]),
                ("QuantizedKVCache", [[codes, scales], [codes, scales], 4, 64, 8]),
                ("QuantizedCache", [[codes, scales, scales], [codes, scales, scales], 4, 64, 5]),
                ("RotatingKVCache", [x, x, 20, 0, 16, 8]), ("RotatingCache", [x, x, 4, 8, 8, 4]),
                ("BatchKVCache", [x, x, mx.array([1, 2]), mx.array([0]), 4]), ("ArraysCache", [x, None, None]),
                ("CacheList", [[[x, x, 9], "KVCache"]]), ("CacheList", [[[], "deque"]]),
                ("PagedCache", [x, x, 8, 1, 4]),
                ("QuantizedPagedCache", [[codes, scales, scales], [codes, scales, scales], 8, 1, 4, 64, 8]),
                ("QuantizedPagedCache", [[codes, scales, scales], [codes, scales, scales], 9, 9, 4, 64, 8]),
                ("QuantizedPagedCache", [[codes, scales, scales], [codes, scales, scales], 8, 9, 4, 32, 8]),
                ("QuantizedPagedCache", [[codes, scales], [codes, scales], 8, 9, 4, 64, 8]),
                ("QuantizedPagedCache", [x, x, 8, 9, 4, 64, 8]),
                ("QuantizedPagedCache", [[codes, scales, scales], [codes, scales, scales], 8, 9, 4, 64, 5])):
            if isinstance(state, list):
                mx.eval([one for one in state if isinstance(one, mx.array)])
            with self.subTest(cls=cls), self.assertRaisesRegex(ValueError, "frame 1: a '.*' cannot be made of its state"):
                wire.unpack(sent(cls, state))

    def test_what_cannot_be_sent_is_refused_whole(self):
        mixed = cache_of(1, 3) + cache_of(1, 4)
        for cache, options, pattern in ((mixed, {}, r"layers hold \[3, 4\] tokens"), ([], {}, "a cache is a list"),
                                        (cache_of(), {"start_pos": 3}, "start_pos is 3, and layer 0 has 3"),
                                        (cache_of(), {"start_pos": -1}, "start_pos is -1"), ([object()], {}, "no from_state")):
            with self.assertRaisesRegex(ValueError, pattern):
                wire.pack(cache, **options)

    def test_messages_tensor_that_are_wrong_are_refused(self):
        good = wire.pack_tensor(mx.ones((3, 5), mx.bfloat16))
        for cut in range(len(good)):
            with self.assertRaisesRegex(ValueError, "message Tensor"):
                wire.unpack_tensor(good[:cut])
        for bad in (good.replace(b"\x12\x02\x03\x05", b"\x12\x02\x03\x06"), good.replace(b"bfloat16", b"bfloat1x"),
                    good + b"\x12\x0a" + b"\xff" * 9 + b"\x01", good + b"\x0b", good + b"\xff" * 12, good + b"\x10\x01" * 9):
            with self.assertRaisesRegex(ValueError, "message Tensor"):
                wire.unpack_tensor(bad)

    def test_random_changes_end_in_an_error_or_in_a_whole_cache(self):
        draw = random.Random(11)
        quantized = caches.QuantizedRotatingCache(4, 0, 32, 8)
        quantized.update_and_fetch(mx.ones((1, 1, 2, 32)), mx.ones((1, 1, 2, 32)))
        state = theirs.ArraysCache(1)
        state[0] = mx.ones((1, 2))
        seeds = [self.good, wire.pack([quantized, state] + cache_of(1)), wire.pack(cache_of(3, 1))]
        whole = 0
        for _ in range(FRAMES):
            data = bytearray(draw.choice(seeds))
            for _ in range(draw.randrange(1, 4)):
                at = draw.randrange(len(data))
                act = draw.randrange(4)
                if act == 0:
                    data[at] = draw.randrange(256)
                elif act == 1:
                    data[at] ^= 1 << draw.randrange(8)
                elif act == 2:
                    del data[at:at + draw.randrange(1, 9)]
                else:
                    data[at:at] = draw.randbytes(draw.randrange(1, 9))
                if not data:
                    break
            try:
                received = wire.unpack(data)
            except (ValueError, wire.RemoteError) as error:
                self.assertTrue(str(error).startswith("[wire] "), error)
                continue
            whole += 1
            self.assertGreaterEqual(len(received.cache), 1)
        self.assertGreater(whole, FRAMES // 100)  # changes inside the numbers


if __name__ == "__main__":
    unittest.main()
