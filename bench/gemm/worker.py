"""One side of run.py: makes the matrices of a case and times their product, as lines of JSON ask."""
import json
import os
import sys
import time

WARM_MS = 100  # a call that takes less is made once more before those that are timed
PAUSE = 0.02  # seconds after which the threads of the side before have ceased to wait for work
LEAST_MS = 2  # of calls that are timed together
CORES = len(os.sched_getaffinity(0))


class InMlx:
    def __init__(self, kernels):
        import mlx.core as mx
        self.mx, self.kernels = mx, kernels
        mx.set_default_device(mx.cpu)
        self.version = mx.__version__
        if kernels:
            import mlx_kd
            mlx_kd.configure(default_kernels=["matmul"], wait_for_compile=True)
            self.matmul, self.version = mlx_kd.matmul, mlx_kd.__version__

    def make(self, dtype, batch, m, n, k, transposed, **_):
        mx = self.mx
        left, right = (flag == "t" for flag in transposed)
        lead = (batch,) if batch > 1 else ()
        make = lambda rows, columns, swap: mx.random.normal(  # noqa: E731
            (*lead, columns, rows) if swap else (*lead, rows, columns)).astype(getattr(mx, dtype))
        a, b = make(m, k, left), make(k, n, right)
        mx.eval(a, b)
        if self.kernels:
            return lambda: mx.eval(self.matmul(a, b, transpose_a=int(left), transpose_b=int(right)))
        turn = lambda x, swap: mx.swapaxes(x, -1, -2) if swap else x  # noqa: E731
        return lambda: mx.eval(mx.matmul(turn(a, left), turn(b, right)))


class InTorch:
    def __init__(self):
        import torch
        self.torch = torch
        torch.set_num_threads(CORES)
        self.version = torch.__version__

    def make(self, dtype, batch, m, n, k, transposed, **_):
        torch = self.torch
        left, right = (flag == "t" for flag in transposed)
        lead = (batch,) if batch > 1 else ()
        make = lambda rows, columns, swap: torch.randn(  # noqa: E731
            (*lead, columns, rows) if swap else (*lead, rows, columns)).to(getattr(torch, dtype))
        turn = lambda x, swap: x.transpose(-1, -2) if swap else x  # noqa: E731
        a, b = turn(make(m, k, left), left), turn(make(k, n, right), right)
        return lambda: torch.matmul(a, b)


def timed(call, repeats=1):
    """The ms of a call."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return 1e3 * (time.perf_counter() - start) / repeats


def main():
    side = InTorch() if sys.argv[1] == "PyTorch" else InMlx(sys.argv[1] == "mlx_kd")
    call = None
    for line in sys.stdin:
        question = json.loads(line)
        do = question.pop("do")
        if do == "make":
            call = side.make(**question)
            first = timed(call)  # compiles, and starts threads
            answer = first if first > 3000 else timed(call)
        elif do == "time":
            time.sleep(PAUSE)
            if answer < WARM_MS:
                call()
            answer = timed(call, max(1, round(LEAST_MS / max(answer, 0.01))))
        else:
            answer = side.version
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
