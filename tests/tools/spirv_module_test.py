"""tools/spirv_module.py: where the numbers of a block are."""
import os
import struct
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(os.environ["MLX_KD_SOURCE_DIR"]) / "tools"))
import spirv_module  # noqa: E402


def words_of(text):
    data = text.encode() + b"\0"
    return struct.unpack(f"<{-(-len(data) // 4)}I", data.ljust(-(-len(data) // 4) * 4, b"\0"))


def module(*instructions):
    words = [0x07230203, 0x10300, 0, 100, 0]
    for op, *rest in instructions:
        words += [(len(rest) + 1) << 16 | op, *rest]
    return spirv_module.Module(struct.pack(f"<{len(words)}I", *words))


FLOAT, UINT, VEC3, MATRIX, THREE, LIST, REST, BLOCK, POINTER, VARIABLE = range(1, 11)
STORAGE = 12
TYPES = [(22, FLOAT, 32), (21, UINT, 32, 0), (23, VEC3, FLOAT, 3), (24, MATRIX, VEC3, 2), (43, UINT, THREE, 3),
         (28, LIST, UINT, THREE), (29, REST, FLOAT), (71, LIST, 6, 16), (71, REST, 6, 4)]


def block(*members, more=(), storage=STORAGE):
    """A module with one block of these members: (type, offset, decorations)."""
    told = [(72, BLOCK, index, 35, offset) for index, (_, offset, *_) in enumerate(members)]
    told += [(72, BLOCK, index, *one) for index, (_, _, *extra) in enumerate(members) for one in extra]
    return module((5, BLOCK, *words_of("Rows")), (71, BLOCK, 2), (71, VARIABLE, 34, 1), (71, VARIABLE, 33, 5), *told, *TYPES,
                  (30, BLOCK, *[kind for kind, *_ in members]), (32, POINTER, storage, BLOCK),
                  (59, POINTER, VARIABLE, storage), *more)


class SpirvModule(unittest.TestCase):
    def test_numbers_lie_where_the_decorations_say(self):
        found, = block((UINT, 0), (LIST, 16), (MATRIX, 64, (7, 16))).blocks()
        self.assertEqual((found.type_name, found.set, found.binding), ("Rows", 1, 5))
        self.assertEqual(found.numbers, [(0, "<u4"), (16, "<u4"), (32, "<u4"), (48, "<u4"), (64, "<f4"), (68, "<f4"), (72, "<f4"),
                                         (80, "<f4"), (84, "<f4"), (88, "<f4")])
        self.assertEqual(found.size, 96)

    def test_rows_of_a_matrix_may_come_first(self):
        found, = block((MATRIX, 0, (7, 8), (4,))).blocks()
        self.assertEqual([at for at, _ in found.numbers], [0, 4, 8, 12, 16, 20])

    def test_an_array_without_an_end_has_as_many_elements_as_are_given_it(self):
        found, = block((UINT, 0), (REST, 4)).blocks()
        self.assertEqual(len(found.numbers), 1 + spirv_module.ELEMENTS)

    def test_what_cannot_be_compared_is_said(self):
        for more, storage, words in (([(17, 61)], STORAGE, "simd"), ([], 0, "textures"), ([(17, 4423)], STORAGE, "simd")):
            with self.assertRaisesRegex(spirv_module.Unsupported, words):
                block((UINT, 0), more=more, storage=storage).blocks()

    def test_the_workgroup_is_that_of_the_mode_or_of_the_constant(self):
        self.assertEqual(module((16, 4, 17, 8, 4, 1)).workgroup(), (8, 4, 1))
        self.assertEqual(module((16, 4, 17, 1, 1, 1), *TYPES, (50, UINT, 20, 64), (51, VEC3, 21, 20, THREE, THREE),
                                (71, 21, 11, 25)).workgroup(), (64, 3, 3))
        with self.assertRaisesRegex(spirv_module.Unsupported, "no workgroup"):
            module().workgroup()


if __name__ == "__main__":
    unittest.main()
