"""One side of bench/gpu/run.py in a process of its own: worker.py SIDE MODEL BITS CONTEXT TOKENS [PACK]; JSON on stdout.

SIDE is `mlx` (mlx-lm's model, then the same model patched, in turns), `torch` (torch.compile with CUDA graphs) or `roof`
(the rates at which the GPU copies and reads).
"""
import copy
import json
import statistics
import sys
import time

import models

TURNS = 3  # of each side, alternating


def median_ms(seconds):
    return statistics.median(seconds) * 1e3


def context_of(model, context):
    """The cache after a prompt, and the seconds until the token after it was there."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache, start = make_prompt_cache(model), time.perf_counter()
    mx.eval(model(mx.array([[1] * context]), cache=cache))
    twin = copies(cache)
    mx.eval(model(mx.array([[5]]), cache=twin))
    return cache, time.perf_counter() - start


def copies(cache):
    import mlx.core as mx

    made = [copy.copy(one) for one in cache]
    for one in made:
        one.keys, one.values = one.keys + 0, one.values + 0
    mx.eval([(one.keys, one.values) for one in made])
    return made


def decode(model, cache, tokens):
    """One turn after a prompt: tokens one by one, each queued before the one before it is waited for."""
    import mlx.core as mx

    cache = copies(cache)

    def step(token):
        return mx.argmax(model(token[:, None], cache=cache)[:, -1], -1)

    token = mx.array([5])
    for _ in range(8):
        token = step(token)
        mx.eval(token)
    builds, queues = [], []
    start = time.perf_counter()
    following = step(token)
    mx.async_eval(following)
    for _ in range(tokens):
        current, begin = following, time.perf_counter()
        following = step(current)
        built = time.perf_counter()
        mx.async_eval(following)
        queues.append(time.perf_counter() - built)
        builds.append(built - begin)
        mx.eval(current)
    mx.eval(following)
    seconds = (time.perf_counter() - start) / (tokens + 1)
    return {"ms": seconds * 1e3, "python_ms": median_ms(builds), "queue_ms": median_ms(queues)}


def operations(model):
    """How many operations of MLX's graph a token has, and how many of them are of mlx_kd."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[1]]), cache=cache))
    logits = model(mx.array([[5]]), cache=cache)
    path = "/tmp/mlx_kd_bench_graph.dot"
    mx.export_to_dot(path, logits)
    with open(path, encoding="utf-8") as file:
        return file.read().count("rectangle")


def logits_of(model):
    """Of 8 steps of decoding after 8 more, in float32."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache = make_prompt_cache(model)
    steps = [model(mx.array([[11 * i]]), cache=cache)[0, -1] for i in range(16)]
    return mx.stack(steps[8:]).astype(mx.float32)


def mlx_sides(name, bits, context, tokens, pack):
    import mlx.core as mx
    import mlx_kd

    model = models.mlx_model(name, bits)
    result = {"mlx": [], "ours": [], "mlx_operations": operations(model), "mlx_version": mx.__version__}
    expected = logits_of(model)
    for turn in range(TURNS):
        report = mlx_kd.patch(model, pack=pack, verify=False)  # a proof of every module takes minutes
        if turn == 0:
            # MLX's product with codes of many rows is compiled at its first call, for a minute: the prompt is ours.
            cache, result["first_s"] = context_of(model, context)
            result["pins"], result["replaced"], result["left"] = report.pins, len(report.replaced), len(report.left)
            result["ours_operations"] = operations(model)
            logits = logits_of(model)
            result["logits_off"] = (mx.sqrt(mx.mean(mx.square(logits - expected)))
                                    / mx.sqrt(mx.mean(mx.square(expected)))).item()
            decode(model, cache, 8)
        result["ours"].append(decode(model, cache, tokens))
        mlx_kd.unpatch(model)
        result["mlx"].append(decode(model, cache, tokens))
    return result


def torch_side(name, bits, context, tokens):
    import torch

    torch.set_float32_matmul_precision("high")
    model = models.torch_model(name, bits, context + 256)
    step = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    token, at = torch.tensor([5], device="cuda"), torch.tensor([context], device="cuda")
    turns = []
    with torch.inference_mode():
        for _ in range(6):
            token = step(token, at).clone()
        for _ in range(TURNS):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(tokens):
                token = step(token, at).clone()
            torch.cuda.synchronize()
            turns.append({"ms": (time.perf_counter() - start) / tokens * 1e3})
    return {"torch": turns, "torch_version": torch.__version__}


def roof():
    import torch

    count = 1 << 30
    a, b = (torch.empty(count, dtype=torch.uint8, device="cuda") for _ in range(2))
    a.zero_()

    def rate(work, moved):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        for _ in range(20):
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        return moved / (statistics.median(times) * 1e-3) / 1e9

    numbers = a.view(torch.float32)
    return {"gpu": torch.cuda.get_device_name(), "copy_gbps": rate(lambda: b.copy_(a), 2 * count),
            "read_gbps": rate(numbers.sum, count)}


def main():
    side, *rest = sys.argv[1:]
    if side == "roof":
        result = roof()
    else:
        name, bits, context, tokens = rest[0], int(rest[1]), int(rest[2]), int(rest[3])
        pack = rest[4] if len(rest) > 4 else None
        result = (mlx_sides(name, bits, context, tokens, pack) if side == "mlx"
                  else torch_side(name, bits, context, tokens))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
