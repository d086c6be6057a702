"""room_figure.py draws the rooms of the tree, the same each time, and notices when the figure is out of date."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

SOURCE = Path(os.environ["MLX_KD_SOURCE_DIR"])
SCRIPT = SOURCE / "tools" / "room_figure.py"
SVG = "{http://www.w3.org/2000/svg}"


class RoomFigure(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="kd_rooms_"))
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copytree(SOURCE / "mlx_kd", self.root / "mlx_kd")
        (self.root / "docs").mkdir()

    def call(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, *arguments, self.root], capture_output=True, text=True)

    def draw(self):
        result = self.call()
        self.assertEqual(result.returncode, 0, result.stderr)
        return (self.root / "docs" / "rooms.svg").read_text()

    def test_every_room_and_inner_room_is_in_it(self):
        words = " ".join(text.text for text in ET.fromstring(self.draw()).iter(f"{SVG}text"))
        for name in ("cli", "kernels", "spec", "base", "proof", "metal_text", "evidence", "translate"):
            self.assertIn(name, words)

    def test_the_same_tree_gives_the_same_figure(self):
        self.assertEqual(self.draw(), self.draw())
        self.assertEqual(self.call("--check").returncode, 0)

    def test_a_new_include_is_noticed(self):
        self.draw()
        (self.root / "mlx_kd" / "kernels" / "odd.cpp").write_text('#include "mlx_kd/packs/pack.h"\n')
        result = self.call("--check")
        self.assertEqual(result.returncode, 1)
        self.assertIn("rooms.svg: out of date: run tools/room_figure.py", result.stdout)

    def test_data_between_rooms_that_share_nothing_is_refused(self):
        for path in (self.root / "mlx_kd" / "discover").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        result = self.call()
        self.assertEqual(result.returncode, 1)
        self.assertIn("no include joins shapes and discover", result.stderr)

    def test_it_is_readable_on_light_and_dark_and_loads_nothing(self):
        text = self.draw()
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertEqual(text.count("http"), 1)  # the name of the format


if __name__ == "__main__":
    unittest.main()
