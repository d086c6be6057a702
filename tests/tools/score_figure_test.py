"""score_figure.py makes one figure of the pages that kd replay writes."""
import itertools
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
SCRIPT = SOURCE / "tools" / "score_figure.py"
SVG = "{http://www.w3.org/2000/svg}"


def cache():
    entries = {}
    for x, y in itertools.product(range(8), range(8)):
        time = 1 + (x - 3) ** 2 + abs(y - 5)
        entries[f"{x},{y}"] = {"x": x, "y": y, "time": time, "times": [time], "compile_time": 1, "framework_time": 0,
                               "strategy_time": 0, "verification_time": 0}
    values = list(range(8))
    return {"device_name": "A", "kernel_name": "k", "objective": "time", "tune_params_keys": ["x", "y"],
            "tune_params": {"x": values, "y": values}, "cache": entries}


class ScoreFigure(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="kd_figure_"))
        self.addCleanup(shutil.rmtree, self.folder)

    def page(self, strategy):
        (self.folder / "space.json").write_text(json.dumps(cache()))
        page = self.folder / f"{strategy}.html"
        subprocess.run([os.environ["MLX_KD_PROGRAM"], "replay", "--spaces", self.folder / "space.json", "--repeats", "2",
                        "--strategy", strategy, "--html", page], check=True, capture_output=True)
        return page

    def make(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)

    def test_draws_the_curve_of_each_page_with_its_name(self):
        out = self.folder / "figure.svg"
        result = self.make(out, f"tours={self.page('tours')}", f"by luck={self.page('random')}")
        self.assertEqual(result.returncode, 0, result.stderr)
        root = ET.parse(out).getroot()
        self.assertEqual(len(root.findall(f"{SVG}polyline")), 2)
        words = [text.text for text in root.iter(f"{SVG}text")]
        self.assertIn("tours", words)
        self.assertIn("by luck", words)
        self.assertIn("prefers-color-scheme: dark", out.read_text())

    def test_a_page_without_a_chart_is_named(self):
        (self.folder / "empty.html").write_text("<html></html>")
        result = self.make(self.folder / "figure.svg", f"a={self.folder / 'empty.html'}")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("empty.html", result.stderr)
        self.assertFalse((self.folder / "figure.svg").exists())

    def test_the_figure_of_the_documents_stands_alone(self):
        text = (SOURCE / "docs" / "search-scores.svg").read_text()
        root = ET.fromstring(text)
        self.assertEqual(len(root.findall(f"{SVG}polyline")), 4)
        self.assertEqual(text.count("http"), 1)  # the name of the format
        self.assertIn("search-scores.svg", (SOURCE / "docs" / "search.md").read_text())


if __name__ == "__main__":
    unittest.main()
