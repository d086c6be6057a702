"""--shape-log: the sizes that a program called become problem sizes."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


def line(rows, width=2048, count=None, op="rmsnorm", dtype="float16", **more):
    record = {"ts": "2026-03-01T09:30:00+01:00", "op_name": op, "dtype": dtype, "source": "mlx_kd",
              "shape_signature": {"rows": rows, "D": width}, **more}
    if count is not None:
        record["count"] = count
    return json.dumps(record)


class ShapeLog(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_log_")
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)
        self.log = self.folder / "shapes.ndjson"

    def kd(self, *arguments, code=0):
        result = subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def suggest(self, *lines, options=(), code=0):
        self.log.write_text("".join(text + "\n" for text in lines))
        result = self.kd("suggest-shapes", "--shape-log", self.log, "--json", *options, code=code)
        self.answer = json.loads(result.stdout) if code == 0 else None
        return result

    def rows(self, op="rmsnorm"):
        return [size["rows"] for size in self.answer["ops"][op]["sizes"]]

    def test_the_sizes_called_most_come_first(self):
        self.suggest(line(7, count=5), line(1, count=256), line(7, count=300), line(3))
        self.assertEqual(self.rows(), [7, 1, 3])
        self.assertIn("562 of 562 calls", self.answer["ops"]["rmsnorm"]["suites"][0]["reason"])
        self.assertIsNone(self.answer["model"])

    def test_a_line_without_a_count_is_one_call(self):
        self.suggest(line(2), line(9), line(9))
        self.assertEqual(self.rows(), [9, 2])

    def test_derived_sizes_must_fit(self):
        good = json.dumps({"op_name": "swiglu", "dtype": "float32", "shape_signature": {"rows": 2, "D": 8, "N": 16}})
        result = self.suggest(good, good.replace("16", "17"), options=("--op", "swiglu"))
        self.assertEqual(self.answer["ops"]["swiglu"]["sizes"], [{"rows": 2, "D": 8}])
        self.assertIn("line 2 is damaged", result.stderr)

    def test_damaged_lines_are_told_and_left_out(self):
        result = self.suggest("{", line(1), "[1]", line(0), line(2, count=-1), line(2, count="x"), '{"op_name": 3}',
                              line(2, dtype="int8"), "x" * 70000, line(2)[:-9], "")
        self.assertEqual(self.rows(), [1])
        self.assertIn("lines 1, 3, 4, 5, 6 and 4 more are damaged", result.stderr)

    def test_unknown_ops_are_told(self):
        self.assertIn("my_op", self.suggest(line(1), line(1, op="my_op")).stderr)

    def test_many_sizes_are_cut_to_those_called_most(self):
        self.suggest(*(line(rows, count=rows) for rows in range(1, 41)))
        self.assertEqual(self.rows(), list(range(40, 24, -1)))
        self.assertIn("24 rarer sizes are left out", self.answer["ops"]["rmsnorm"]["suites"][0]["reason"])

    def test_run_takes_the_sizes_in_its_own_type(self):
        self.log.write_text("\n".join([line(5, dtype="float32", count=9), line(6), line(2, count=3)]))
        out = self.folder / "run"
        self.kd("run", "--op", "rmsnorm", "--device", "null", "--budget", "2", "--quiet", "--out", out,
                "--shape-log", self.log)
        meta = json.loads((out / "run_meta.json").read_text())
        self.assertEqual((meta["sizes"], meta["shape_suite"]), (["rows=2,D=2048", "rows=6,D=2048"], "shape-log"))
        none = self.kd("run", "--op", "rmsnorm", "--device", "null", "--out", self.folder / "none", "--dtype", "bfloat16",
                       "--shape-log", self.log, code=2)
        self.assertIn("in float16 or float32", none.stderr.replace("'", ""))

    def test_a_model_and_a_log_join(self):
        (self.folder / "config.json").write_text('{"hidden_size": 2048}')
        self.log.write_text(line(77))
        out = self.folder / "run"
        self.kd("run", "--op", "rmsnorm", "--device", "null", "--budget", "2", "--quiet", "--out", out,
                "--shape-log", self.log, "--model-id", self.folder, "--decode-rows", "1")
        self.assertEqual(json.loads((out / "run_meta.json").read_text())["sizes"], ["rows=1,D=2048", "rows=77,D=2048"])

    def test_logs_that_are_none(self):
        for path in (self.folder / "none", self.folder):
            self.assertIn("shape log", self.kd("suggest-shapes", "--shape-log", path, code=2).stderr)
        self.assertIn("no call", self.suggest("", code=2).stderr)
        self.assertIn("no call of op 'rope'", self.suggest(line(1), options=("--op", "rope"), code=2).stderr)
        self.assertIn("65536", self.suggest(*(line(n) for n in range(1, 65540)), code=2).stderr)


if __name__ == "__main__":
    unittest.main()
