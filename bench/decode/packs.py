#!/usr/bin/env python3
"""The model of run.py with one pack and with another: tokens per second of both, and their paired ratio.

    bench/decode/packs.py --config MODEL                                            # the model's config.json into a folder
    kd tune-model MODEL --time-budget 10m --out runs/short
    kd tune-model MODEL --time-budget 100m --out runs/long
    bench/decode/packs.py --site SITE runs/short/pack.json runs/long/pack.json

SITE and --python as for run.py. Each pack has a process of its own, with default kernels for what its pins do not serve;
per round each gives one sample, in random order, of decoding and of a prompt. Prints JSON: medians with their 95 %
intervals, and the ratio of the first to the second.
"""
import argparse
import json
import os
import random
import sys
from pathlib import Path

import model as models
import run

PROMPT, CONTEXT, WARM = 512, 512, 2
ON = "MLX_KD_USE_DISCOVERED_KERNELS"


def config_of(shape, bits):
    config = {"model_type": "llama", "hidden_size": shape["hidden"], "num_hidden_layers": shape["layers"],
              "intermediate_size": shape["mlp"], "num_attention_heads": shape["heads"],
              "num_key_value_heads": shape["kv_heads"], "head_dim": shape["head_dim"], "rms_norm_eps": models.EPS,
              "vocab_size": shape["vocab"], "tie_word_embeddings": False, "dtype": "bfloat16"}
    return {**config, "quantization": {"group_size": models.GROUP, "bits": bits}} if bits < 16 else config


def side_of(args, pack):
    environment = {ON: "1", "MLX_KD_DISCOVERED_KERNELS_PATH": str(pack.resolve())}
    shared = argparse.Namespace(site=args.site, python=args.python, shape=args.shape, environment=environment)
    return run.Side(shared, "ours", args.format, len(os.sched_getaffinity(0)))


def compare(sides, what, size, rounds):
    values = [[] for _ in sides]
    for side in sides * WARM:  # the first also compiles
        run.sample(side, what, size)
    for _ in range(rounds):
        for at in random.sample(range(len(sides)), len(sides)):
            values[at].append(run.sample(sides[at], what, size))
    return {"what": what, "tokens": size, "tokens_per_s": [run.spread(samples) for samples in values],
            "first_over_second": run.spread([a / b for a, b in zip(*values)])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", nargs="*", type=Path, metavar="PACK")
    parser.add_argument("--config", type=Path, help="write config.json into this folder, and end")
    parser.add_argument("--site", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--format", default="4 bits", choices=list(models.FORMATS))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--shape", type=json.loads, default={}, help="what differs from model.py's SHAPE, as JSON")
    args = parser.parse_args()
    args.shape = {**models.SHAPE, **args.shape}
    if args.config:
        args.config.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config_of(args.shape, models.FORMATS[args.format][0]), indent=1)
        (args.config / "config.json").write_text(text + "\n")
        return
    if len(args.packs) != 2 or not all(pack.is_file() for pack in args.packs) or not args.site:
        parser.error("give --site and two files that are packs")
    sides = [side_of(args, pack) for pack in args.packs]
    rows = [compare(sides, "decode", CONTEXT, args.rounds), compare(sides, "prompt", PROMPT, args.rounds)]
    result = {"packs": [str(pack) for pack in args.packs], "format": args.format, "machine": run.machine(), "rows": rows,
              "pins": [side.ask("about")["replaced"][0] for side in sides]}
    for side in sides:
        side.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
