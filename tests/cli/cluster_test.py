"""kd run as ranks of a cluster, on the null device: MLX's ring on this machine, and Open MPI where it is installed.

Each scenario is a run of its own; they go on side by side, since ranks mostly wait. MLX_KD_LONG adds what takes
longer: a stopped rank, which is given up after 20 s, and machines of two kinds.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KD = os.environ["MLX_KD_PROGRAM"]
LONG = bool(os.environ.get("MLX_KD_LONG"))
LIMIT_S = 120
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
LAUNCHERS = ("MLX_RANK", "MLX_HOSTFILE", "MLX_MPI_LIBNAME", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def command(out, budget, *options, op="rmsnorm", device="null", seed=7):
    return [KD, "run", "--op", op, "--device", device, "--budget", str(budget), "--seed", str(seed), "--batch", "4",
            "--out", str(out), "--quiet", *options]


class Ranks:
    """Ranks of a ring, started as mlx.launch starts them."""

    def __init__(self, folder, commands, hosts=None, environment=()):
        folder.mkdir(exist_ok=True)
        hosts = hosts or [[f"127.0.0.1:{port}"] for port in free_ports(len(commands))]
        (folder / "hosts.json").write_text(json.dumps(hosts))
        self.logs, self.processes = [], []
        for rank, one in enumerate(commands):
            env = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
            env.update(MLX_RANK=str(rank), MLX_HOSTFILE=str(folder / "hosts.json"), **dict(environment))
            self.logs.append(folder / f"rank{rank}.log")
            with open(self.logs[-1], "w") as log:
                self.processes.append(subprocess.Popen(one, env=env, stdout=log, stderr=log))

    def wait(self):
        try:
            codes = [one.wait(LIMIT_S) for one in self.processes]
        finally:
            for one in self.processes:
                if one.poll() is None:
                    one.kill()
                    one.wait()
        return codes, [log.read_text() for log in self.logs]


def records(run):
    lines = [json.loads(line) for line in (run / "run.ndjson").read_text().splitlines()]
    return [line for line in lines if line["event"] in ("evaluation", "failure")]


def rank_runs(out):
    return sorted((out / "ranks").iterdir(), key=lambda one: int(one.name.split("-")[0]))


class Cluster(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="kd_cluster_", ignore_cleanup_errors=True)
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)

    def test_all_scenarios(self):
        names = [name for name in dir(self) if name.startswith("scenario_")]
        if LONG:
            names += [name for name in dir(self) if name.startswith("long_scenario_")]
        with ThreadPoolExecutor(4) as pool:
            futures = {name: pool.submit(getattr(self, name), self.folder / name) for name in names}
        for name, future in futures.items():
            with self.subTest(name):
                future.result()

    def check_whole(self, out, budget, ranks):
        """All of the budget, nothing twice, and all that a finished run has."""
        found = records(out)
        self.assertEqual(len(found), budget)
        self.assertEqual(len({one["candidate_id"] for one in found}), budget)
        self.assertEqual([one["step"] for one in found], list(range(budget)))
        finished = json.loads((out / "finished.json").read_text())
        self.assertEqual(finished["ranks"], ranks)
        self.assertEqual(finished["devices"][0]["evaluated"], budget)
        self.assertEqual(len(json.loads((out / "best_kernels.json").read_text())["entries"]), 4)
        self.assertTrue((out / "report.html").exists())

    def scenario_four_ranks_share_a_run(self, folder):
        out = folder / "run"
        codes, logs = Ranks(folder, 4 * [command(out, 33)]).wait()
        self.assertEqual(codes, [0, 0, 0, 0], logs)
        self.check_whole(out, 33, 4)
        runs = rank_runs(out)
        self.assertEqual([one.name.split("-")[0] for one in runs], ["0", "1", "2", "3"])
        own = [records(one) for one in runs]
        self.assertEqual({one[0]["candidate_id"] for one in own}, {records(out)[0]["candidate_id"]}, "the anchor")
        self.assertEqual([len(one) for one in own], [9, 9, 9, 9])
        for name in ("best_kernels.json", "finished.json", "report.html", "report.md"):  # rank 0's, once
            self.assertEqual(list(out.rglob(name)), [out / name])
        self.assertIn("speed-up", logs[0])
        self.assertEqual(logs[1:], ["", "", ""])
        # Records say who measured them, and each has its source.
        self.assertEqual({one["notes"]["rank"] for one in records(out)}, {0, 1, 2, 3})
        shown = subprocess.run([KD, "report", "--run", out], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(shown.returncode, 0, shown.stderr)

    def scenario_a_killed_rank_ends_the_run_and_others_go_on_with_it(self, folder):
        out = folder / "run"
        ranks = Ranks(folder, 4 * [command(out, 4000)])
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if out.is_dir() and (out / "ranks").is_dir() and len(rank_runs(out)) == 4:
                logs = [one / "run.ndjson" for one in rank_runs(out)]
                if all(one.exists() and one.read_bytes().count(b"\n") > 8 for one in logs):
                    break
            time.sleep(0.05)
        ranks.processes[2].kill()
        codes, logs = ranks.wait()
        self.assertEqual(codes[2], -signal.SIGKILL)
        for rank in (0, 1, 3):
            self.assertEqual(codes[rank], 1, logs)
            self.assertRegex(logs[rank], r"rank 2 on \S+ is lost.*--resume")
        self.assertFalse((out / "finished.json").exists())
        self.assertTrue((out / "report.md").exists())
        kept = {one["candidate_id"] for run in rank_runs(out) for one in records(run)}
        self.assertGreater(len(kept), 4)
        budget = len(kept) + 6
        codes, logs = Ranks(folder, 2 * [command(out, budget, "--resume")]).wait()
        self.assertEqual(codes, [0, 0], logs)
        self.check_whole(out, budget, 2)
        self.assertLessEqual(kept, {one["candidate_id"] for one in records(out)})
        # One process alone goes on too.
        alone = subprocess.run(command(out, budget + 3, "--resume"), capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(alone.returncode, 0, alone.stderr)
        self.check_whole(out, budget + 3, 1)

    def scenario_ctrl_c_on_one_rank_ends_the_run_for_all(self, folder):
        out = folder / "run"
        ranks = Ranks(folder, 2 * [command(out, 4000)])
        deadline = time.monotonic() + LIMIT_S
        while not (out / "run.ndjson").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        ranks.processes[1].send_signal(signal.SIGINT)
        codes, logs = ranks.wait()
        self.assertEqual(codes, [130, 130], logs)
        self.assertIn("--resume", logs[0])
        self.assertFalse((out / "finished.json").exists())

    def scenario_ranks_that_differ_are_named(self, folder):
        codes, logs = Ranks(folder, [command(folder / "run", 33), command(folder / "run", 33, "--resume", seed=8),
                                     command(folder / "run", 33)]).wait()
        self.assertEqual(codes, [2, 2, 2], logs)
        self.assertRegex(logs[0], r"rank 0 on \S+ and rank 1 on \S+ differ in --resume \('not given' and 'given'\), "
                                  r"seed \('7' and '8'\)")
        self.assertEqual(logs[1:], ["", ""])
        self.assertFalse((folder / "run").exists())

    def scenario_an_error_of_one_rank_is_reported_once(self, folder):
        out = folder / "run"
        codes, logs = Ranks(folder, [command(out, 33), command(out, 33, op="no_such_op")]).wait()
        self.assertEqual(codes, [2, 2], logs)
        self.assertEqual(logs[0], "")
        self.assertRegex(logs[1], r"no_such_op.*\(rank 1 on \S+\)")

    def scenario_more_ranks_than_work_are_refused(self, folder):
        codes, logs = Ranks(folder, 3 * [command(folder / "run", 2)]).wait()
        self.assertEqual(codes, [2, 2, 2], logs)
        self.assertIn("3 ranks share a budget of 2", logs[0])
        self.assertFalse((folder / "run").exists())

    def scenario_a_folder_that_holds_a_run_is_refused_once(self, folder):
        out = folder / "run"
        folder.mkdir()
        subprocess.run(command(out, 5), capture_output=True, check=True, timeout=LIMIT_S)
        codes, logs = Ranks(folder, 2 * [command(out, 33)]).wait()
        self.assertEqual(codes, [2, 2], logs)
        self.assertIn("--resume", logs[0])
        self.assertEqual(logs[1], "")

    def scenario_a_wrong_size_is_refused(self, folder):
        folder.mkdir()
        (folder / "hosts.json").write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(2)]))
        env = dict(os.environ, MLX_RANK="2", MLX_HOSTFILE=str(folder / "hosts.json"))
        done = subprocess.run(command(folder / "run", 5), env=env, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 2)
        self.assertIn("has hosts for 2", done.stderr)

    def scenario_a_port_that_is_taken_is_named(self, folder):
        folder.mkdir()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            (folder / "hosts.json").write_text(json.dumps([[f"127.0.0.1:{port}"], [f"127.0.0.1:{free_ports(1)[0]}"]]))
            env = dict(os.environ, MLX_RANK="0", MLX_HOSTFILE=str(folder / "hosts.json"))
            done = subprocess.run(command(folder / "run", 5), env=env, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, rf"port {port} of 127.0.0.1.*is taken.*--starting-port")

    def scenario_mpirun_inside_mlx_launch_is_refused(self, folder):
        env = dict(os.environ, MLX_RANK="0", MLX_HOSTFILE="hosts.json", OMPI_COMM_WORLD_SIZE="4")
        done = subprocess.run(command(folder / "run", 5), env=env, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 2)
        self.assertIn("use one of them", done.stderr)

    def scenario_a_library_of_open_mpi_that_is_missing_is_not_four_runs(self, folder):
        env = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
        env.update(OMPI_COMM_WORLD_SIZE="4", OMPI_COMM_WORLD_RANK="1", MLX_MPI_LIBNAME="libno_such_mpi.so")
        done = subprocess.run(command(folder / "run", 5), env=env, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("do not form a group", done.stderr)
        self.assertFalse((folder / "run").exists())

    def scenario_hosts_that_name_one_place_twice_are_refused(self, folder):
        port = free_ports(1)[0]
        ranks = Ranks(folder, 2 * [command(folder / "run", 33)], 2 * [[f"127.0.0.1:{port}"]])
        codes, logs = ranks.wait()
        self.assertEqual(codes, [2, 2], logs)
        self.assertIn(f"ranks 0 and 1 are both to listen at 127.0.0.1:{port}", logs[0])
        self.assertFalse((folder / "run").exists())

    def scenario_several_ranks_on_one_machine_are_told_of(self, folder):
        loud = [word for word in command(folder / "run", 5) if word != "--quiet"]
        codes, logs = Ranks(folder, 2 * [loud]).wait()
        self.assertEqual(codes, [0, 0], logs)
        self.assertEqual(logs[0].count("2 ranks are on one machine"), 1)

    def scenario_ranks_of_other_sizes_and_types_are_named(self, folder):
        codes, logs = Ranks(folder, [command(folder / "run", 33, "--dtype", "float32"),
                                     command(folder / "run", 33, "--dtype", "bfloat16", op="swiglu")]).wait()
        self.assertEqual(codes, [2, 2], logs)
        for what in (r"operator \('rmsnorm' and 'swiglu'\)", r"type \('float32' and 'bfloat16'\)", r"sizes \('rows="):
            self.assertRegex(logs[0], what)
        self.assertFalse((folder / "run").exists())

    def scenario_open_mpi(self, folder):
        started = self.start_mpirun(folder, 4, 33)
        if not started:
            print("skipped: ranks of Open MPI: apt install openmpi-bin")
            return
        _, errors = started.communicate(timeout=LIMIT_S)
        self.assertEqual(started.returncode, 0, errors)
        self.check_whole(folder / "run", 33, 4)

    def start_mpirun(self, folder, ranks, *arguments):
        """None where Open MPI is not installed."""
        mpirun = shutil.which("mpirun")
        version = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout if mpirun else ""
        if "Open MPI" not in version and "OpenRTE" not in version:
            return None
        env = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
        return subprocess.Popen([mpirun, "-n", str(ranks), "--oversubscribe", *command(folder / "run", *arguments)],
                                env=dict(env, **MPI), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def scenario_mlx_launch(self, folder):
        launch = Path(os.environ["MLX_KD_MLX_DIR"]).resolve().parents[3] / "bin" / "mlx.launch"
        if not launch.exists():
            print(f"skipped: mlx.launch is not beside this MLX ({launch})")
            return
        ports = free_ports(1)[0]
        done = subprocess.run([launch, "-n", "2", "--backend", "ring", "--starting-port", str(ports), "--",
                               *command(folder / "run", 33)], stdin=subprocess.PIPE, capture_output=True, text=True,
                              timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check_whole(folder / "run", 33, 2)

    def long_scenario_a_stopped_rank_ends_the_run_within_30_s(self, folder):
        out = folder / "run"
        ranks = Ranks(folder, 3 * [command(out, 4000)])
        while not (out / "run.ndjson").exists():
            time.sleep(0.05)
        ranks.processes[1].send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        codes, logs = ranks.wait()
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(codes, [1, -signal.SIGKILL, 1], logs)
        self.assertRegex(logs[0], r"rank 1 on \S+ is lost: it has not been heard of for 20.0 s")

    def long_scenario_rank_0_killed_or_stopped_ends_the_run(self, folder):
        folder.mkdir()
        for sent in (signal.SIGKILL, signal.SIGSTOP):
            with self.subTest(sent):
                own = folder / sent.name
                ranks = Ranks(own, 3 * [command(own / "run", 4000)])
                log = own / "run" / "run.ndjson"
                while not log.exists() or log.read_bytes().count(b"\n") < 9:
                    time.sleep(0.05)
                ranks.processes[0].send_signal(sent)
                begin = time.monotonic()
                codes = [one.wait(LIMIT_S) for one in ranks.processes[1:]]
                self.assertLess(time.monotonic() - begin, 30)
                ranks.processes[0].kill()
                _, logs = ranks.wait()
                self.assertEqual(codes, [1, 1], logs)
                for text in logs[1:]:
                    self.assertRegex(text, r"rank 0 on \S+ is lost.*--resume")
                kept = {one["candidate_id"] for run in rank_runs(own / "run") for one in records(run)}
                codes, logs = Ranks(own, 2 * [command(own / "run", len(kept) + 6, "--resume")]).wait()
                self.assertEqual(codes, [0, 0], logs)
                self.check_whole(own / "run", len(kept) + 6, 2)

    def long_scenario_ranks_of_one_machine_measure_in_turns(self, folder):
        # A rank that held its turn from its report to the meeting would keep another from ever reporting.
        out = folder / "run"
        codes, logs = Ranks(folder, 3 * [command(out, 9, "--shapes", "rows=4,D=64", device="cpu")]).wait()
        self.assertEqual(codes, [0, 0, 0], logs)
        self.assertEqual(len(records(out)), 9)
        self.assertTrue((out / "finished.json").exists())

    def long_scenario_a_killed_or_stopped_rank_of_open_mpi_ends_the_run(self, folder):
        folder.mkdir()
        for number, sent in enumerate((signal.SIGKILL, signal.SIGSTOP)):
            with self.subTest(sent):
                own = folder / str(number)
                started = self.start_mpirun(own, 3, 4000)
                if not started:
                    return
                log = own / "run" / "run.ndjson"
                while (not log.exists() or log.read_bytes().count(b"\n") < 33) and started.poll() is None:
                    time.sleep(0.05)
                children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
                os.kill(int(children[-1]), sent)
                begin = time.monotonic()
                _, errors = started.communicate(timeout=LIMIT_S)
                self.assertLess(time.monotonic() - begin, 40)
                self.assertNotEqual(started.returncode, 0, errors)
                self.assertFalse((own / "run" / "finished.json").exists())
                kept = {one["candidate_id"] for run in rank_runs(own / "run") for one in records(run)}
                resumed = self.start_mpirun(own, 2, len(kept) + 6, "--resume")
                _, errors = resumed.communicate(timeout=LIMIT_S)
                self.assertEqual(resumed.returncode, 0, errors)
                self.check_whole(own / "run", len(kept) + 6, 2)

    def long_scenario_machines_of_two_kinds_have_an_entry_each(self, folder):
        out = folder / "run"
        sizes = ("--shapes", "rows=4,D=64")
        codes, logs = Ranks(folder, [command(out, 4, *sizes, "--times", "null", device=device)
                                     for device in ("null", "cpu")]).wait()
        self.assertEqual(codes, [0, 0], logs)
        finished = json.loads((out / "finished.json").read_text())
        self.assertEqual([one["ranks"] for one in finished["devices"]], [[0], [1]])
        self.assertEqual([one["evaluated"] for one in finished["devices"]], [4, 4])
        self.assertEqual(len(json.loads((out / "best_kernels.json").read_text())["entries"]),
                         sum(one["winners"] for one in finished["devices"]))
        folders = list((out / "devices").iterdir())
        self.assertEqual(len(folders), 1)
        self.assertEqual(len(records(folders[0])), 4)
        self.assertIn("On the device", logs[0])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
