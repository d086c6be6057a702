"""kd run --row-range on the null device: what it samples, states and refuses."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


class RowRange(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_range_")
        self.addCleanup(temp.cleanup)
        self.run = Path(temp.name) / "run"

    def kd(self, *options, op="rmsnorm", budget=24, code=0):
        command = [KD, "run", "--op", op, "--device", "null", "--budget", str(budget), "--seed", "7", "--out",
                   str(self.run), "--quiet", *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def entries(self):
        return json.loads((self.run / "best_kernels.json").read_text())["entries"]

    def test_the_entry_states_the_range_and_where_it_was_sampled(self):
        self.kd("--shapes", "rows=5,D=2048", "--row-range", "1:64")
        ranged = [entry for entry in self.entries() if "rows_range" in entry]
        self.assertEqual([(e["rows_range"], e["rows_sampled"]) for e in ranged], [([1, 64], [1, 3, 5, 12, 47, 64])])
        self.assertEqual(len(self.entries()), 6)

    def test_every_width_has_a_range_of_its_own(self):
        result = self.kd("--shapes", "rows=1,D=2048", "--shapes", "rows=1,D=4096", "--row-range", "1:4", "--json")
        self.assertEqual([r["shape"]["D"] for r in json.loads(result.stdout)["ranges"]], [2048, 4096])

    def test_derived_sizes_follow_the_rows(self):
        self.kd("--shapes", "rows=1,D=64", "--row-range", "1:4", op="swiglu")
        self.assertEqual({entry["key"]["shape_signature"]["N"] for entry in self.entries()}, {64, 256})

    def test_an_op_without_rows_has_ranges_of_its_batch(self):
        result = self.kd("--shapes", "B=1,H_Q=8,D_NOPE=64,D_ROPE=32", "--row-range", "1:8", op="rope")
        self.assertIn("B 1 to 8 with", result.stdout)

    def test_the_range_is_told_and_kept_by_a_resumed_run(self):
        first = self.kd("--shapes", "rows=1,D=2048", "--row-range", "1:8")
        self.assertIn("rows 1 to 8 with D=2048", first.stdout)
        self.kd("--shapes", "rows=1,D=2048", "--row-range", "1:8", "--resume", budget=30)
        refused = self.kd("--shapes", "rows=1,D=2048", "--row-range", "1:9", "--resume", code=2)
        self.assertIn("rows=9", refused.stderr)

    def test_the_reports_tell_the_range(self):
        self.kd("--shapes", "rows=1,D=2048", "--row-range", "1:8")
        for name in ("report.md", "report.html"):
            self.assertIn("rows", (self.run / name).read_text().split("Row ranges")[1])
            self.assertRegex((self.run / name).read_text(), r"1 to 8 \(D=2048,rows=[138]\): rmsnorm_\w+, faster than MLX at 1, 3, 8")

    def test_without_the_option_no_entry_has_a_range(self):
        self.kd("--shapes", "rows=1,D=2048", "--shapes", "rows=2,D=2048")
        self.assertFalse([entry for entry in self.entries() if "rows_range" in entry])
        self.assertNotIn("Row ranges", (self.run / "report.md").read_text())

    def test_what_is_no_range_is_refused_before_anything_is_written(self):
        for text in ("512", "0:4", "4:1", "x:y", "1:99999999999"):
            self.assertIn("--row-range", self.kd("--row-range", text, code=2).stderr)
        self.assertIn("2^47", self.kd("--shapes", "rows=1,D=1000000", "--row-range", "1:2147483648", code=2).stderr)
        self.assertFalse(self.run.exists())


if __name__ == "__main__":
    unittest.main()
