"""Cases of mLSTM whose inputs NumPy and MLX make alike, and the numbers that mlstm-kernels' functions give for them.

    python tests/support/mlstm_cases.py

writes tests/python/xlstm/native.json anew; it needs PyTorch and mlstm-kernels, the tests need neither.
"""
import json
import math
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "python" / "xlstm" / "native.json"
# B, NH, S, DHQK, DHHV: the sizes of the package's own tests, and what they leave out.
SIZES = [(1, 2, 256, 64, 128), (1, 2, 256, 16, 32), (1, 2, 256, 32, 32), (1, 2, 256, 64, 64), (1, 2, 256, 128, 128),
         (1, 1, 256, 128, 256), (1, 1, 256, 256, 512), (1, 2, 256, 24, 48), (2, 4, 256, 16, 32), (1, 2, 64, 5, 7)]
LENGTHS = [(65, 32), (93, 64), (7, 16), (500, 64), (128, 32), (65, 64), (1, 16), (400, 128)]  # S, chunk
SAMPLES = 64  # numbers that are kept of a result


def draw(library, count, seed):
    """Numbers of variance 1, from -sqrt(3) to sqrt(3): a hash of their places, whatever the library."""
    x = library.arange(count).astype(library.uint32) * library.array(2654435761).astype(library.uint32)
    x = x + library.array(seed * 40503 % 2 ** 32).astype(library.uint32)
    for shift, factor in ((16, 0x85ebca6b), (13, 0xc2b2ae35), (16, 1)):
        x = (x ^ (x >> shift)) * library.array(factor).astype(library.uint32)
    return ((x >> 8).astype(library.float32) * 2 ** -23 - 1) * library.array(math.sqrt(3)).astype(library.float32)


def inputs(library, size, seed):
    """q, k, v, i, f and the cotangent of h. `library`: numpy or mlx.core."""
    b, nh, s, qk, hv = size
    shapes = [(b, nh, s, qk), (b, nh, s, qk), (b, nh, s, hv), (b, nh, s), (b, nh, s), (b, nh, s, hv)]
    return [draw(library, math.prod(shape), 10 * seed + at).reshape(shape) for at, shape in enumerate(shapes)]


def sampled(flat):
    """Some of the elements of a list, spread over all of them."""
    count = min(SAMPLES, len(flat))
    return [flat[at * (len(flat) - 1) // max(1, count - 1)] for at in range(count)]


def cases():
    for at, size in enumerate(SIZES):
        yield {"kind": "exp", "size": size, "chunk": 64, "seed": at}
        yield {"kind": "siging", "size": size, "chunk": 64, "seed": 100 + at}
        yield {"kind": "siging_plain", "size": size, "chunk": 64, "seed": 200 + at}
    for at, (s, chunk) in enumerate(LENGTHS):
        yield {"kind": "sequence", "size": (1, 2, s, 16, 32), "chunk": chunk, "seed": 300 + at}
    yield {"kind": "states", "size": (2, 4, 256, 16, 32), "chunk": 64, "seed": 42}
    yield {"kind": "gradient", "size": (1, 2, 64, 16, 32), "chunk": 64, "seed": 400}


def _rounded(tensor):
    return [float(f"{x:.7g}") for x in sampled(tensor.detach().reshape(-1).tolist())]


def _made(case):
    import numpy
    import torch
    from mlstm_kernels.torch.chunkwise.native import mlstm_chunkwise__native_autograd
    from mlstm_kernels.torch.parallel.native_siging.fwbw import mlstm_siging_parallel__native_autograd
    from mlstm_kernels.torch.recurrent.native_sequence import mlstm_recurrent_sequence__native_fw
    *five, dh = [torch.from_numpy(x) for x in inputs(numpy, case["size"], case["seed"])]
    if case["kind"] == "exp":
        return {"h": mlstm_chunkwise__native_autograd(*five, chunk_size=case["chunk"])}
    if case["kind"].startswith("siging"):
        return {"h": mlstm_siging_parallel__native_autograd(*five, normalize=case["kind"] == "siging")}
    if case["kind"] in ("sequence", "states"):
        h, (c, n, m) = mlstm_recurrent_sequence__native_fw(*five, return_last_states=True)
        return {"h": h, "c": c, "n": n, "m": m}
    five, dh = [x.double().requires_grad_() for x in five], dh.double()
    (mlstm_chunkwise__native_autograd(*five, chunk_size=case["chunk"]) * dh).sum().backward()
    return {f"d{name}": x.grad for name, x in zip("qkvif", five)}


def main():
    made = []
    for case in cases():
        numbers = {name: _rounded(x) for name, x in _made(case).items()}
        made.append({**case, "numbers": numbers})
    FILE.write_text("[\n" + ",\n".join(json.dumps(each) for each in made) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
