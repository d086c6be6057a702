"""Large amounts: 10,000 runs in one pack, and a run that goes on after 100,000 evaluations.

Times are of the processor, so that what else the machine does changes little: of a resume, which is one thread, as they
are; of a merge, which two threads do, half.
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import SimpleNamespace

KD = os.environ["MLX_KD_PROGRAM"]
ROOT = Path(os.environ["MLX_KD_SOURCE_DIR"])
MERGING_THREADS = 2
MIB = 1 << 20

sys.path.insert(0, str(ROOT / "bench"))


class Usage:
    """What a finished child took."""

    def __init__(self, process):
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.code = process.returncode
        self.peak_mib = used.ru_maxrss * 1024 / MIB
        self.seconds = used.ru_utime + used.ru_stime


def peak_mib(pid):
    """So far; that of rusage begins with this process's own. 0 of a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next((line for line in lines if line.startswith("VmHWM")), "VmHWM: 0").split()[1]) / 1024


@unittest.skipUnless(os.environ.get("MLX_KD_LONG"), "it takes minutes: ./kd test --long")
@unittest.skipIf(os.environ.get("MLX_KD_SANITIZE"), "a sanitizer takes memory of its own")
class Scale(unittest.TestCase):
    def setUp(self):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a flush costs nothing there
        temp = tempfile.TemporaryDirectory(prefix="kd_scale_", dir=memory, ignore_cleanup_errors=True)
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)

    def test_ten_thousand_runs_are_merged_in_20_s_and_1_gib(self):
        import merging
        names = merging.write_runs(self.folder, SimpleNamespace(runs=10000, entries=20, keys=20000))
        process = subprocess.Popen([KD, "pack", "--runs", *names, "--out", "all.json"], cwd=self.folder,
                                   stdout=subprocess.DEVNULL)
        used = Usage(process)
        seconds = used.seconds / MERGING_THREADS
        print(f"merging: {seconds:.1f} s, {used.peak_mib:.0f} MiB", flush=True)
        self.assertEqual(used.code, 0)
        self.assertLessEqual(seconds, 20)
        self.assertLessEqual(used.peak_mib, 1024)
        entries = json.loads((self.folder / "all.json").read_text())["entries"]
        self.assertGreater(len(entries), 19000)
        self.assertLessEqual((self.folder / "all.json").stat().st_size, 64 * MIB)

    def test_a_long_run_goes_on_to_the_bytes_of_one_that_was_not_broken(self):
        """2,900 evaluations are more than are walked again."""
        def run(out, budget, *more):
            command = [KD, "run", "--op", "rmsnorm", "--device", "null", "--budget", str(budget), "--batch", "7",
                       "--out", self.folder / out, "--quiet", *more]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)

        def walk(out):
            lines = (self.folder / out / "run.ndjson").read_text().splitlines()
            records = [json.loads(line) for line in lines]
            return [(one["candidate_id"], one["status"], one["metrics"].get("objective")) for one in records
                    if one["event"] != "finish"]
        run("whole", 2950)
        run("broken", 2950)
        log = self.folder / "broken" / "run.ndjson"
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[:2903]) + lines[2903][:50])
        run("broken", 2950, "--resume")
        self.assertEqual(walk("broken"), walk("whole"))
        self.assertEqual((self.folder / "broken" / "best_kernels.json").read_bytes(),
                         (self.folder / "whole" / "best_kernels.json").read_bytes())
        shown = subprocess.run([KD, "report", "--run", self.folder / "broken"], capture_output=True, check=False)
        self.assertEqual(shown.returncode, 0)

    def command(self):
        odd = Path(os.environ["MLX_KD_BUILD_DIR"]) / "tests" / "kd_odd_spaces"
        return [odd, "run", "--op", "huge", "--device", "null", "--shapes", "N=64|128|256|512",
                "--out", self.folder / "run", "--quiet", "--budget", "200000"]

    def grown(self, command, log, size):
        """The process of a run whose log has come to that size; it is ended there."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while process.poll() is None and (not log.exists() or log.stat().st_size <= size):
                time.sleep(0.02)
            peak = peak_mib(process.pid)
        finally:
            process.kill()
        used = Usage(process)
        used.peak_mib = peak
        self.assertGreater(log.stat().st_size, size)
        return used

    def test_a_hundred_thousand_records_are_reported_and_go_on_within_5_s_and_300_mib(self):
        log, meta = self.folder / "run" / "run.ndjson", self.folder / "run" / "run_meta.json"
        self.grown([*self.command(), "--strategy", "random", "--batch", "1000"], log, 230 * MIB)
        lines = log.read_bytes().splitlines(keepends=True)[:100000]
        self.assertEqual(len(lines), 100000)
        whole = b"".join(lines)
        log.write_bytes(whole)
        process = subprocess.Popen([self.command()[0], "report", "--run", self.folder / "run"],
                                   stdout=subprocess.DEVNULL)
        peak = 0
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            peak = max(peak, peak_mib(process.pid))
            time.sleep(0.002)
        used = Usage(process)
        used.peak_mib = peak
        print(f"report: {used.seconds:.1f} s, {used.peak_mib:.0f} MiB", flush=True)
        self.assertEqual(used.code, 0)
        self.assertLessEqual(used.seconds, 5)
        self.assertLessEqual(used.peak_mib, 300)
        self.assertLessEqual((self.folder / "run" / "report.html").stat().st_size, 8 * MIB)
        for strategy in ("random", "tours"):
            with self.subTest(strategy):
                log.write_bytes(whole)
                stated = json.loads(meta.read_text())
                stated["options"].update(strategy=strategy, batch=8)
                meta.write_text(json.dumps(stated))
                used = self.grown([*self.command(), "--strategy", strategy, "--resume"], log, len(whole))
                print(f"{strategy}: {used.seconds:.1f} s, {used.peak_mib:.0f} MiB", flush=True)
                self.assertLessEqual(used.seconds, 5)
                self.assertLessEqual(used.peak_mib, 300)


if __name__ == "__main__":
    unittest.main()
