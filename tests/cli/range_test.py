"""kd run --range and --row-range on the null device: what they sample, state and refuse."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


class Range(unittest.TestCase):
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

    def test_the_batch_dim_by_its_name_is_the_same_range(self):
        self.kd("--shapes", "rows=5,D=2048", "--range", "rows=1:64")
        ranged = [entry for entry in self.entries() if "rows_range" in entry]
        self.assertEqual([(e["rows_range"], e["rows_sampled"]) for e in ranged], [([1, 64], [1, 3, 5, 12, 47, 64])])
        self.kd("--shapes", "rows=5,D=2048", "--row-range", "1:64", "--resume")

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
            self.assertIn("rows", (self.run / name).read_text().split("Ranges")[1])
            self.assertRegex((self.run / name).read_text(), r"1 to 8 \(D=2048,rows=[138]\): rmsnorm_\w+, faster than MLX at 1, 3, 8")

    def test_without_the_option_no_entry_has_a_range(self):
        self.kd("--shapes", "rows=1,D=2048", "--shapes", "rows=2,D=2048")
        self.assertFalse([entry for entry in self.entries() if "rows_range" in entry])
        self.assertNotIn("Ranges", (self.run / "report.md").read_text())

    def test_a_range_of_another_dim_is_refused_with_those_that_may_vary(self):
        for text, words in (("D=1:8", ("'D'", "rows")), ("Z=1:8", ("'Z'", "rows")), ("1:8", ("'1:8'", "rows")),
                            ("rows=8:1", ("'rows'", "'8:1'")), ("rows=", ("'rows'", "least"))):
            refused = self.kd("--range", text, code=2).stderr
            for word in ("--range", *words):
                self.assertIn(word, refused)
        self.assertIn("two ranges of 'rows'", self.kd("--range", "rows=1:8", "--row-range", "1:8", code=2).stderr)
        self.assertIn("'S' of op 'kv_append'", self.kd("--range", "B=1:8", op="kv_append", code=2).stderr)
        self.assertFalse(self.run.exists())

    def test_what_is_no_range_is_refused_before_anything_is_written(self):
        for text in ("512", "0:4", "4:1", "x:y", "1:99999999999"):
            self.assertIn("--row-range", self.kd("--row-range", text, code=2).stderr)
        self.assertIn("2^47", self.kd("--shapes", "rows=1,D=1000000", "--row-range", "1:2147483648", code=2).stderr)
        self.assertFalse(self.run.exists())


if __name__ == "__main__":
    unittest.main()
