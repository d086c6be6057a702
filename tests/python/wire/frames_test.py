"""Frames byte for byte, and caches that are sent and arrive as they were."""
import io
import struct
import unittest

from tests.support.package import PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx
from mlx.utils import tree_flatten

import mlx_kd.cache as caches
import mlx_kd.wire as wire

theirs = models.module("cache")
try:
    import msgspec
except ImportError:
    msgspec = None


def packed(value):
    """MessagePack of what frames hold, written from its specification: the tests' own encoder."""
    if isinstance(value, dict):
        return bytes([0x80 | len(value)]) + b"".join(packed(k) + packed(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + struct.pack(">H", len(value))
        return head + b"".join(map(packed, value))
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0xa0 | len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])) + data
    if isinstance(value, bytes):
        for code, form, most in ((b"\xc4", ">B", 255), (b"\xc5", ">H", 65535), (b"\xc6", ">I", 2 ** 32 - 1)):
            if len(value) <= most:
                return code + struct.pack(form, len(value)) + value
    for most, form in ((127, "B"), (255, "B"), (65535, ">H"), (2 ** 32 - 1, ">I")):
        if 0 <= value <= most:
            code = {127: b"", 255: b"\xcc", 65535: b"\xcd", 2 ** 32 - 1: b"\xce"}[most]
            return code + struct.pack(form, value)
    raise AssertionError(value)


def frame(fields):
    data = packed(fields)
    return struct.pack(">I", len(data)) + data


def bytes_of(array):
    """Of [1, H, T, D], in the order (T, H, D)."""
    array = mx.contiguous(array[0].swapaxes(0, 1)).view(mx.uint8)
    return bytes(array.flatten().tolist())


def header(layers, dtype="bfloat16", start_pos=0):
    return {"request_id": "r1", "model_id": "m1", "num_layers": layers, "dtype": dtype, "start_pos": start_pos}


def kv_chunk(layer, keys, values, dtype="bfloat16"):
    _, heads, tokens, width = keys.shape
    return {"type": "kv_chunk", "layer_idx": layer, "num_tokens": tokens, "n_heads": heads, "head_dim": width,
            "dtype": dtype, "keys": bytes_of(keys), "values": bytes_of(values)}


def rows(tokens, heads=2, width=64, dtype=mx.bfloat16, values=None, batch=1):
    return (mx.random.normal((batch, heads, tokens, width)).astype(dtype),
            mx.random.normal((batch, heads, tokens, values or width)).astype(dtype))


def filled(cache, *more, **sizes):
    for tokens in (5, 1, *more):
        cache.update_and_fetch(*rows(tokens, **sizes))
    return cache


class Frames(PackageTest):
    def setUp(self):
        mx.random.seed(3)

    def assert_equal_states(self, one, other):
        a, b = tree_flatten(wire.caches.nested(one)), tree_flatten(wire.caches.nested(other))
        self.assertEqual([name for name, _ in a], [name for name, _ in b])
        for (name, x), (_, y) in zip(a, b):
            same = x.dtype == y.dtype and mx.array_equal(x, y).item() if isinstance(x, mx.array) else x == y
            self.assertTrue(same, name)

    def test_keys_and_values_are_exos_frames_byte_for_byte(self):
        for dtype, name in ((mx.bfloat16, "bfloat16"), (mx.float16, "float16"), (mx.float32, "float32")):
            cache = [filled(cls(), dtype=dtype) for cls in (theirs.KVCache, caches.ContiguousCache, theirs.KVCache)]
            wanted = frame(header(3, name))
            for layer, one in enumerate(cache):
                wanted += frame(kv_chunk(layer, *one.keys_and_values(), name))
            wanted += frame({"type": "done", "total_tokens": 6})
            self.assertEqual(wire.pack(cache, "r1", "m1"), wanted)

    def test_states_of_arrays_and_errors_and_requests_are_exos_frames(self):
        state = theirs.ArraysCache(2)
        state[0], state[1] = mx.random.normal((1, 3, 300)), mx.random.normal((1, 4)).astype(mx.bfloat16)
        arrays = [{"dtype": str(x.dtype).split(".")[-1], "shape": list(x.shape),
                   "data": bytes(x.flatten().view(mx.uint8).tolist())} for x in state.cache]
        self.assertEqual(wire.pack([state], "r1", "m1"),
                         frame(header(1)) + frame({"type": "arrays_state", "layer_idx": 0, "arrays": arrays})
                         + frame({"type": "done", "total_tokens": 0}))
        self.assertEqual(wire.error_frame(503, "busy"), frame({"type": "error", "code": 503, "message": "busy"}))
        tokens = [1, 127, 128, 255, 256, 65535, 65536, 151_935] + list(range(20))
        request = {"request_id": "r1", "model_id": "m" * 40, "token_ids": tokens, "start_pos": 3}
        self.assertEqual(wire.request_frame("r1", "m" * 40, tokens, 3), frame(request))
        self.assertEqual(wire.receive_request(io.BytesIO(frame(request))), ("r1", "m" * 40, tokens, 3))

    @unittest.skipUnless(msgspec, "msgspec is not installed: the tests' own encoder stands alone")
    def test_msgspec_writes_and_reads_the_same(self):
        Header = msgspec.defstruct("Header", [("request_id", str, ""), ("model_id", str, ""), ("num_layers", int, 0),
                                              ("dtype", str, "bfloat16"), ("start_pos", int, 0)])
        Chunk = msgspec.defstruct("Chunk", ["layer_idx", "num_tokens", "n_heads", "head_dim", "dtype",
                                            ("keys", bytes), ("values", bytes)], tag="kv_chunk")
        Done = msgspec.defstruct("Done", [("total_tokens", int)], tag="done")
        cache = [filled(theirs.KVCache(), 300)]
        keys, values = cache[0].keys_and_values()
        parts = [Header("r1", "m1", 1), Chunk(0, 306, 2, 64, "bfloat16", bytes_of(keys), bytes_of(values)), Done(306)]
        encoded = [msgspec.msgpack.encode(part) for part in parts]
        self.assertEqual(wire.pack(cache, "r1", "m1"), b"".join(struct.pack(">I", len(e)) + e for e in encoded))

    def test_every_kind_arrives_as_it_was(self):
        ring = filled(theirs.RotatingKVCache(8, keep=2), 1, 1, 1, 1)
        quantized = filled(theirs.QuantizedKVCache(32, 4))
        batch = theirs.BatchKVCache.merge([filled(theirs.KVCache()), filled(theirs.KVCache(), 3)])
        state = theirs.ArraysCache(2)
        state[0] = mx.ones((1, 2))
        latent = theirs.KVCache()
        latent.update_and_fetch(*rows(6, heads=1, width=512, values=64))
        pair = theirs.CacheList(filled(theirs.KVCache()), filled(theirs.RotatingKVCache(8)))
        ours = [filled(cls) for cls in (caches.RotatingCache(8), caches.QuantizedCache(32, 8),
                                        caches.QuantizedRotatingCache(8, 0, 64, 4), caches.PagedCache(),
                                        caches.QuantizedPagedCache(bits=4))]
        ours.append(caches.QuantizedCache.merge([filled(caches.QuantizedCache()), filled(caches.QuantizedCache(), 9)]))
        ours.append(caches.QuantizedRotatingCache.merge([filled(caches.QuantizedRotatingCache(8))] * 2))
        sent = [ring, quantized, batch, state, latent, pair, *ours]
        received = wire.unpack(wire.pack(sent, "r", "m")).cache
        for one, other in zip(sent, received):
            self.assertIs(type(one), type(other))
            self.assert_equal_states(wire.caches.filled(one), wire.caches.filled(other))

    def test_what_arrives_goes_on_as_what_was_sent(self):
        for make in (theirs.KVCache, lambda: caches.QuantizedRotatingCache(8, 2), lambda: caches.PagedCache(),
                     lambda: caches.QuantizedCache(), lambda: caches.QuantizedPagedCache(), lambda: theirs.RotatingKVCache(8)):
            one = filled(make(), 4)
            other = wire.unpack(wire.pack([one])).cache[0]
            for tokens in (1, 1, 3, 1):
                new = rows(tokens)
                self.assert_equal_states(one.update_and_fetch(*new), other.update_and_fetch(*new))

    def test_the_receiver_may_have_the_first_tokens_already(self):
        cache = [filled(theirs.KVCache(), 4) for _ in range(2)]
        have = [theirs.KVCache.from_state((c.keys[..., :256, :] + 0, c.values + 0, 4)) for c in cache]
        frames = wire.pack(cache, start_pos=3)
        received = wire.unpack(frames, have=have)
        self.assertEqual((received.total_tokens, received.start_pos), (7, 3))
        for one, other in zip(cache, received.cache):
            self.assert_equal_states(one.keys_and_values(), other.keys_and_values())
        with self.assertRaisesRegex(ValueError, "frame 0: the header starts at token 3"):
            wire.unpack(frames)

    def test_layers_come_one_at_a_time_and_in_pieces_of_any_size(self):
        cache = [filled(theirs.KVCache()) for _ in range(4)]
        whole = wire.pack(cache, "r", "m")
        parts = list(wire.frames(cache, "r", "m"))
        self.assertEqual((b"".join(parts), len(parts)), (whole, 6))
        assembler = wire.Assembler()
        self.assertFalse(assembler.feed(b"".join(parts[:3])))
        self.assertEqual(assembler.layers(), [0, 1])
        for at in range(sum(map(len, parts[:3])), len(whole), 777):
            complete = assembler.feed(whole[at:at + 777])
        self.assertTrue(complete)
        self.assert_equal_states(assembler.result().cache[3].state, wire.unpack(whole).cache[3].state)
        stream = io.BytesIO()
        self.assertEqual(wire.send(stream, cache, "r", "m"), len(whole))
        stream.write(b"the next message")
        stream.seek(0)
        self.assertEqual(wire.receive(stream).total_tokens, 6)
        self.assertEqual(stream.read(), b"the next message")

    def test_a_buffer_is_used_again(self):
        cache = [filled(theirs.KVCache())]
        buffer = bytearray(8192)
        size = wire.pack(cache, "r", "m", into=buffer)
        self.assertEqual(bytes(buffer[:size]), wire.pack(cache, "r", "m"))
        with self.assertRaisesRegex(ValueError, "the buffer has 16"):
            wire.pack(cache, into=bytearray(16))

    def test_large_arrays_with_strides_are_copied_right(self):
        for dtype, width in ((mx.bfloat16, 96), (mx.float32, 33)):
            base = mx.random.normal((1, 5, 2100, width)).astype(dtype)
            cache = theirs.KVCache.from_state((base[..., 40:, :], base[..., :2060, :], 2050))
            received = wire.unpack(wire.pack([cache])).cache[0]
            self.assertTrue(mx.array_equal(received.keys, base[..., 40:2090, :]).item())
            self.assertTrue(mx.array_equal(received.values, base[..., :2050, :]).item())

    def test_the_older_tensor_is_protobufs(self):
        array = mx.array([[1.0, 2.0, 3.0]], mx.float16)
        data = bytes(array.view(mx.uint8).flatten().tolist())
        wanted = b"\x0a\x06" + data + b"\x12\x02\x01\x03" + b"\x1a\x07float16"
        self.assertEqual(wire.pack_tensor(array), wanted)
        one_at_a_time = b"\x0a\x06" + data + b"\x10\x01\x10\x03" + b"\x1a\x07float16" + b"\x20\x05"
        for message in (wanted, one_at_a_time):
            self.assertTrue(mx.array_equal(wire.unpack_tensor(message), array).item())
        large = mx.arange(300 * 70, dtype=mx.uint32).reshape(300, 70).T
        self.assertTrue(mx.array_equal(wire.unpack_tensor(wire.pack_tensor(large)), large).item())
        self.assertEqual(wire.unpack_tensor(wire.pack_tensor(mx.array(3.0))).shape, ())


if __name__ == "__main__":
    unittest.main()
