"""bench/generation/same_tokens.py: counts calls and differences, and goes on where another run ended."""
import json
import sys
import unittest

from tests.support.package import SOURCE, PackageTest, run

PROGRAM = SOURCE / "bench" / "generation" / "same_tokens.py"


class SameTokens(PackageTest):
    def draw(self, state, *arguments):
        return run(sys.executable, PROGRAM, "--state", state, "--width", 64, "--block", 10, *arguments)

    @unittest.skipUnless(sys.platform == "linux", "skipped: MLX adds in another order on macOS")
    def test_a_run_goes_on_with_the_blocks_that_are_missing(self):
        state = self.folder() / "state"
        for calls, share in ((20, ()), (40, ("--shares", 2, "--share", 1))):
            self.assert_succeeds(self.draw(state, "--calls", calls, *share))
        self.assertEqual([json.loads(line)["block"] for line in state.read_text().splitlines()], [0, 1, 3])
        with open(state, "a") as file:
            file.write('{"width": 64, "blo')  # of a run that was ended while it wrote
        result = self.draw(state, "--calls", 40)
        self.assert_succeeds(result)
        self.assertRegex(result.stderr, r"40 calls, \d+ of them served by the operator, 0 differences")

    def test_a_difference_is_counted_and_told(self):
        state = self.folder() / "state"
        state.write_text(json.dumps({"width": 64, "block": 0, "calls": 10, "served": {"kernel": 9, "chain": 1},
                                     "differences": ["call 7"]}) + "\n")
        result = self.draw(state, "--calls", 10, "--out", "-")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("10 calls, 9 of them served by the operator, 1 differences", result.stderr)
        self.assertEqual(json.loads(result.stdout)["differences"], ["call 7"])


if __name__ == "__main__":
    unittest.main()
