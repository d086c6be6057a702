"""kd revalidate: pins of another MLX are proved and timed again, and nothing is lost."""
import json
import os
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]


def kd(*arguments, code=0):
    result = subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert result.returncode == code, result.stderr
    return result


def to_another_op(entry):
    """What cannot be measured anywhere, and costs no time."""
    entry["key"]["op_name"] = "no_such_op"


@unittest.skipIf(os.environ.get("MLX_KD_SANITIZE") == "thread", "the call of a pin costs more here than MLX's own")
class Revalidate(unittest.TestCase):
    """A small run on this CPU gives pins; each test changes a copy of them."""

    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory(prefix="kd_revalidate_")
        cls.addClassCleanup(cls.temp.cleanup)
        run = Path(cls.temp.name) / "run"
        kd("run", "--op", "rmsnorm", "--budget", "2", "--out", run, "--quiet", "--finalists", "1",
           "--claims", "quick", "--shapes", "rows=1,D=64", "--row-range", "1:3")
        cls.fresh = json.loads((run / "best_kernels.json").read_text())
        if len(cls.fresh["entries"]) < 2:
            raise unittest.SkipTest("this CPU's kernels are not surely faster than MLX")

    def setUp(self):
        self.pins = Path(self.temp.name) / f"{self.id()}.json"

    def write(self, **changes):
        """The pins as MLX 0.30.0 would have them; changes: number of an entry -> function of it."""
        pack = json.loads(json.dumps(self.fresh))
        for entry in pack["entries"]:
            entry["key"]["mlx_version"] = "0.30.0"
        for number, change in changes.items():
            change(pack["entries"][int(number[1:])])
        self.pins.write_text(json.dumps(pack))
        return self.pins.read_text()

    def revalidate(self, *options):
        self.answer = json.loads(kd("revalidate", self.pins, "--json", "--quiet", *options).stdout)
        return [entry["outcome"] for entry in self.answer["entries"]]

    def entries(self, path=None):
        return json.loads((path or self.pins).read_text())["entries"]

    def test_what_merged_runs_disagree_on_is_measured_here(self):
        """Both say that the kernel is faster than it can be, by intervals that do not meet."""
        runs = []
        for name, speedup in (("much", 1000.0), ("more", 2000.0)):
            pack = json.loads(json.dumps(self.fresh))
            del pack["entries"][1:]
            pack["entries"][0]["metrics"].update(speedup_lo=speedup, speedup_vs_ref=speedup + 1, speedup_hi=speedup + 2)
            runs.append(Path(self.temp.name) / f"{name}.json")
            runs[-1].write_text(json.dumps(pack))
        plain = json.loads(kd("pack", "--runs", *runs, "--out", self.pins, "--json").stdout)
        self.assertEqual([(one["low"]["origin"], one["high"]["origin"]) for one in plain["disagreements"]],
                         [(str(runs[0]), str(runs[1]))])
        self.assertGreaterEqual(self.entries()[0]["metrics"]["speedup_lo"], 1000)
        answer = json.loads(kd("pack", "--runs", *runs, "--out", self.pins, "--remeasure", "--json", "--quiet").stdout)
        self.assertEqual([one["outcome"] for one in answer["remeasured"]], ["proved"])
        self.assertLess(self.entries()[0]["metrics"]["speedup_hi"], 1000)
        self.assertEqual(self.entries()[0]["key"], self.fresh["entries"][0]["key"])

    def test_pins_of_another_mlx_become_pins_of_this_one(self):
        before = self.write(_0=lambda entry: entry.update(mine="stays"))
        self.assertEqual(self.revalidate(), ["proved"] * 2)
        now = self.entries()
        self.assertEqual([e["key"] for e in now], [e["key"] for e in self.fresh["entries"]])
        self.assertEqual([e["candidate_id"] for e in now], [e["candidate_id"] for e in self.fresh["entries"]])
        self.assertEqual(now[0]["mine"], "stays")
        self.assertTrue(all(e["metrics"]["speedup_lo"] > 1 for e in now))
        self.assertEqual([e.get("rows_range") for e in now], [e.get("rows_range") for e in self.fresh["entries"]])
        self.assertEqual(Path(self.answer["old"]).read_text(), before)

    def test_the_file_before_is_kept_each_time(self):
        before = self.write(_0=to_another_op, _1=to_another_op)
        self.assertEqual(self.revalidate(), ["kept"] * 2)
        old = Path(self.answer["old"])
        self.assertEqual(old.read_text(), before)
        self.revalidate()
        self.assertNotEqual(Path(self.answer["old"]), old)
        self.assertEqual(old.read_text(), before)

    def test_what_is_wrong_now_is_dropped_and_named(self):
        def break_it(entry):
            entry["source"] = "int broken("
            entry.pop("rows_range", None)
        self.write(_0=break_it, _1=lambda entry: entry.pop("rows_range", None))
        self.assertEqual(self.revalidate(), ["dropped", "proved"])
        self.assertIn("error", self.answer["entries"][0]["why"])
        self.assertEqual(len(self.entries()), 1)

    def test_a_range_that_no_longer_holds_is_not_stated(self):
        def break_it(entry):
            entry["source"] = "int broken("
        def only_the_range(entry):
            entry["source"] = self.fresh["sources"][entry["source_hash"]] + "// another kernel\n"
        ranged = next(i for i, entry in enumerate(self.fresh["entries"]) if "rows_range" in entry)
        self.write(**{f"_{ranged}": break_it, f"_{1 - ranged}": only_the_range})
        self.assertEqual(sorted(self.revalidate()), ["dropped", "proved"])
        self.assertEqual([entry.get("rows_range") for entry in self.entries()], [None])

    def test_what_cannot_be_measured_here_stays_as_it_was(self):
        def to_cuda(entry):
            entry.update(language="cuda", source="// a kernel in CUDA")
            entry["key"]["device_arch"] = "sm_90"
        before = self.write(_0=to_cuda, _1=to_another_op)
        outcomes = self.revalidate()
        if "proved" in outcomes + ["dropped"] and "kept" not in outcomes:
            self.skipTest("this machine has a GPU")
        self.assertEqual(outcomes[1], "kept")
        self.assertIn("no_such_op", self.answer["entries"][1]["why"])
        self.assertIn(json.loads(before)["entries"][1]["key"], [entry["key"] for entry in self.entries()])

    def test_damaged_entries_are_named_and_cost_only_themselves(self):
        def knob(**values):
            def change(entry):
                entry.pop("rows_range", None)
                entry["template_params"].update(values)
            return change
        def key(**values):
            return lambda entry: (entry["key"].update(values), entry.pop("rows_range", None))
        plain = lambda entry: entry.pop("rows_range", None)
        far = lambda entry: entry.update(rows_range=[1, 2 ** 31], rows_sampled=[1, 2 ** 31])
        damages = [
            (knob(GRAIN=0), "dropped", "crashed"), (knob(ROWS=-4), "dropped", "error"), (knob(VEC=1.5), "kept", "VEC"),
            (knob(**{"X\n#include": 1}), "kept", "no knob has"), (key(dtype="int8"), "kept", "int8"),
            (key(shape_signature={"rows": 2 ** 40, "D": 2 ** 40}), "kept", "2^47"),
            (key(shape_signature={"rows": 1}), "kept", "'D'"),
            (key(shape_signature={"rows": 1, "D": 64, "Z": 3}), "kept", "shape_signature"),
            (lambda entry: entry.update(func_name="../x"), "kept", "../x"),
            (lambda entry: entry.update(contract=2), "kept", "contract 2"),
            (lambda entry: (plain(entry), entry.update(ranges={"D": [1, 64]})), "kept", "a range of 'D'"),
            (lambda entry: entry.update(claim_kind="mlx_cannot"), "proved", ""),
            (lambda entry: entry["launch_params"].update(launch_kind=3), "kept", "kernel")]
        self.write(_1=plain)
        pack = json.loads(self.pins.read_text())
        first, sound = pack["entries"]
        # Each at a size of its own, so that no sound kernel serves it.
        for number, (change, _, _) in enumerate(damages):
            entry = json.loads(json.dumps(first))
            entry["key"]["shape_signature"]["rows"] = 10 + number
            change(entry)
            pack["entries"].append(entry)
        pack["entries"] = [sound, *pack["entries"][2:]]
        self.pins.write_text(json.dumps(pack))
        self.assertEqual(self.revalidate(), ["proved", *(outcome for _, outcome, _ in damages)])
        for (_, _, word), entry in zip(damages, self.answer["entries"][1:]):
            self.assertIn(word, entry["why"])
        self.write(_0=far, _1=plain)
        self.assertEqual(self.revalidate(), ["kept", "kept"])
        self.assertIn("GiB", self.answer["entries"][0]["why"])

    def test_pins_of_another_device_are_tried_here_and_kept_for_it(self):
        def elsewhere(entry):
            entry["key"]["device_name"] = "Another CPU"
        self.write(_0=elsewhere)
        self.assertEqual(self.revalidate(), ["proved"] * 2)
        names = sorted(entry["key"]["device_name"] == "Another CPU" for entry in self.entries())
        self.assertEqual(names, [False, False, True])

    def test_another_file_is_written_when_asked(self):
        before = self.write(_0=to_another_op, _1=to_another_op)
        out = Path(self.temp.name) / "out.json"
        self.revalidate("--output", out)
        self.assertIsNone(self.answer["old"])
        self.assertEqual(self.pins.read_text(), before)
        self.assertEqual(len(self.entries(out)), 2)

    def test_ctrl_c_leaves_the_file_as_it_was(self):
        before = self.write()
        process = subprocess.Popen([KD, "revalidate", self.pins], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn(b"proving", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(self.pins.read_text(), before)


class MetalEntries(unittest.TestCase):
    """A proved Metal run gives entries; the tests say that an Apple GPU had timed them."""

    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory(prefix="kd_revalidate_")
        cls.addClassCleanup(cls.temp.cleanup)
        run = Path(cls.temp.name) / "run"
        kd("run", "--op", "rmsnorm_residual", "--device", "metal", "--prove-on", "simt", "--times", "null",
           "--budget", "3", "--batch", "3", "--shapes", "rows=3,D=64", "--finalists", "1", "--out", run, "--quiet")
        cls.pack = json.loads((run / "best_kernels.json").read_text())
        for entry in cls.pack["entries"]:
            entry["protocol"] = "1" * 64
            entry["key"].update(device_arch="applegpu_g16s", device_name="Apple M4 Max", mlx_version="0.30.0")
            entry["metrics"].update(latency_us=7.0)

    def revalidate(self, change=lambda entry: None):
        pack = json.loads(json.dumps(self.pack))
        change(pack["entries"][0])
        pins = Path(self.temp.name) / "pins.json"
        pins.write_text(json.dumps(pack))
        entry = json.loads(kd("revalidate", pins, "--json", "--quiet").stdout)["entries"][0]
        if entry["outcome"] not in ("kept", "dropped"):
            self.skipTest("a device here times Metal kernels")
        return entry, json.loads(pins.read_text())["entries"]

    def test_are_proved_on_the_executor_where_nothing_times_them(self):
        entry, left = self.revalidate()
        self.assertEqual(entry["outcome"], "kept", entry["why"])
        self.assertIn("proved on simt", entry["why"])
        self.assertLessEqual(entry["now"]["error_bound_used"], 1)
        self.assertEqual([one["key"] for one in left], [one["key"] for one in self.pack["entries"]])
        self.assertEqual(left[0]["metrics"]["latency_us"], 7.0)

    def test_of_another_text_or_other_knobs_are_kept_and_named(self):
        for change in (lambda entry: entry.update(metal_source=entry["metal_source"] + "// mine"),
                       lambda entry: entry["template_params"].update(THREADS=77)):
            entry, left = self.revalidate(change)
            self.assertEqual((entry["outcome"], len(left)), ("kept", 1))
            self.assertIn("does not match any Metal kernel", entry["why"])


class BadInput(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_revalidate_")
        self.addCleanup(temp.cleanup)
        self.pins = Path(temp.name) / "pins.json"

    def refuses(self, text, word, *options):
        if text is not None:
            self.pins.write_text(text)
        result = kd("revalidate", self.pins, *options, code=2)
        self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual([path.name for path in self.pins.parent.iterdir()], ["pins.json"] if text is not None else [])

    def test_what_is_no_pack(self):
        self.refuses(None, "pins.json")
        self.refuses("{", "not JSON")
        self.refuses("{}", "is not a pack")
        self.refuses('{"schema_version": "3", "entries": []}', "no entries")
        self.refuses('{"schema_version": "9", "entries": []}', "schema 9")

    def test_times_of_the_null_device(self):
        run = self.pins.parent / "run"
        kd("run", "--op", "rmsnorm", "--device", "null", "--budget", "24", "--seed", "7", "--out", run, "--quiet")
        text = (run / "best_kernels.json").read_text()
        for path in run.iterdir():
            path.unlink()
        run.rmdir()
        self.refuses(text, "null device")

    def test_a_place_that_cannot_be_written(self):
        self.refuses('{"schema_version": "3", "entries": []}', "is not a folder", "--output",
                     self.pins / "pins.json")


if __name__ == "__main__":
    unittest.main()
