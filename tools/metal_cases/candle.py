"""Kernels of candle's Metal backend, held against NumPy."""
import numpy as np

KERNELS = "candle-metal-kernels/src/metal_src/"
TYPES = {"f32": np.float32, "f16": np.float16}
NEAR = {"f32": 1e-5, "f16": 3e-3}
random = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return random.standard_normal(shape).astype(dtype)


def size(value):
    return np.array(value, np.uint64)


def threads(count, dtype):
    """A thread takes the elements of eight bytes."""
    each = -(-8 // np.dtype(dtype).itemsize)
    return (-(-count // each),)


def wide(function, *arrays):
    """In float64, rounded once."""
    return function(*[one.astype(np.float64) for one in arrays]).astype(arrays[0].dtype)


def silu(x):
    return x / (1 + np.exp(-x))


def erf(x):
    from math import erf as exact
    return np.vectorize(exact)(x)


def unary(Case):
    functions = {"sqr": np.square, "neg": np.negative, "copy": lambda x: x, "silu": silu, "cos": np.cos, "sin": np.sin,
                 "exp": np.exp, "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "erf": erf, "sign": np.sign,
                 "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0),
                 "recip": lambda x: 1 / x,
                 "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))}
    for name, function in functions.items():
        for kind in ("f32", "f16") if name in ("exp", "silu", "copy") else ("f32",):
            x = normal(777, dtype=TYPES[kind])
            yield Case(f"{name}_{kind}", KERNELS + "unary.metal", threads(777, TYPES[kind]), (64,),
                       {"dim": size(777), "input": x}, {"output": wide(function, x)}, NEAR[kind])
    for name, function in {"sqrt": np.sqrt, "log": np.log}.items():
        x = np.abs(normal(777)) + np.float32(0.1)
        yield Case(f"{name}_f32", KERNELS + "unary.metal", threads(777, np.float32), (64,), {"dim": size(777), "input": x},
                   {"output": wide(function, x)}, 1e-5)
    x = normal(20, 30)
    yield Case("exp_f32_strided", KERNELS + "unary.metal", (600,), (64,),
               {"dim": size(600), "num_dims": size(2), "dims": np.array([30, 20], np.uint64),
                "strides": np.array([1, 30], np.uint64), "input": x}, {"output": np.ascontiguousarray(wide(np.exp, x).T)}, 1e-5)


def binary(Case):
    functions = {"badd": np.add, "bsub": np.subtract, "bmul": np.multiply, "bdiv": np.divide, "bminimum": np.minimum,
                 "bmaximum": np.maximum}
    for name, function in functions.items():
        a, b = normal(501), normal(501)
        yield Case(f"{name}_f32", KERNELS + "binary.metal", threads(501, np.float32), (64,),
                   {"dim": size(501), "left": a, "right": b}, {"output": wide(function, a, b)}, 1e-5)
    for name, function in {"eq": np.equal, "lt": np.less, "ge": np.greater_equal}.items():
        a, b = np.round(normal(501)), np.round(normal(501))
        yield Case(f"{name}_f32", KERNELS + "binary.metal", threads(501, np.float32), (64,),
                   {"dim": size(501), "left": a, "right": b}, {"output": function(a, b)})
    x = normal(300)
    yield Case("affine_f32", KERNELS + "affine.metal", threads(300, np.float32), (64,),
               {"dim": size(300), "mul": np.array(1.5, np.float32), "add": np.array(-2, np.float32), "input": x},
               {"output": wide(lambda v: 1.5 * v - 2, x)}, 1e-5)
    yield Case("powf_f32", KERNELS + "affine.metal", threads(300, np.float32), (64,),
               {"dim": size(300), "mul": np.array(2.5, np.float32), "input": np.abs(x)},
               {"output": wide(lambda v: v ** 2.5, np.abs(x))}, 1e-5)
    for kind, to in (("f16", np.float16), ("i64", np.int64)):
        yield Case(f"cast_f32_{kind}", KERNELS + "cast.metal", threads(300, np.float32), (64,),
                   {"dim": size(300), "input": 50 * x}, {"output": (50 * x).astype(to)})
    yield Case("fill_f32", KERNELS + "fill.metal", (300,), (64,), {"value": np.array(3.25, np.float32), "numel": size(300)},
               {"out": np.full(300, 3.25, np.float32)})
    chosen = (x > 0).astype(np.uint8)
    places = {"num_dims": size(1), "dims": np.array([300], np.uint64), "strides": np.array([1], np.uint64),
              "strides_t": np.array([1], np.uint64), "strides_f": np.array([1], np.uint64)}
    yield Case("where_u8_f32", KERNELS + "ternary.metal", threads(300, np.float32), (64,),
               {"numel": size(300), **places, "ids": chosen, "t": x, "f": -2 * x}, {"out": np.where(chosen, x, -2 * x)},
               constants={0: "true", 1: "true", 2: "true"})


def rows(Case):
    x = normal(6, 256)
    block = {"src_numel": np.array(x.size, np.uint32), "el_per_block": np.array(256, np.uint32)}
    for name, function in {"sum": np.sum, "max": np.max, "min": np.min}.items():
        yield Case(f"fast_{name}_f32", KERNELS + "reduce.metal", (6 * 128,), (128,),
                   {**block, "num_dims": np.array(2, np.uint32), "dims": np.array([6, 256], np.uint32), "src": x},
                   {"dst": wide(lambda v: function(v, axis=-1), x)}, 1e-5)
    for name, function in {"argmin": np.argmin, "argmax": np.argmax}.items():
        yield Case(f"fast_{name}_f32", KERNELS + "reduce.metal", (6 * 128,), (128,),
                   {**block, "num_dims": np.array(2, np.uint32), "dims": np.array([6, 256], np.uint32), "src": x},
                   {"dst": function(x, axis=-1).astype(np.uint32)})
    def softmax(v):
        e = np.exp(v - v.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    for kind in TYPES:
        y = x.astype(TYPES[kind])
        yield Case(f"softmax_{kind}", KERNELS + "reduce.metal", (6 * 128,), (128,), {**block, "src": y},
                   {"dst": wide(softmax, y)}, NEAR[kind])
    w, b = normal(256), normal(256)
    eps = {"eps": np.array(1e-5, np.float32)}
    yield Case("rmsnorm_f32", KERNELS + "reduce.metal", (6 * 128,), (128,), {**block, "src": x, "alpha": w, **eps},
               {"dst": wide(lambda v, a: v / np.sqrt((v * v).mean(-1, keepdims=True) + 1e-5) * a, x, w)}, 1e-5)
    yield Case("layernorm_f32", KERNELS + "reduce.metal", (6 * 128,), (128,),
               {**block, "src": x, "alpha": w, "beta": b, **eps},
               {"dst": wide(lambda v, a, c: (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5) * a + c,
                            x, w, b)}, 1e-5)
    heads, t, d = 3, 5, 32
    q = normal(heads, t, d)
    angle = np.arange(t)[:, None] / 10000 ** (np.arange(d // 2) / (d // 2))
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    one, two = q[..., :d // 2], q[..., d // 2:]
    right = np.concatenate([one * cos - two * sin, one * sin + two * cos], -1)
    yield Case("rope_f32", KERNELS + "reduce.metal", (heads * t * d // 2,), (64,),
               {"bh": size(heads), "td": size(t * d), "d": size(d), "stride_b": size(0), "src": q, "cos": cos, "sin": sin},
               {"dst": right}, 1e-5)
    one, two = q[..., 0::2], q[..., 1::2]
    right = np.stack([one * cos - two * sin, one * sin + two * cos], -1).reshape(q.shape)
    yield Case("rope_i_f32", KERNELS + "reduce.metal", (heads * t * d // 2,), (64,),
               {"bh": size(heads), "td": size(t * d), "stride_b": size(0), "src": q, "cos": cos, "sin": sin}, {"dst": right}, 1e-5)


def choices(Case):
    table, ids = normal(40, 16), np.array([3, 0, 39, 7, 7], np.uint32)
    yield Case("is_u32_f32", KERNELS + "indexing.metal", (80,), (32,),
               {"dst_size": size(80), "left_size": size(1), "src_dim_size": size(40), "right_size": size(16), "ids_size": size(5),
                "contiguous": np.array(True), "src_dims": np.array([40, 16], np.uint64),
                "src_strides": np.array([16, 1], np.uint64), "input": table, "input_ids": ids}, {"output": table[ids]})
    x = normal(3, 100)
    for way, sign in (("asc", 1), ("desc", -1)):
        yield Case(f"asort_{way}_f32", KERNELS + "sort.metal", (128, 3), (128, 1),
                   {"x": x, "ncols": np.array(100, np.int64), "ncols_pad": np.array(128, np.int64)},
                   {"dst": np.argsort(sign * x, axis=-1).astype(np.uint32)}, group_bytes=(512,))


def cases(Case):
    return [case for part in (unary, binary, rows, choices) for case in part(Case)]
