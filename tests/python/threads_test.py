"""Operators, caches and frames from eight threads at once, each with its own stream."""
import sys
import sysconfig
import threading
import time
import unittest
from pathlib import Path

from tests.support.package import PackageTest
from tests.support import mlx_lm_models as models

import mlx.core as mx

import mlx_kd
import mlx_kd.cache as caches
import mlx_kd.wire as wire

THREADS = 8


def ended(native_ids, folder=Path("/proc/self/task")):
    """Waits for the system's threads too: what MLX keeps of a thread is taken apart after Python's join, and an
    interpreter that ends meanwhile aborts."""
    for one in native_ids if folder.is_dir() else ():
        for _ in range(1000):
            if not (folder / str(one)).exists():
                break
            time.sleep(0.002)


def together(function):
    """The results of all threads, which begin at once; the first error is raised here."""
    begin, results, errors = threading.Barrier(THREADS), [None] * THREADS, []

    def work(number):
        try:
            begin.wait()
            with mlx_kd.own_stream():
                results[number] = function(number)
        except BaseException as error:  # noqa: B036
            errors.append(error)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended(thread.native_id for thread in threads)
    if errors:
        raise errors[0]
    return results


class Threads(PackageTest):
    def test_a_thread_has_one_stream_and_no_other_has_it(self):
        def stream(_):
            with mlx_kd.own_stream() as one:
                pass
            with mlx_kd.own_stream() as other:
                same = str(one) == str(other)
                return same, (mx.ones(4) + 1).tolist()
        for same, values in together(stream):
            self.assertTrue(same)
            self.assertEqual(values, [2.0] * 4)
        twice = mlx_kd.own_stream()
        with twice, self.assertRaisesRegex(ValueError, "entered already"):
            twice.__enter__()

    def test_each_thread_decodes_with_its_own_cache(self):
        model = models.make("llama", dtype=mx.float32)
        kinds = ["contiguous", "quantized", "rotating", "quantized-rotating", "paged", "quantized-paged"]

        def decode(number):
            cache = caches.make(model, kinds[number % len(kinds)], group_size=32, max_size=64)
            logits = models.decode(model, cache=cache)
            received = wire.unpack(wire.pack(cache)).cache
            after = model(mx.array([[9]]), cache=received)
            mx.eval(logits, after)
            return logits.tolist(), after.tolist()
        wanted = [decode(number) for number in range(THREADS)]
        self.assertEqual(together(decode), wanted)

    def test_each_thread_compiles_and_runs_its_own_functions(self):
        compiled = [mx.compile(lambda x, k=k: mx.tanh(x) * k + 1) for k in range(THREADS)]
        x = [[0.25 * k] * 8 for k in range(THREADS)]

        def run(number):
            results = [compiled[number](mx.array(x[number])) for _ in range(20)]
            results.append(mlx_kd.rmsnorm(mx.array(x[number]) + 1, mx.ones(8), 1e-5))
            mx.eval(results)
            return [r.tolist() for r in results[-2:]]
        wanted = [run(number) for number in range(THREADS)]
        for got, expected in zip(together(run), wanted):
            self.assertTrue(mx.allclose(mx.array(got), mx.array(expected)).item())

    @unittest.skipUnless(sysconfig.get_config_var("Py_GIL_DISABLED"), "this Python has the interpreter's lock: build "
                         "and run these tests with a python3.13t or 3.14t (free_threaded_test.py does, with --long)")
    def test_importing_does_not_switch_the_interpreters_lock_on(self):
        self.assertFalse(sys._is_gil_enabled())


if __name__ == "__main__":
    unittest.main()
