"""Index files with any content: an index that can be searched, or a message that names the file.

MLX_KD_FUZZ_RUNS is how many are tried: 500 a run, 20,000 with MLX_KD_LONG.
"""
import json
import os
import random
import struct
import tempfile
import unittest
from pathlib import Path

from tests.support.vectors import Vectors, every_index, np, synthetic

import mlx_kd.vectors as kv

RUNS = int(os.environ.get("MLX_KD_FUZZ_RUNS") or (20000 if os.environ.get("MLX_KD_LONG") else 500))
ODD = [0, 1, 2, 7, 255, 256, 2 ** 16, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 40, 2 ** 63 - 1, 2 ** 63, 2 ** 64 - 1]
ODD_JSON = [None, True, -1, 0, 1, 2 ** 31, 2 ** 70, 0.5, 1e308, "", "float32", "IndexIVFPQ", [], [0, 2 ** 70], [0] * 70, {},
            [[1]], {"a": 1}]


def changed_bytes(text, generator):
    """A few fields overwritten, parts cut out, doubled or moved."""
    text = bytearray(text)
    for _ in range(generator.randint(1, 4)):
        at, kind = generator.randrange(len(text) + 1), generator.randrange(6)
        if kind <= 2:
            at = min(at, generator.choice((64, 256, len(text))))  # what says how much there is comes first
            text[at:at + 8] = struct.pack("<Q", generator.choice(ODD))[:generator.choice((1, 4, 8))].ljust(
                len(text[at:at + 8]), b"\0") if kind < 2 else bytes([generator.randrange(256)])
        elif kind == 3:
            del text[at:at + generator.randint(1, 64)]
        elif kind == 4:
            text[at:at] = text[max(0, at - generator.randint(1, 64)):at]
        else:
            del text[at:]
    return bytes(text)


def changed_value(value, generator):
    """A JSON value with one place of it changed."""
    if isinstance(value, (dict, list)) and value and generator.randrange(5):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = generator.choice(keys)
        copy = value.copy()
        if generator.randrange(8) == 0:
            del copy[key]
        else:
            copy[key] = changed_value(value[key], generator)
        return copy
    return generator.choice(ODD_JSON)


def changed_header(text, generator):
    length = struct.unpack("<I", text[12:16])[0]
    header = json.loads(text[16:16 + length])
    for _ in range(generator.randint(1, 3)):
        header = changed_value(header, generator)
    made = json.dumps(header).encode()
    if generator.randrange(20) == 0:
        made = generator.choice((b"[" * 5000, b"1" * 5000, b"{\"arrays\": 1e999}", b"\xff\xfe", b"nan"))
    made = made[:length].ljust(length) if generator.randrange(4) else made
    return text[:12] + struct.pack("<I", len(made)) + made + text[16 + length:]


class AnyFile(Vectors):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        temp = tempfile.TemporaryDirectory(prefix="kd_index_fuzz_", dir=memory)
        cls.addClassCleanup(temp.cleanup)
        cls.path = Path(temp.name) / "fuzzed"
        cls.q = synthetic(16, 2, 3)
        cls.sound = []
        for save, load in ((kv.save, kv.load), (kv.write_faiss, kv.read_faiss)):
            for index in [*every_index(synthetic(16, 1500, 2)), kv.IndexIVFFlat(d=16, nlist=3)]:
                save(index, cls.path)
                cls.sound.append((load, cls.path.read_bytes()))

    def read(self, load, text):
        """Whether it is an index."""
        self.path.write_bytes(text)
        try:
            index = load(self.path)
        except ValueError as error:
            self.assertTrue(str(error).startswith("[vectors] "), repr(error))
            return False
        self.assertGreaterEqual(index.ntotal, 0)
        if index.is_trained and index.d == 16:
            found = index.search(self.q, 3, check=False)[1]
            self.assertEqual(np.array(found).shape, (2, 3))
        return True

    def test_a_changed_file_is_an_index_or_a_message(self):
        generator = random.Random(int(os.environ.get("MLX_KD_FUZZ_SEED") or 1))
        read = 0
        for number in range(RUNS):
            load, text = generator.choice(self.sound)
            change = changed_header if load is kv.load and generator.randrange(2) else changed_bytes
            with self.subTest(number=number):
                read += self.read(load, change(text, generator))
        self.assertLess(read, RUNS)

    def test_indexes_in_indexes_without_end_are_refused(self):
        header = struct.pack("<iqqqBi", 8, 0, 0, 0, 1, 1)
        for text in ((b"IxMp" + header) * 5000, (b"IwFl" + header + struct.pack("<QQ", 1, 1)) * 5000):
            self.assertFalse(self.read(kv.read_faiss, text))

    def test_lists_that_are_not_in_the_file_take_no_memory(self):
        header = struct.pack("<iqqqBi", 8, 0, 0, 0, 0, 1)
        flat = b"IxF2" + struct.pack("<iqqqBi", 8, 0, 0, 0, 1, 1) + struct.pack("<Q", 0)
        nlist = 2 ** 32 - 1
        text = (b"IwFl" + header + struct.pack("<QQ", nlist, 1) + flat + struct.pack("<BQ", 0, 0) + b"ilar" +
                struct.pack("<QQ", nlist, 32) + b"sprs" + struct.pack("<Q", 0))
        self.path.write_bytes(text)
        self.assertEqual(kv.read_faiss(self.path).nlist, nlist)


if __name__ == "__main__":
    unittest.main()
