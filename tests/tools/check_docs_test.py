"""check_docs.py finds broken links, wide lines, long guides, unnamed rooms and undated decisions."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
SCRIPT = SOURCE / "tools" / "check_docs.py"
DECISION = "# Layout\n\nStatus: in force.\n\n## 2026-01-02: rooms\n\nWhy.\n"


class CheckDocs(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_docs_")).resolve()
        self.addCleanup(shutil.rmtree, self.root)
        self.write("README.md", "See [the guide](docs/guide.md#second-part) and [the site](https://example.org/x).\n")
        self.write("docs/guide.md", "# Guide\n\n## Second part\n\nText.\n")
        self.write("docs/decisions/README.md", "[layout](layout.md)\n")
        self.write("docs/decisions/layout.md", DECISION)
        shutil.copy(SOURCE / "docs" / "architecture.md", self.root / "docs" / "architecture.md")
        text = (self.root / "docs" / "architecture.md").read_text()
        self.write("docs/architecture.md", "\n".join(line for line in text.split("\n") if line.startswith("| `mlx_kd/")))

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self):
        return subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True)

    def assert_found(self, text):
        result = self.check()
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn(text, result.stdout)

    def test_documents_in_order_pass(self):
        result = self.check()
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(result.stdout, "5 documents are in order\n")

    def test_a_link_to_a_missing_file_is_found_with_its_line(self):
        self.write("docs/guide.md", "# Guide\n\n[gone](gone.md)\n\n## Second part\n")
        self.assert_found("guide.md:3: links to gone.md, which does not exist")

    def test_a_link_to_a_missing_heading_is_found(self):
        self.write("docs/guide.md", "# Guide\n")
        self.assert_found("README.md:1: links to docs/guide.md#second-part, and guide.md has no such heading")

    def test_links_in_code_are_not_links(self):
        self.write("docs/guide.md", "# Guide\n\n```\n[gone](gone.md)\n```\n\n## Second part\n")
        self.assertEqual(self.check().returncode, 0)

    def test_a_wide_line_of_prose_is_found(self):
        self.write("docs/guide.md", "## Second part\n\n" + "word " * 30 + "\n")
        self.assert_found("guide.md:3: 150 columns: wrap prose at 110")

    def test_wide_tables_and_code_pass(self):
        wide = "word " * 30
        self.write("docs/guide.md", f"## Second part\n\n| {wide} |\n\n```\n{wide}\n```\n")
        self.assertEqual(self.check().returncode, 0)

    def test_a_long_guide_is_found_and_a_long_reference_is_not(self):
        self.write("docs/formats.md", "line\n" * 300)
        self.assertEqual(self.check().returncode, 0)
        self.write("docs/guide.md", "## Second part\n" + "line\n" * 300)
        self.assert_found("guide.md: 301 lines: a guide has at most 160")

    def test_a_room_without_a_line_is_found(self):
        text = (self.root / "docs" / "architecture.md").read_text()
        self.write("docs/architecture.md", text.replace("`mlx_kd/evaluate/proof/`", "`proof`"))
        self.assert_found("architecture.md: does not name mlx_kd/evaluate/proof/")

    def test_a_decision_outside_the_index_is_found(self):
        self.write("docs/decisions/other.md", DECISION)
        self.assert_found("does not list other.md")

    def test_a_decision_without_a_date_or_a_status_is_found(self):
        self.write("docs/decisions/layout.md", "# Layout\n\n## Rooms\n")
        self.assert_found("layout.md:3: a decision is headed '## YYYY-MM-DD")
        self.assert_found("layout.md: has no line 'Status: ...'")

    def test_a_folder_without_documents_is_no_success(self):
        shutil.rmtree(self.root / "docs")
        (self.root / "README.md").unlink()
        self.assert_found("no documents here")


if __name__ == "__main__":
    unittest.main()
