"""Python in docs/ runs as it is written, given what it names.

Each block of a page is here with what it is given, or with why it is not run.
"""
import os
import re
import unittest
from pathlib import Path
from types import SimpleNamespace

from tests.support.linalg import numbers, positive
from tests.support.on_demand import need
from tests.support.package import SOURCE, PackageTest

need("numpy")

import mlx.core as mx  # noqa: E402

import mlx_kd  # noqa: E402


def gates(length):
    return [numbers(1, 2, length, 16) for _ in "qkv"] + [numbers(1, 2, length) for _ in "if"]


def tokens_of_mlstm():
    given = dict(zip("qkvif", gates(20)))
    one = [x[:, :, 0] for x in gates(1)]
    return given | dict(zip(("q1", "k1", "v1", "i1", "f1"), one))


def of_a_model():
    Path("PATH").mkdir()
    Path("PATH", "config.json").write_text(
        '{"embedding_dim": 256, "num_heads": 4, "num_blocks": 4, "vocab_size": 1000}')
    return {"tokens": mx.array([[1, 2, 3]])}


GIVEN = {
    ("gemm.md", 0): lambda: {"a": numbers(3, 5, 7), "b": numbers(3, 7, 4), "x": numbers(6, 8), "w": numbers(9, 8),
                             "c": numbers(6, 9), "bias": numbers(9)},
    ("generation.md", 0): lambda: {"logits": numbers(1, 90), "model": None, "tokenizer": None,
                                   "mlx_lm": SimpleNamespace(generate=lambda *given, sampler: sampler(numbers(1, 90)))},
    ("generation.md", 3): dict,
    ("linalg.md", 0): lambda: {"a": positive(2, 5, 5), "b": numbers(2, 5, 3)},
    ("metal-kernel.md", 0): dict,
    ("python.md", 0): lambda: {"x": numbers(2, 8), "residual": numbers(2, 8), "weight": numbers(8),
                               "gate": numbers(2, 8), "up": numbers(2, 8), "q_nope": numbers(2, 4, 1, 8), "q_rope": numbers(2, 4, 1, 6),
                               "kv_nope": numbers(2, 1, 1, 8), "k_rope": numbers(2, 1, 1, 6), "cos": numbers(3),
                               "sin": numbers(3)},
    ("tune-your-own.md", 0): dict,
    ("vectors.md", 0): lambda: {"x": numbers(1100, 128), "q": numbers(3, 128)},
    ("xlstm.md", 0): tokens_of_mlstm,
    ("xlstm.md", 1): of_a_model,
}
ELSEWHERE = {
    ("find-races.md", 0): "the script of find-races.md, which it runs with run-script",
    ("find-races.md", 1): "names that script",
    ("generation.md", 1): "needs a model of mlx-lm",
    ("generation.md", 2): "needs caches of mlx-lm",
    ("models-on-cpu.md", 0): "needs a model of mlx-lm",
    ("models-on-cpu.md", 1): "needs a model of mlx-lm",
    ("nvidia.md", 0): "needs a model of mlx-lm",
    ("python.md", 1): "runs for minutes",
    ("tune-model.md", 0): "needs a model of mlx-lm",
    ("tune-your-own.md", 1): "tune_your_own_test.py runs that page",
    ("tune-your-own.md", 2): "tune_your_own_test.py runs that page",
}


def blocks():
    return {(page.name, i): text for page in sorted((SOURCE / "docs").glob("*.md"))
            for i, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))}


class Documents(PackageTest):
    def test_each_block_is_known(self):
        self.assertEqual(sorted(blocks()), sorted([*GIVEN, *ELSEWHERE]))

    def test_blocks_run(self):
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder())
        self.addCleanup(mlx_kd.configure, default_kernels=[])
        for block, given in GIVEN.items():
            with self.subTest(block):
                names = {"mx": mx, "mlx_kd": mlx_kd, **given()}
                exec(compile(blocks()[block], ":".join(map(str, block)), "exec"), names)  # noqa: S102
                mx.eval([value for value in names.values() if isinstance(value, mx.array)])


if __name__ == "__main__":
    unittest.main()
