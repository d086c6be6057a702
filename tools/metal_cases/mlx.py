"""Kernels of MLX's Metal backend, held against MLX's operators on a CPU."""
import math
import struct

import mlx.core as mx
import numpy as np

KERNELS = "mlx/backend/metal/kernels/"
TYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
METAL = {"float32": "float", "float16": "float16_t", "bfloat16": "bfloat16_t"}
HALVES = {"float32": "float", "float16": "half", "bfloat16": "bfloat16_t"}
NEAR = {"float32": 1e-5, "float16": 3e-3, "bfloat16": 2e-2}


def normal(*shape, seed=0, dtype=mx.float32):
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def uniform(*shape, low=0.0, high=1.0, seed=0, dtype=mx.float32):
    return mx.random.uniform(low, high, shape, key=mx.random.key(seed)).astype(dtype)


def number(value, dtype):
    return np.array(value, dtype=dtype)


def i64(values):
    return np.array(values, dtype=np.int64)


def i32(values):
    return np.array(values, dtype=np.int32)


def unary(Case):
    wide = {"Abs": mx.abs, "ArcSinh": mx.arcsinh, "ArcTan": mx.arctan, "Ceil": mx.ceil, "Cos": mx.cos, "Cosh": mx.cosh,
            "Exp": mx.exp, "Expm1": mx.expm1, "Floor": mx.floor, "Negative": mx.negative, "Sigmoid": mx.sigmoid,
            "Erf": mx.erf, "Sign": mx.sign, "Sin": mx.sin, "Sinh": mx.sinh, "Square": mx.square, "Tan": mx.tan,
            "Tanh": mx.tanh, "Round": mx.round}
    positive = {"Log": mx.log, "Log2": mx.log2, "Log10": mx.log10, "Log1p": mx.log1p, "Sqrt": mx.sqrt, "Rsqrt": mx.rsqrt}
    inside = {"ArcCos": mx.arccos, "ArcSin": mx.arcsin, "ArcTanh": mx.arctanh, "ErfInv": mx.erfinv}
    for functions, low, high in ((wide, -1.4, 1.4), (positive, 0.1, 9.0), (inside, -0.9, 0.9), ({"ArcCosh": mx.arccosh}, 1.1, 9)):
        for name, function in functions.items():
            for dtype in ("float32", "float16", "bfloat16") if name in ("Exp", "Sqrt", "Tanh", "Erf", "Sin") else ("float32",):
                x = uniform(1001, low=low, high=high, dtype=TYPES[dtype])
                yield Case(f"v_{name}{dtype}{dtype}", KERNELS + "unary.metal", (1001,), (256,),
                           {"in": x, "size": number(1001, np.uint32)}, {"out": function(x)}, NEAR[dtype])
    x = normal(1001).astype(mx.int32)
    yield Case("v_BitwiseInvertint32int32", KERNELS + "unary.metal", (1001,), (256,),
               {"in": x, "size": number(1001, np.uint32)}, {"out": mx.bitwise_invert(x)})
    z = normal(300) + 1j * normal(300, seed=1)
    yield Case("v_Squarecomplex64complex64", KERNELS + "unary.metal", (300,), (64,),
               {"in": z, "size": number(300, np.uint32)}, {"out": z * z}, 1e-5)


def binary(Case):
    floats = {"Add": mx.add, "Divide": mx.divide, "Maximum": mx.maximum, "Minimum": mx.minimum, "Multiply": mx.multiply,
              "Subtract": mx.subtract, "LogAddExp": mx.logaddexp, "ArcTan2": mx.arctan2, "Remainder": mx.remainder}
    a, b = normal(999), uniform(999, low=0.5, high=2.0, seed=1)
    size = {"size": number(999, np.uint32)}
    for name, function in floats.items():
        yield Case(f"vv_{name}float32", KERNELS + "binary.metal", (999,), (128,), {"a": a, "b": b, **size},
                   {"c": function(a, b)}, 1e-5)
    yield Case("vv_Powerfloat32", KERNELS + "binary.metal", (999,), (128,), {"a": mx.abs(a) + 0.1, "b": b, **size},
               {"c": mx.power(mx.abs(a) + 0.1, b)}, 1e-5)
    for name, function in {"Greater": mx.greater, "LessEqual": mx.less_equal, "Equal": mx.equal}.items():
        yield Case(f"vv_{name}float32", KERNELS + "binary.metal", (999,), (128,), {"a": a, "b": b, **size},
                   {"c": function(a, b)})
    p, q = (mx.random.randint(0, 1 << 30, (999,), key=mx.random.key(seed)) for seed in (1, 2))
    for name, function in {"BitwiseAnd": mx.bitwise_and, "BitwiseXor": mx.bitwise_xor, "Add": mx.add}.items():
        yield Case(f"vv_{name}int32", KERNELS + "binary.metal", (999,), (128,), {"a": p, "b": q, **size}, {"c": function(p, q)})
    yield Case("vvn_Multiplybfloat16", KERNELS + "binary.metal", (250,), (128,),
               {"a": a.astype(mx.bfloat16), "b": b.astype(mx.bfloat16), **size},
               {"c": a.astype(mx.bfloat16) * b.astype(mx.bfloat16)}, NEAR["bfloat16"])
    chosen = a > 0
    yield Case("v_Selectfloat32", KERNELS + "ternary.metal", (999,), (128,), {"a": chosen, "b": a, "c": b, **size},
               {"d": mx.where(chosen, a, b)})


def copies(Case):
    x = normal(1000) * 50
    for dtype, to in (("float16", mx.float16), ("bfloat16", mx.bfloat16), ("int32", mx.int32)):
        yield Case(f"v_copyfloat32{dtype}", KERNELS + "copy.metal", (1000,), (256,),
                   {"src": x, "size": number(1000, np.uint32)}, {"dst": x.astype(to)})
    m = normal(20, 30)
    yield Case("g2_copyfloat32float32", KERNELS + "copy.metal", (20, 30), (8, 8),
               {"src": m, "src_strides": i64([1, 30])}, {"dst": mx.contiguous(m.T)})
    for name, dtype in (("float32", np.float32), ("int32", np.int32), ("uint8", np.uint8)):
        yield Case(f"arange{name}", KERNELS + "arange.metal", (100,), (32,),
                   {"start": number(3, dtype), "step": number(2, dtype)}, {"out": mx.arange(3, 203, 2).astype(getattr(mx, name))})


def rows(Case):
    for dtype, kind in TYPES.items():
        x = normal(7, 1000, dtype=kind)
        yield Case(f"block_softmax_{dtype}", KERNELS + "softmax.metal", (7 * 256,), (256,),
                   {"in": x, "axis_size": number(1000, np.int32)},
                   {"out": mx.softmax(x.astype(mx.float32), -1).astype(kind)}, 3 * NEAR[dtype])
        yield Case(f"block_logsumexp_{dtype}", KERNELS + "logsumexp.metal", (7 * 256,), (256,),
                   {"in": x, "axis_size": number(1000, np.int32)}, {"out": mx.logsumexp(x, -1)}, NEAR[dtype])
        w, b = normal(1000, seed=1, dtype=kind), normal(1000, seed=2, dtype=kind)
        sizes = {"eps": number(1e-5, np.float32), "axis_size": number(1000, np.uint32), "w_stride": number(1, np.uint32)}
        yield Case(f"rms{dtype}", KERNELS + "rms_norm.metal", (7 * 256,), (256,), {"x": x, "w": w, **sizes},
                   {"out": mx.fast.rms_norm(x, w, 1e-5)}, NEAR[dtype])
        # A width of which every thread has a part: threads beyond the row write in front of their own array.
        x, w, b = (array[..., :768] for array in (x, w, b))
        yield Case(f"layer_norm{dtype}", KERNELS + "layer_norm.metal", (7 * 96,), (96,),
                   {"x": mx.contiguous(x), "w": w, "b": b, "b_stride": number(1, np.uint32), **sizes,
                    "axis_size": number(768, np.uint32)},
                   {"out": mx.fast.layer_norm(x, w, b, 1e-5)}, NEAR[dtype])
    x = normal(5, 5000)
    yield Case("looped_softmax_float32", KERNELS + "softmax.metal", (5 * 1024,), (1024,),
               {"in": x, "axis_size": number(5000, np.int32)}, {"out": mx.softmax(x, -1)}, 1e-5)
    yield Case("looped_logsumexp_float32", KERNELS + "logsumexp.metal", (5 * 1024,), (1024,),
               {"in": x, "axis_size": number(5000, np.int32)}, {"out": mx.logsumexp(x, -1)}, 1e-5)
    yield Case("block_softmax_precise_float16", KERNELS + "softmax.metal", (5 * 256,), (256,),
               {"in": x[:, :1000].astype(mx.float16), "axis_size": number(1000, np.int32)},
               {"out": mx.softmax(x[:, :1000].astype(mx.float16), -1, precise=True)}, NEAR["float16"])
    sizes = {"eps": number(1e-5, np.float32), "axis_size": number(5000, np.uint32), "w_stride": number(1, np.uint32)}
    w = normal(5000, seed=1)
    yield Case("rms_loopedfloat32", KERNELS + "rms_norm.metal", (5 * 1024,), (1024,), {"x": x, "w": w, **sizes},
               {"out": mx.fast.rms_norm(x, w, 1e-5)}, 1e-5)


def reductions(Case):
    x = normal(1, 3000)
    for name, function in {"sum": mx.sum, "max": mx.max, "min": mx.min}.items():
        yield Case(f"all_reduce_{name}float32", KERNELS + "reduce.metal", (256,), (256,),
                   {"in": x, "in_size": number(3000, np.uint64), "row_size": number(3000, np.uint64)},
                   {"out": function(x).reshape(1)}, 1e-5)
    m = normal(8, 600)
    for name, function in {"sum": mx.sum, "max": mx.max, "prod": mx.prod}.items():
        yield Case(f"row_reduce_simple_{name}float32", KERNELS + "reduce.metal", (128, 2), (128, 1),
                   {"in": 1 + m / 100, "reduction_size": number(600, np.uint64), "out_size": number(8, np.int64)},
                   {"out": function(1 + m / 100, axis=-1)}, 2e-5)
    for name, function in {"argmin": mx.argmin, "argmax": mx.argmax}.items():
        for dtype in ("float32", "float16"):
            y = m.astype(TYPES[dtype])
            yield Case(f"{name}_{dtype}", KERNELS + "arg_reduce.metal", (160, 8), (160, 1),
                       {"in": y, "shape": i32([8]), "in_strides": i64([600]), "out_strides": i64([1]),
                        "ndim": number(1, np.uint64), "axis_stride": number(1, np.int64), "axis_size": number(600, np.uint64)},
                       {"out": function(y, -1).astype(mx.uint32)})
    for name, function in {"sum": mx.cumsum, "max": mx.cummax, "min": mx.cummin}.items():
        for way in ("inclusive", "reverse_inclusive"):
            yield Case(f"contig_scan_{way}_{name}_float32_float32", KERNELS + "scan.metal", (160, 8), (160, 1),
                       {"in": m, "axis_size": number(600, np.uint64)},
                       {"out": function(m, axis=-1, reverse=way.startswith("reverse"))}, 2e-5)
    p = mx.random.randint(0, 9, (8, 600), key=mx.random.key(3))
    yield Case("contig_scan_exclusive_sum_int32_int32", KERNELS + "scan.metal", (160, 8), (160, 1),
               {"in": p, "axis_size": number(600, np.uint64)}, {"out": mx.cumsum(p, axis=-1, inclusive=False)})


def orders(Case):
    def shapes(n):
        return {"size_sorted_axis": number(n, np.int32), "in_stride_sorted_axis": number(1, np.int32),
                "out_stride_sorted_axis": number(1, np.int32), "in_stride_segment_axis": number(n, np.int32),
                "out_stride_segment_axis": number(n, np.int32)}
    for dtype in ("float32", "float16", "bfloat16"):
        x = normal(4, 500, dtype=TYPES[dtype])
        yield Case(f"c_block_sort_{dtype}_{dtype}_bn128_tn4", KERNELS + "sort.metal", (128, 4), (128, 1),
                   {"inp": x, **shapes(500)}, {"out": mx.sort(x, -1)})
    x = normal(4, 500)
    yield Case("carg_block_sort_float32_uint32_bn128_tn4", KERNELS + "sort.metal", (128, 4), (128, 1),
               {"inp": x, **shapes(500)}, {"out": mx.argsort(x, -1)})
    p = mx.random.randint(-99, 99, (4, 100), key=mx.random.key(1))
    yield Case("c_block_sort_int32_int32_bn32_tn4", KERNELS + "sort.metal", (32, 4), (32, 1),
               {"inp": p, **shapes(100)}, {"out": mx.sort(p, -1)})
    a, v = mx.sort(normal(300)), normal(100, seed=5)
    for side in ("left", "right"):
        yield Case(f"searchsorted_float32_{side}", KERNELS + "searchsorted.metal", (100,), (64,),
                   {"a": a, "v": v, "n": number(300, np.uint32), "a_stride": number(1, np.int64)},
                   {"out": np.searchsorted(np.array(a), np.array(v), side=side).astype(np.uint32)})
    keys = mx.random.key(7).reshape(1, 2)
    yield Case("rbitsc", KERNELS + "random.metal", (1, 32), (1, 32),
               {"keys": keys, "odd": number(False, np.bool_), "bytes_per_key": number(256, np.uint64)},
               {"out": mx.random.split(mx.random.key(7), 32).reshape(64).view(mx.int8)})  # keys are random bits


def quantised(Case):
    for kind in ("float", "float16_t", "bfloat16_t"):
        dtype = {"float": "float32", "float16_t": "float16", "bfloat16_t": "bfloat16"}[kind]
        for bits in (4, 8) if kind == "float" else (4,):
            w = normal(64, 512, seed=1, dtype=TYPES[dtype])
            codes, scales, biases = mx.quantize(w, group_size=64, bits=bits)
            x = normal(1, 512, dtype=TYPES[dtype])
            right = mx.quantized_matmul(*(array.astype(mx.float32) if array.dtype == TYPES[dtype] else array
                                          for array in (x, codes, scales, biases)),
                                        transpose=True, group_size=64, bits=bits).astype(TYPES[dtype])
            batch = {"x_batch_ndims": number(1, np.int32), "x_shape": i32([1, 1, 512]), "x_strides": i64([512, 512, 1]),
                     "w_batch_ndims": number(0, np.int32), "w_shape": i32([64, 64]), "w_strides": i64([1, 1]),
                     "s_strides": i64([1, 1]), "b_strides": i64([1, 1])}
            for name in ("affine_qmv_fast", "affine_qmv"):
                yield Case(f"{name}_{kind}_gs_64_b_{bits}_batch_0", KERNELS + "quantized.metal", (32, 16, 1), (32, 2, 1),
                           {"w": codes, "scales": scales, "biases": biases, "x": x, "in_vec_size": number(512, np.int32),
                            "out_vec_size": number(64, np.int32), **batch}, {"y": right.reshape(64)}, 2 * NEAR[dtype])
            yield Case(f"affine_dequantize_{kind}_gs_64_b_{bits}", KERNELS + "quantized.metal",
                       (64 * 512 * bits // 8, 1), (64, 1),
                       {"w": codes, "scales": scales, "biases": biases},
                       {"out": mx.dequantize(codes, scales, biases, group_size=64, bits=bits)}, NEAR[dtype])
    w = normal(64, 512, seed=1)
    codes, scales, biases = mx.quantize(w, group_size=64, bits=4)
    x = normal(32, 512)
    yield Case("affine_qmm_t_float_gs_64_b_4_alN_true_batch_0", KERNELS + "quantized.metal", (32 * 2, 1 * 2, 1 * 2), (32, 2, 2),
               {"w": codes, "scales": scales, "biases": biases, "x": x, "K": number(512, np.int32),
                "N": number(64, np.int32), "M": number(32, np.int32), "x_batch_ndims": number(0, np.int32),
                "x_shape": i32([32, 512]), "x_strides": i64([512, 1]), "w_batch_ndims": number(0, np.int32),
                "w_shape": i32([64, 64]), "w_strides": i64([64, 1]), "s_strides": i64([8, 1]), "b_strides": i64([8, 1])},
               {"y": mx.quantized_matmul(x, codes, scales, biases, transpose=True, group_size=64, bits=4)}, 1e-4)
    for mode, name, group in (("mxfp4", "mxfp4", 32), ("mxfp8", "mxfp8", 32), ("nvfp4", "nvfp4", 16)):
        codes, scales = mx.quantize(w, group_size=group, bits=8 if mode == "mxfp8" else 4, mode=mode)[:2]
        x = normal(1, 512)
        right = mx.quantized_matmul(x, codes, scales, transpose=True, group_size=group, bits=8 if mode == "mxfp8" else 4,
                                    mode=mode)
        yield Case(f"{name}_qmv_fast_float_gs_{group}_b_{8 if mode == 'mxfp8' else 4}_batch_0",
                   KERNELS + "fp_quantized.metal", (32, 16, 1), (32, 2, 1),
                   {"w": codes, "scales": scales, "x": x, "in_vec_size": number(512, np.int32),
                    "out_vec_size": number(64, np.int32), "x_batch_ndims": number(1, np.int32),
                    "x_shape": i32([1, 1, 512]), "x_strides": i64([512, 512, 1]), "w_batch_ndims": number(0, np.int32),
                    "w_shape": i32([64, 64]), "w_strides": i64([1, 1]), "s_strides": i64([1, 1]),
                    "global_scale": number(1.0, np.float32)},
                   {"y": right.reshape(64)}, 1e-4)


def products(Case):
    for dtype, kind in TYPES.items():
        m, x = normal(64, 256, seed=1, dtype=kind), normal(256, dtype=kind)
        common = {"in_vec_size": number(256, np.int32), "out_vec_size": number(64, np.int32),
                  "marix_ld": number(256, np.int32), "batch_ndim": number(1, np.int32), "batch_shape": i32([1]),
                  "vector_batch_stride": i64([0]), "matrix_batch_stride": i64([0]), "bias": x, "alpha": number(1.0, np.float32),
                  "beta": number(0.0, np.float32), "bias_batch_stride": i64([0]), "bias_stride": number(1, np.int32)}
        yield Case(f"gemv_{dtype}_bm4_bn1_sm1_sn32_tm4_tn4_nc0_axpby0", KERNELS + "gemv.metal", (32 * 4, 1, 4), (32, 1, 4),
                   {"mat": m, "in_vec": x, **common}, {"out_vec": m @ x}, 5 * NEAR[dtype])
    for dtype, kind in TYPES.items():
        a, b = normal(64, 48, dtype=kind), normal(48, 64, seed=1, dtype=kind)
        for trans in ("nn", "nt") if dtype == "float32" else ("nn",):
            params = np.frombuffer(
                np.array([64, 64, 48, 48, 64 if trans == "nn" else 48, 64, 2, 2], np.int32).tobytes() +
                np.array([0, 0, 0], np.int64).tobytes() + np.array([0, 3, 0, 0], np.int32).tobytes(), np.int32)
            yield Case(f"steel_gemm_fused_{trans}_{dtype}_{dtype}_bm32_bn32_bk16_wm2_wn2",
                       KERNELS + "steel/gemm/kernels/steel_gemm_fused.metal", (32 * 2, 2 * 2, 1 * 2), (32, 2, 2),
                       {"A": a, "B": b if trans == "nn" else mx.contiguous(b.T), "C": a, "params": params,
                        "addmm_params": i32([0] * 12), "batch_shape": i32([1]), "batch_strides": i64([0, 0])},
                       {"D": a @ b}, 5 * NEAR[dtype],
                       {10: "false", 100: "false", 110: "false", 200: "true", 201: "true", 202: "true"})
    for dtype, kind in METAL.items():
        q, k, v = (normal(1, heads, n, 64, seed=seed, dtype=TYPES[dtype]) for heads, n, seed in ((4, 1, 0), (2, 90, 1), (2, 90, 2)))
        yield Case(f"sdpa_vector_{kind}_64_64", KERNELS + "scaled_dot_product_attention.metal", (4 * 1024, 1, 1), (1024, 1, 1),
                   {"queries": q, "keys": k, "values": v, "gqa_factor": number(2, np.int32), "N": number(90, np.int32),
                    "k_head_stride": number(90 * 64, np.uint64), "k_seq_stride": number(64, np.uint64),
                    "v_head_stride": number(90 * 64, np.uint64), "v_seq_stride": number(64, np.uint64),
                    "scale": number(0.125, np.float32), "bmask": number(True, np.bool_), "fmask": q,
                    "mask_kv_seq_stride": number(0, np.int32), "mask_q_seq_stride": number(0, np.int32),
                    "mask_head_stride": number(0, np.int32), "sinks": q, "num_q_heads": number(4, np.int32)},
                   {"out": mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125)}, NEAR[dtype],
                   {20: "false", 21: "false", 22: "false", 23: "false", 24: "false", 25: "false"})


def rotations(Case):
    for dtype, kind in TYPES.items():
        for traditional in (False, True):
            x = normal(1, 4, 1, 64, dtype=kind)
            yield Case(f"rope_single_{dtype}", KERNELS + "rope.metal", (32, 4), (32, 4),
                       {"in": x, "offset": number(17, np.int32), "scale": number(1.0, np.float32),
                        "stride": number(64, np.int64), "base": number(math.log2(10000.0), np.float32)},
                       {"out": mx.fast.rope(x, 64, traditional=traditional, base=10000.0, scale=1.0, offset=17)}, NEAR[dtype],
                       {1: "true", 2: str(traditional).lower(), 3: "false"})


def transforms(Case):
    radices = (13, 11, 8, 7, 6, 5, 4, 3, 2)
    for n, steps, each in ((256, {4: 4}, 4), (60, {6: 1, 5: 1, 2: 1}, 5), (243, {3: 5}, 3), (91, {13: 1, 7: 1}, 7)):
        z = normal(3, n) + 1j * normal(3, n, seed=1)
        constants = {0: "false", 1: str(n == 256).lower(), 2: each, 3: 1}
        constants |= {4 + index: steps.get(radix, 0) for index, radix in enumerate(radices)}
        constants |= {13 + index: 0 for index in range(len(radices))}
        threads = -(-n // each)
        for name, x, y in ((f"fft_mem_256_float2_float2", z, mx.fft.fft(z)),
                           (f"fft_mem_256_float_float2", mx.real(z), mx.fft.rfft(mx.real(z)))):
            # Transforms of real rows are made in pairs.
            yield Case(name, KERNELS + "fft.metal", (2 if x is not z else 3, 1, threads), (1, 1, threads),
                       {"in": x, "n": number(n, np.int32), "batch_size": number(3, np.int32)}, {"out": y}, 1e-5, constants)


def parameters_of(x, w, y, pad):
    """MLXConvParams<2> of a convolution with stride 1, channels last."""
    def strides(a):
        return [a.shape[1] * a.shape[2] * a.shape[3], a.shape[2] * a.shape[3], a.shape[3], 1]
    return np.frombuffer(struct.pack("@17i12qi?3x", x.shape[0], x.shape[3], y.shape[3], *x.shape[1:3], *w.shape[1:3], *y.shape[1:3],
                                     1, 1, pad, pad, 1, 1, 1, 1, *strides(x), *strides(w), *strides(y),
                                     x.shape[3] // w.shape[3], False), np.uint8)


def convolutions(Case):
    for dtype, kind in TYPES.items():
        x, w = normal(2, 30, 48, dtype=kind), normal(48, 4, 1, seed=1, dtype=kind)
        yield Case(f"depthwise_conv_1d_{dtype}", KERNELS + "conv.metal", (48, 27, 2), (16, 1, 1),
                   {"in": x, "w": w, "strides": i32([30 * 48, 48, 1]), "kernel_size": number(4, np.int32)},
                   {"out": mx.conv1d(x, w, groups=48)}, NEAR[dtype])
    x, w = normal(2, 8, 8, 16), normal(16, 3, 3, 1, seed=1)
    y = mx.conv2d(x, w, padding=1, groups=16)
    yield Case("depthwise_conv_2d_float32", KERNELS + "conv.metal", (16, 8, 2 * 8), (8, 8, 4),
               {"in": x, "wt": w, "params": parameters_of(x, w, y, 1)}, {"out": y}, 1e-5,
               {0: 3, 1: 3, 10: 1, 11: 1, 100: 4, 101: 8, 200: "false"})
    x, w = normal(2, 6, 7, 5), normal(4, 3, 3, 5, seed=1)
    y = mx.conv2d(x, w, padding=1)
    padded = np.pad(np.array(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # n, h, w, c, kh, kw
    for name, axes in (("naive_unfold_nd", (0, 1, 2, 4, 5, 3)), ("naive_unfold_transpose_nd", (0, 1, 2, 3, 4, 5))):
        right = np.ascontiguousarray(windows.transpose(axes)).reshape(2 * 6 * 7, 45)
        yield Case(f"{name}_float32_2", KERNELS + "conv.metal", (5, 9, 2 * 6 * 7), (5, 9, 1),
                   {"in": x, "params": parameters_of(x, w, y, 1), "row_offset": number(0, np.int32)}, {"out": right})


def cases(Case):
    found = []
    for part in (unary, binary, copies, rows, reductions, orders, quantised, products, rotations, transforms, convolutions):
        found += list(part(Case))
    return found
