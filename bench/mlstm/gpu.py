#!/usr/bin/env python3
"""mLSTM on an NVIDIA GPU: mlx_kd forward, forward and backward, one step, and a copy of the step's state.

    bench/mlstm/gpu.py [--rounds 7] [--calls 10] [--out bench/results/mlstm_gpu_h200.json]

Run it with a Python that has mlx_kd on an MLX with CUDA. bfloat16, 16 heads a sequence, DHQK 128, DHHV 256, at 8
sequences of 8,192 tokens and one of 65,536, exponential and sigmoid input gates; a step of 8 heads of 256 x 512. A
sample queues --calls calls and waits for the last; it is a call's share of the time by the host's clock. The copy reads
and writes as many bytes as the step's memory, in the same way. Default settings, without pins. Forward and backward
gives h and all gradients; its row has the peak of MLX's memory too, over inputs, outputs and the gradients of both.
"""
import argparse
import datetime
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import gpu_machine, rounded, spread, write_result  # noqa: E402

SEQUENCES = ((8, 8192), (1, 65536))


def sample_ms(call, count):
    import mlx.core as mx
    mx.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        mx.async_eval(call())
    mx.synchronize()
    return 1e3 * (time.perf_counter() - start) / count


def sequences(batch, tokens, siging):
    """(forward, forward and backward, bytes of inputs, outputs and their gradients)"""
    import mlx.core as mx
    from mlx_kd import xlstm

    def numbers(*shape, dtype=mx.bfloat16):
        return mx.random.normal(shape).astype(dtype)
    q, k = numbers(batch, 16, tokens, 128), numbers(batch, 16, tokens, 128)
    v = numbers(batch, 16, tokens, 256)
    i, f = numbers(batch, 16, tokens, dtype=mx.float32), 3 + numbers(batch, 16, tokens, dtype=mx.float32)
    given = numbers(batch, 16, tokens, 256)
    arrays = [q, k, v, i, f]
    mx.eval(arrays, given)

    def forward(*arrays):
        return xlstm.mlstm_chunkwise(*arrays, siging=siging)
    return (lambda: forward(*arrays), lambda: sum(mx.vjp(forward, arrays, [given]), []),
            2 * sum(x.nbytes for x in (*arrays, given)))


def step_and_copy():
    import mlx.core as mx
    import mlx_kd
    heads, qk, hv = 8, 256, 512
    q, k, v = (mx.random.normal((1, heads, width)).astype(mx.bfloat16) for width in (qk, qk, hv))
    i, f = mx.random.normal((1, heads)), mx.random.normal((1, heads))
    state = [mx.random.normal((1, heads, qk, hv)), mx.random.normal((1, heads, qk)), mx.zeros((1, heads))]
    memory = [mx.random.normal((heads, qk, hv))]
    mx.eval(q, k, v, i, f, state, memory)

    def step():
        h, *state[:] = mlx_kd.mlstm_step(q, k, v, i, f, *state)
        return [h, *state]

    def copy():
        memory[0] = memory[0] + 1.0
        return memory
    return {"step, 8 heads of 256 x 512": step, "a copy of its memory": copy}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--out")
    args = parser.parse_args()
    import mlx.core as mx
    mx.set_default_device(mx.gpu)
    rows = []

    def measure(what, call, count, known_bytes=None):
        for _ in range(3):
            sample_ms(call, 1)
        rows.append({"what": what, "ms": spread([sample_ms(call, count) for _ in range(args.rounds)])})
        if known_bytes:
            mx.reset_peak_memory()
            sample_ms(call, 1)
            rows[-1]["peak_over_arrays"] = mx.get_peak_memory() / known_bytes
        print(f"{what}: {rows[-1]['ms']['median']:.4g} ms", file=sys.stderr, flush=True)
        write_result(rounded({"date": datetime.date.today().isoformat(), "machine": gpu_machine(), "mlx": mx.__version__,
                              "rounds": args.rounds, "calls": args.calls, "rows": rows}), args.out)
    for batch, tokens in SEQUENCES:
        for siging in (False, True):
            forward, both, known_bytes = sequences(batch, tokens, siging)
            name = f"{batch} x {tokens} tokens{', sigmoid gates' if siging else ''}"
            measure(f"forward, {name}", forward, args.calls)
            measure(f"forward and backward, {name}", both, 2, known_bytes)
    for what, call in step_and_copy().items():
        measure(what, call, 20 * args.calls)


if __name__ == "__main__":
    main()
