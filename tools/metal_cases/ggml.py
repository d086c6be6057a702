"""Kernels of ggml-metal.metal, held against NumPy; quantised blocks against the package gguf, where it is installed."""
import struct

import numpy as np

FILE = "src/ggml-metal/ggml-metal.metal"
INCLUDES = (".", "src", "src/ggml-metal")
random = np.random.default_rng(0)
UNARY = 1200  # the first function constants of groups of kernels (ggml-metal-impl.h)
SUM_ROWS = 1400
MUL_MV = 600
BIN = 1300


def normal(*shape, dtype=np.float32):
    return random.standard_normal(shape).astype(dtype)


def struct_of(code, *values):
    """As C lays them out."""
    return np.frombuffer(struct.pack("@" + code, *values), np.uint8)


def strides(shape, size=4):
    """Extents, fastest first, and strides in bytes, as ggml counts them."""
    extents = list(reversed(shape)) + [1] * (4 - len(shape))
    bytes_ = [size]
    for extent in extents[:3]:
        bytes_.append(bytes_[-1] * extent)
    return extents, bytes_


def both(shape, size=4):
    extents, bytes_ = strides(shape, size)
    return [*extents, *bytes_]


def wide(function, *arrays):
    return function(*[one.astype(np.float64) for one in arrays]).astype(arrays[0].dtype)


def unary(Case):
    functions = {13: np.square, 14: lambda x: np.sqrt(np.abs(x)), 15: np.sin, 16: np.cos, 100: np.tanh,
                 101: lambda x: np.maximum(x, 0), 102: lambda x: 1 / (1 + np.exp(-x)),
                 103: lambda x: 0.5 * x * (1 + np.tanh(0.79788456080286535587989211986876 * x * (1 + 0.044715 * x * x))),
                 105: lambda x: x / (1 + np.exp(-1.702 * x)), 106: lambda x: x / (1 + np.exp(-x)), 108: np.negative,
                 109: np.abs, 114: np.exp, 117: np.floor, 118: np.ceil}
    for number, function in functions.items():
        for kind, dtype, near in (("f32", np.float32, 2e-5), ("f16", np.float16, 3e-3)):
            if kind == "f16" and number not in (106, 114):
                continue
            x = np.abs(normal(600, dtype=dtype)) if number == 14 else normal(600, dtype=dtype)
            args = struct_of("4i4Q4i4Q6f", *both((600,), x.itemsize), *both((600,), x.itemsize), 0, 1, 0, 0, 0, 0)
            yield Case(f"kernel_unary_{kind}_{kind}", FILE, (600,), (1,), {"args": args, "src0": x},
                       {"dst": wide(function, x)}, near, {UNARY: number, UNARY + 1: "true"}, includes=INCLUDES)


def pairs(Case):
    functions = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    x, y = normal(5, 64), normal(5, 64) + 3
    for number, function in enumerate(functions.values()):
        args = struct_of("4i4Q4i4Q4i4QQ8Q", *both((5, 64)), *both((5, 64)), *both((5, 64)), 0, *[0] * 8)
        yield Case("kernel_bin_fuse_f32_f32_f32", FILE, (5 * 64, 1, 1), (64, 1, 1), {"args": args, "src0": x, "src1": y},
                   {"dst": wide(function, x, y)}, 1e-5,
                   {BIN: number, BIN + 1: 1, BIN + 2: "false", BIN + 3: "false"}, includes=INCLUDES)
    gates = {"swiglu": lambda a, b: a / (1 + np.exp(-a)) * b, "reglu": lambda a, b: np.maximum(a, 0) * b,
             "geglu": lambda a, b: 0.5 * a * (1 + np.tanh(0.79788456080286536 * a * (1 + 0.044715 * a * a))) * b,
             "geglu_quick": lambda a, b: a / (1 + np.exp(-1.702 * a)) * b}
    for name, function in gates.items():
        for kind, dtype, near in (("f32", np.float32, 2e-5), ("f16", np.float16, 3e-3)):
            a, b = normal(3, 100, dtype=dtype), normal(3, 100, dtype=dtype)
            row = 100 * a.itemsize
            args = struct_of("iQiQiQii2f", 100, row, 100, row, 100, row, 0, 0, 0, 0)
            yield Case(f"kernel_{name}_{kind}", FILE, (3 * 32,), (32,), {"args": args, "src0": a, "src1": b},
                       {"dst": wide(function, a, b)}, near, includes=INCLUDES)


def rows(Case):
    x = normal(4, 256)
    for number, function in ((10, np.sum), (11, np.mean)):
        args = struct_of("4q4Q4q4Q", *both((4, 256)), *both((4, 1)))
        yield Case("kernel_sum_rows_f32_f32", FILE, (4 * 64, 1, 1), (64, 1, 1), {"args": args, "src0": x},
                   {"dst": wide(lambda v: function(v, axis=-1), x)}, 1e-4, {SUM_ROWS: number}, (128,), INCLUDES)
    e = np.exp(0.5 * x.astype(np.float64))
    args = struct_of("3i3Q3i3Q3Q4fi", 256, 4, 1, 1024, 4096, 4096, 4, 1, 1, 1024, 4096, 4096, 1024, 4096, 4096, 0.5, 0, 1, 1, 1)
    zeros = np.zeros_like(x)
    yield Case("kernel_soft_max_f32", FILE, (4 * 64, 1, 1), (64, 1, 1),
               {"args": args, "src0": x, "src1": zeros, "src2": np.full(4, -1e30, np.float32)},
               {"dst": (e / e.sum(-1, keepdims=True)).astype(np.float32)}, 1e-5, group_bytes=(128,), includes=INCLUDES)
    w, b = normal(256), normal(256)
    for kind, plain in (("rms_norm", lambda v: v / np.sqrt((v * v).mean(-1, keepdims=True) + 1e-5)),
                        ("norm", lambda v: (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5))):
        for fused, function in (("", plain), ("_mul", lambda v, plain=plain: plain(v) * w),
                                ("_mul_add", lambda v, plain=plain: plain(v) * w + b)):
            for vector, each in (("", 1), ("_4", 4)):
                args = struct_of("ii3Qf9i9Q", 256, 256 // each, 1024, 4096, 4096, 1e-5, 4, 1, 1, 1, 1, 1, 1, 1, 1,
                                 1024, 1024, 1024, 4096, 1024, 1024, 4096, 1024, 1024)
                yield Case(f"kernel_{kind}{fused}_f32{vector}", FILE, (4 * 64, 1, 1), (64, 1, 1),
                           {"args": args, "src0": x, "src1_0": w, "src1_1": b}, {"dst": wide(function, x)}, 2e-5,
                           group_bytes=(128,), includes=INCLUDES)


def copies(Case):
    x = 20 * normal(3, 64)
    for to, dtype in (("f32", np.float32), ("f16", np.float16), ("i32", np.int32)):
        y = x.astype(dtype)
        args = struct_of("q4q4Q4q4Q", 64, *both((3, 64)), *both((3, 64), y.itemsize))
        yield Case(f"kernel_cpy_f32_{to}", FILE, (3 * 64, 1, 1), (64, 1, 1), {"args": args, "src0": x}, {"dst": y},
                   includes=INCLUDES)
    table, ids = normal(9, 64), np.array([8, 0, 3], np.int32)
    for kind, dtype in (("f32", np.float32), ("f16", np.float16)):
        source = table.astype(dtype)
        size = source.itemsize
        args = struct_of("ii3Qi3Q3Q", 64, 64, 64 * size, 576 * size, 576 * size, 3, 4, 12, 12, 256, 768, 768)
        yield Case(f"kernel_get_rows_{kind}", FILE, (3 * 64, 1, 1), (64, 1, 1), {"args": args, "src0": source, "src1": ids},
                   {"dst": source[ids].astype(np.float32)}, includes=INCLUDES)


def finite_blocks(quants, kind, rows_, columns):
    """Random bytes whose numbers are finite and not large."""
    from gguf import GGML_QUANT_SIZES
    block, size = GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (rows_ * columns // block, size), dtype=np.uint8)
    for _ in range(2000):
        values = quants.dequantize(data, kind).reshape(len(data), -1)
        with np.errstate(invalid="ignore"):
            wrong = ~np.isfinite(values).all(-1) | (np.abs(values).max(-1) > 1e3) | (np.abs(values).max(-1) < 1e-3)
        if not wrong.any():
            break
        data[wrong] = random.integers(0, 256, (int(wrong.sum()), size), dtype=np.uint8)
    return data.reshape(rows_, -1), values.reshape(rows_, columns).astype(np.float32)


def blocks(Case):
    try:
        import gguf
        from gguf import quants
    except ImportError:
        return
    ids = np.array([4, 0, 2], np.int32)
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS",
                 "IQ3_XXS", "IQ3_S", "IQ2_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS", "TQ2_0"):
        kind = gguf.GGMLQuantizationType[name]
        host = name if name.endswith("_K") else name.lower()
        host = host.replace("Q", "q") if name.endswith("_K") else host
        data, values = finite_blocks(quants, kind, 6, 512)
        row = data.shape[1]
        args = struct_of("ii3Qi3Q3Q", 32, 512, row, 6 * row, 6 * row, 3, 4, 12, 12, 2048, 6144, 6144)
        yield Case(f"kernel_get_rows_{host}", FILE, (3 * 32, 1, 1), (32, 1, 1), {"args": args, "src0": data, "src1": ids},
                   {"dst": values[ids]}, 2e-3, includes=INCLUDES)
        if name in PRODUCTS:
            per_group, groups = PRODUCTS[name]
            x = normal(1, 512)
            right = values.astype(np.float64) @ x[0].astype(np.float64)
            args = struct_of("3i4Q3i4Q3ihh", 512, 6, 1, row, row, 6 * row, 6 * row, 512, 1, 1, 4, 2048, 2048, 2048, 6, 1,
                             per_group, 1, 1)
            # Rows are dealt to simdgroups, in q8_0 shared by them.
            each = per_group if name == "Q8_0" else per_group * groups
            yield Case(f"kernel_mul_mv_{host}_f32", FILE, (32 * -(-6 // each), groups, 1), (32, groups, 1),
                       {"args": args, "src0": data, "src1": x}, {"dst": right.astype(np.float32)}, 1e-3,
                       {MUL_MV: groups, MUL_MV + 1: 1, MUL_MV + 2: 1, MUL_MV + 3: 1, MUL_MV + 4: 1},
                       (32 * 4 * per_group if name == "Q8_0" else 8192 if name in ("IQ2_XXS", "IQ3_XXS") else 256,), INCLUDES)


# Rows of a simdgroup, and simdgroups.
PRODUCTS = {"Q4_0": (4, 2), "Q4_1": (4, 2), "Q5_0": (4, 2), "Q5_1": (4, 2), "Q8_0": (2, 4), "Q2_K": (4, 2), "Q3_K": (2, 2),
            "Q4_K": (2, 2), "Q5_K": (1, 2), "Q6_K": (2, 2)}


def cases(Case):
    return [case for part in (unary, pairs, rows, copies, blocks) for case in part(Case)]
