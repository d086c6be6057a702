"""results_page.py makes docs/results.md and README's tables from bench/results, and notices when they are out of date."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
SCRIPT = SOURCE / "tools" / "results_page.py"
README = "# Small\n\n<!-- speed-ups begin -->\nold\n<!-- speed-ups end -->\n\nThe rest.\n"


def rate(median):
    return {"median": median, "lo": 0.9 * median, "hi": 1.1 * median, "samples": 12}


def model_result():
    rows = [{"format": "4 bits", "what": what, "tokens": tokens, "ours_over": {"mlx": rate(300.0)},
             "tokens_per_s": {"mlx": rate(0.5), "ours": rate(150.0)}}
            for what, tokens in (("decode", 512), ("decode", 4096), ("prompt", 32))]
    return {"what": "tokens", "date": "2026-01-02", "machine": {"cpu": "a CPU", "cores": 2}, "versions": {"MLX": "9.9"},
            "model": {"layers": 8, "hidden": 2048, "mlp": 5632, "heads": 32, "kv_heads": 4, "head_dim": 64},
            "sides": {"mlx": "MLX", "ours": "mlx_kd"}, "rows": rows, "memory_mib": {"4 bits": {"mlx": 300, "ours": 310}},
            "profile": {"4 bits": {"ours": {"step": 0.01, "operators": {"qmatvec": {"calls": 57, "seconds": 0.008}}}}},
            "replaced": ["8 x Block"]}


class ResultsPage(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_results_"))
        self.addCleanup(shutil.rmtree, self.root)
        self.results = self.root / "bench" / "results"
        self.results.mkdir(parents=True)
        (self.root / "docs").mkdir()
        for name in ("suites", "peers"):
            shutil.copy(SOURCE / "bench" / "results" / f"{name}.json", self.results)
        (self.root / "README.md").write_text(README)

    def write(self, name, data):
        (self.results / f"{name}.json").write_text(json.dumps(data))

    def call(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, *arguments, self.root], capture_output=True, text=True)

    def page(self):
        result = self.call()
        self.assertEqual(result.returncode, 0, result.stderr)
        return (self.root / "docs" / "results.md").read_text()

    def test_the_guide_of_products_gets_its_table(self):
        row = {"what": "16 x 32 x 64", "dtype": "bfloat16", "gflops": 12.0, "ms": {"mlx_kd": rate(0.5), "MLX": rate(5.0)},
               "ratio": {"MLX": rate(10.0)}}
        self.write("gemm_cpu", {"what": "products", "date": "2026-01-02", "machine": {"cpu": "a CPU"}, "rows": [row],
                                "versions": {"MLX": "9.9"}})
        self.assertIn("No such file", self.call().stderr)
        guide = self.root / "docs" / "gemm.md"
        guide.write_text("# Products\n")
        self.assertIn("gemm.md lacks the lines <!-- products begin -->", self.call().stderr)
        guide.write_text("# Products\n<!-- products begin -->\n<!-- products end -->\n")
        self.assertIn("16 x 32 x 64", self.page())
        self.assertIn("| 16 x 32 x 64 | bfloat16 | 0.500 | 12 | 10.00x (9.00 to 11.00) |", guide.read_text())

    def test_made_pages_pass_the_check(self):
        self.page()
        self.assertEqual(self.call("--check").returncode, 0)

    def test_a_changed_result_is_noticed_with_both_files(self):
        self.page()
        suites = json.loads((self.results / "suites.json").read_text())
        suites["budget"] = 7
        self.write("suites", suites)
        result = self.call("--check")
        self.assertEqual(result.returncode, 1)
        for name in ("docs/results.md", "README.md"):
            self.assertIn(f"{self.root / name}: out of date: run tools/results_page.py", result.stdout)

    def test_check_writes_nothing(self):
        self.assertEqual(self.call("--check").returncode, 1)
        self.assertFalse((self.root / "docs" / "results.md").exists())
        self.assertEqual((self.root / "README.md").read_text(), README)

    def test_only_the_tables_of_the_readme_change(self):
        self.page()
        text = (self.root / "README.md").read_text()
        self.assertTrue(text.startswith("# Small\n\n<!-- speed-ups begin -->\n| operator"), text)
        self.assertTrue(text.endswith("<!-- speed-ups end -->\n\nThe rest.\n"), text)

    def test_a_file_without_a_section_is_shown_with_machine_date_and_notes(self):
        self.write("new_thing", {"what": "How new it is", "date": "2026-01-02T03:04:05", "cores": 4, "newness": 0.5,
                                 "machine": {"cpu": "a CPU"}, "rows": [{"size": "1", "us": 2.25, "knobs": {}}],
                                 "notes": ["The load was high"]})
        page = self.page()
        for text in ("## new_thing", "How new it is.", "| newness | 0.5 |", "| size | us |", "| 1 | 2.25 |", "The load was high.",
                     "a CPU, 4 cores, 2026-01-02. Data: [new_thing.json]"):
            self.assertIn(text, page)

    def test_a_measured_model_has_a_section_a_figure_and_a_table_in_the_readme(self):
        self.write("decode_cpu", model_result())
        self.assertIn("README.md lacks the lines <!-- decode begin -->", self.call().stderr)
        (self.root / "README.md").write_text(README + "<!-- decode begin -->\n<!-- decode end -->\n")
        page = self.page()
        for text in ("## A language model on a CPU", "| 4 bits | decode, 512 tokens of context | 0.5 (0.45 to 0.55) |",
                     "| 4 bits | ours | qmatvec | 57 | 8 |", "| 4 bits | ours | everything else |  | 2 |", "8 x Block"):
            self.assertIn(text, page)
        figure = ET.fromstring((self.root / "docs" / "decode-cpu.svg").read_text())
        texts = [one.text for one in figure.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual(texts, ["4 bits: decode, tokens per second, 512 tokens of context", "MLX", "0.50", "mlx_kd", "150"])
        self.assertIn("| 4 bits | 0.5 (0.45 to 0.55) | 150 (135 to 165) |", (self.root / "README.md").read_text())
        self.assertEqual(self.call("--check").returncode, 0)
        (self.root / "docs" / "decode-cpu.svg").unlink()
        self.assertIn("decode-cpu.svg: out of date", self.call("--check").stdout)

    def test_vector_search_has_a_section_and_a_figure(self):
        times = {name: {"median": ms, "lo": ms, "hi": ms, "samples": 6} for name, ms in (("mlx_kd", 2.0), ("FAISS", 5.0))}
        self.write("vectors_cpu", {
            "what": "1000 vectors", "date": "2026-01-02", "machine": "a CPU, 2 cores",
            "rows": [{"what": "IndexFlatL2, 1 queries", "ms": times, "speedup": {"median": 2.5, "lo": 2.4, "hi": 2.6}}],
            "curve": [{"index": "IndexIVFFlat", "nprobe": n, "recall": 0.5, "recall_faiss": 0.5, "ms": n, "ms_faiss": 2 * n}
                      for n in (1, 10)]})
        self.assertIn("| IndexFlatL2, 1 queries | 2.00 | 5.00 | 2.50x (2.40 to 2.60) |", self.page())
        figure = ET.fromstring((self.root / "docs" / "vectors-cpu.svg").read_text())
        self.assertEqual(len(list(figure.iter("{http://www.w3.org/2000/svg}circle"))), 4)

    def test_a_file_that_does_not_fit_its_section_is_named(self):
        self.write("drift", {"what": "something else"})
        result = self.call()
        self.assertEqual(result.returncode, 1)
        self.assertIn("bench/results/drift.json", result.stderr)

    def test_a_readme_without_the_comments_is_refused(self):
        (self.root / "README.md").write_text("# Small\n")
        result = self.call()
        self.assertEqual(result.returncode, 1)
        self.assertIn("speed-ups begin", result.stderr)

    def test_no_results_are_no_success(self):
        shutil.rmtree(self.results)
        self.assertEqual(self.call().returncode, 1)


if __name__ == "__main__":
    unittest.main()
