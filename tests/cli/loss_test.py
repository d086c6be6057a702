"""Disks that fail, kills at any moment and clocks that jump cost a message: what was written goes on as if nothing
had happened."""
import errno
import itertools
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]
LONG = "MLX_KD_LONG" in os.environ
ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOLCK]
BUDGET = 4


def kd(*arguments, **fault):
    """The finished process. fault: at, errno, when, clock, folder, calls, as tests/support/fault_files.cpp says."""
    environment = dict(os.environ)
    if fault:
        environment["LD_PRELOAD"] = os.environ["MLX_KD_FAULT_FILES"]
        environment.update({f"FAULT_{name.upper()}": str(value) for name, value in fault.items()})
    return subprocess.run([KD, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=environment,
                          check=False)


def run(out, *more, **fault):
    return kd("run", "--op", "rmsnorm", "--device", "null", "--shapes", "rows=4,D=64", "--budget", BUDGET, "--out", out,
              "--quiet", *more, **fault)


def walk(folder):
    """What was tried, in order, without the clock."""
    records = [json.loads(line) for line in (folder / "run.ndjson").read_text().splitlines()]
    return [(record["event"], record.get("candidate_id"), record.get("objective")) for record in records]


@unittest.skipIf(os.environ.get("MLX_KD_SANITIZE"), "a sanitizer has to be loaded first")
class Loss(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        temp = tempfile.TemporaryDirectory(prefix="kd_loss_")
        cls.addClassCleanup(temp.cleanup)
        cls.folder = Path(temp.name).resolve()
        cls.whole = cls.folder / "whole"
        calls = cls.folder / "calls"
        assert run(cls.whole, folder=cls.whole, at=0, calls=calls).returncode == 0
        cls.calls = calls.read_text().split()
        assert cls.calls.count("fdatasync") > BUDGET and "rename" in cls.calls, cls.calls
        cls.winners = (cls.whole / "best_kernels.json").read_bytes()

    def resumed(self, out, case):
        """Whether the run goes on to the bytes of one that nothing happened to."""
        done = run(out, "--resume")
        self.assertEqual(done.returncode, 0, f"{case}: {done.stderr}")
        self.assertEqual((out / "best_kernels.json").read_bytes(), self.winners, case)
        self.assertEqual(walk(out), walk(self.whole), case)
        self.assertEqual([path.name for path in out.iterdir() if path.suffix not in (".json", ".ndjson", ".md", ".html",
                                                                                     ".lock")], [], case)

    def everywhere(self, cases, check):
        """In two threads, each case in a folder of its own."""
        def one(numbered):
            number, case = numbered
            check(self.folder / f"{self._testMethodName}{number}", *case)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(one, enumerate(cases)))

    def test_a_call_that_fails_ends_the_run_with_its_reason(self):
        places = range(1, len(self.calls) + 1)
        cases = [(at, ERRORS[at % len(ERRORS)]) for at in places]
        if LONG:
            cases = list(itertools.product(places, ERRORS))

        def check(out, at, code):
            done = run(out, folder=out, at=at, errno=code)
            case = f"{self.calls[at - 1]} number {at} with {errno.errorcode[code]}"
            self.assertIn(done.returncode, (0, 1, 2), f"{case}: {done.stderr}")
            if done.returncode:
                self.assertIn(os.strerror(code), done.stderr, case)
                self.assertRegex(done.stderr.splitlines()[-1], r"^\[[a-z]+\] .+", case)
            self.resumed(out, case)
        self.everywhere(cases, check)

    def test_a_call_that_fails_after_it_was_done_costs_nothing(self):
        """So does a server that answers a repeated rename or lock with an error."""
        cases = [(at,) for at, name in enumerate(self.calls, 1) if name in ("rename", "flock", "mkdir", "unlink")]

        def check(out, at):
            run(out, folder=out, at=at, errno=errno.ESTALE, when="after")
            self.resumed(out, f"{self.calls[at - 1]} number {at}")
        self.everywhere(cases, check)

    def test_a_kill_at_a_write_loses_nothing(self):
        places = range(1, len(self.calls) + 1)
        cases = list(itertools.product(places, ("before", "half", "after")))
        if not LONG:
            cases = random.Random(0).sample(cases, 30)

        def check(out, at, when):
            done = run(out, folder=out, at=at, when=when)
            self.assertEqual(done.returncode, -signal.SIGKILL)
            self.resumed(out, f"killed {when} {self.calls[at - 1]} number {at}")
        self.everywhere(cases, check)

    def test_kills_one_after_another_lose_nothing(self):
        """Each of the runs that go on is killed as well: 1,000 times with MLX_KD_LONG."""
        def check(out, seed):
            generator = random.Random(seed)
            for _ in range(10):
                first = not (out / "run_meta.json").exists()
                done = run(out, *([] if first else ["--resume"]), folder=out, at=generator.randint(1, 12),
                           when=generator.choice(("before", "half", "after")))
                if done.returncode == 0:
                    break
                self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
            self.resumed(out, f"seed {seed}")
        self.everywhere([(seed,) for seed in range(100 if LONG else 2)], check)

    @unittest.skipUnless(LONG, "takes minutes: set MLX_KD_LONG=1")
    def test_kills_of_a_run_on_the_cpu_lose_no_record(self):
        """Fifty, at any time. What was flushed stays, nothing is measured twice, and choosing again from the finished
        log gives the same bytes."""
        out = self.folder / "cpu"
        command = [KD, "run", "--op", "rmsnorm", "--budget", "60", "--out", out, "--quiet", "--finalists", "1", "--shapes",
                   "rows=1,D=64", "--resume"]
        generator, before = random.Random(0), []
        for _ in range(50):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)
            try:
                process.wait(generator.uniform(0.3, 3))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log = out / "run.ndjson"
            text = log.read_text() if log.exists() else ""
            lines = text[:text.rfind("\n") + 1].splitlines()
            self.assertEqual(lines[:len(before)], before)
            before = lines
        self.assertEqual(subprocess.run(command, capture_output=True, check=False).returncode, 0)
        tried = [one[1] for one in walk(out) if one[0] != "finish"]
        self.assertEqual(len(tried), 60)
        self.assertEqual(len(set(tried)), 60)
        winners = (out / "best_kernels.json").read_bytes()
        (out / "best_kernels.json").unlink()
        log = (out / "run.ndjson").read_bytes()
        self.assertEqual(subprocess.run(command, capture_output=True, check=False).returncode, 0)
        self.assertEqual((out / "best_kernels.json").read_bytes(), winners)
        self.assertEqual((out / "run.ndjson").read_bytes(), log)

    def test_a_clock_that_jumps_changes_nothing(self):
        out = self.folder / "clock"
        done = run(out, folder=out, at=0, clock=86400)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((out / "best_kernels.json").read_bytes(), self.winners)

    def test_a_directory_serves_one_run_at_a_time(self):
        out = self.folder / "shared"
        with ThreadPoolExecutor(4) as threads:
            done = list(threads.map(lambda _: run(out), range(4)))
        self.assertEqual(sorted(one.returncode for one in done), [0, 2, 2, 2])
        for one in done:
            self.assertTrue(one.returncode == 0 or "run in progress" in one.stderr or "holds a run" in one.stderr,
                            one.stderr)
        self.resumed(out, "shared")

    def test_a_pack_is_old_or_new_whatever_fails(self):
        pack = self.folder / "packs" / "pins.json"
        pack.parent.mkdir()
        pins = json.loads((Path(os.environ["MLX_KD_SOURCE_DIR"]) / "packs" / "x86_64-amd-epyc.json").read_text())
        runs = [self.folder / "half.json", self.folder / "all.json"]
        runs[0].write_text(json.dumps({**pins, "entries": pins["entries"][:4]}))
        runs[1].write_text(json.dumps({**pins, "entries": pins["entries"][:8]}))
        self.assertEqual(kd("install", "--run", runs[1], "--output", pack).returncode, 0)
        new = pack.read_bytes()
        pack.unlink()
        self.assertEqual(kd("install", "--run", runs[0], "--output", pack).returncode, 0)
        old = pack.read_bytes()
        calls = self.folder / "install_calls"
        kd("pack", "--runs", *runs, "--out", pack, folder=pack.parent, at=0, calls=calls)
        self.assertEqual(pack.read_bytes(), new)
        for at, _ in enumerate(calls.read_text().split(), 1):
            for verb in (("install", "--run", runs[1], "--output"), ("pack", "--runs", *runs, "--out")):
                for fault in ({"errno": ERRORS[at % 6]}, {"when": "before"}, {"when": "half"}, {"when": "after"}):
                    pack.write_bytes(old)
                    done = kd(*verb, pack, folder=pack.parent, at=at, **fault)
                    self.assertIn(done.returncode, (0, 1, 2, -signal.SIGKILL), done.stderr)
                    self.assertIn(pack.read_bytes(), (old, new), (verb[0], at, fault))

    def test_readers_see_whole_packs_while_others_install(self):
        pack = self.folder / "readers.json"
        source = Path(os.environ["MLX_KD_SOURCE_DIR"]) / "packs" / "x86_64-amd-epyc.json"
        self.assertEqual(kd("install", "--run", source, "--output", pack).returncode, 0)
        over = threading.Event()

        def read():
            count = 0
            while not over.is_set():
                self.assertEqual(len(json.loads(pack.read_text())["entries"]), 105)
                count += 1
                time.sleep(0.01)
            return count
        with ThreadPoolExecutor(3) as threads:
            reader = threads.submit(read)
            shown = threads.submit(lambda: [kd("show", pack).returncode for _ in range(5)])
            for _ in range(5):
                self.assertEqual(kd("install", "--run", source, "--output", pack).returncode, 0)
            self.assertEqual(shown.result(), [0] * 5)
            over.set()
            self.assertGreater(reader.result(), 5)


if __name__ == "__main__":
    unittest.main()
