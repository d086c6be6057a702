#!/usr/bin/env python3
"""How long kd suggest-shapes takes on a config that is on disk, the start of the process included.

    bench/suggest_shapes.py [--kd build/release/kd] [--rounds 200] [--out FILE]

Writes bench/results/suggest_shapes.json: median, 95th percentile and maximum in ms. Goal: at most 50 ms.
"""
import argparse
import datetime
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parent.parent
# As DeepSeek-V3 states them: the config that gives the most suites.
CONFIG = {"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 128,
          "num_key_value_heads": 128, "moe_intermediate_size": 2048, "n_shared_experts": 1, "n_routed_experts": 256,
          "num_experts_per_tok": 8, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "kv_lora_rank": 512,
          "q_lora_rank": 1536, "hidden_act": "silu", "vocab_size": 129280, "max_position_embeddings": 163840}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kd", default=str(ROOT / "build" / "release" / "kd"))
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "suggest_shapes.json"))
    args = parser.parse_args()
    times = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        command = [args.kd, "suggest-shapes", "--model-id", folder, "--prefill", "128,1024", "--json"]
        for _ in range(args.rounds):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times.append(1e3 * (time.perf_counter() - start))
    times.sort()
    version = subprocess.run([args.kd, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    result = {"what": "wall time of kd suggest-shapes on a local config, ms", "rounds": args.rounds,
              "median_ms": round(statistics.median(times), 2), "p95_ms": round(times[int(0.95 * len(times))], 2),
              "max_ms": round(times[-1], 2), "machine": machine(), "mlx_kd": version,
              "date": datetime.date.today().isoformat()}
    Path(args.out).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
