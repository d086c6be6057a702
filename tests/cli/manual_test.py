"""The commands of the manual of zmlx.kd with the program's name changed: those that search, with a budget of 2 on the
null device; those that read, on run directories, packs and shape logs as zmlx.kd writes them."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.support.fake_hub import FakeHub, File

KD = os.environ["MLX_KD_PROGRAM"]
SEARCHES = (
    "run --op rmsnorm_residual --budget 200 --seed 0 --out runs/kd_rmsnorm_residual",
    "run --op swiglu --budget 200 --shapes glm_flash_small --out runs/kd_swiglu",
    "run --op rope --budget 200 --out runs/kd_rope",
    "run --op rmsnorm --budget 50 --seed 0 --out runs/kd_rmsnorm",
    "run --op rope --model-id mlx-community/GLM-4.7-Flash-4bit --budget 200 --out runs/kd_rope_glm47")
REPORT = "report --run runs/kd_rmsnorm"
INSTALL = "install --run runs/kd_rmsnorm --output configs/discovered_kernels.json"
PACK = "pack --runs runs/kd_rmsnorm_residual runs/kd_swiglu runs/kd_rope --out kernelpacks/applegpu_g16s.json"
SUGGEST = "suggest-shapes --model-id mlx-community/GLM-4.7-Flash-4bit"
GLM = {"model_type": "glm4_moe_lite", "hidden_size": 2048, "intermediate_size": 10240, "moe_intermediate_size": 1536,
       "n_shared_experts": 1, "num_attention_heads": 20, "num_hidden_layers": 47, "q_lora_rank": 768,
       "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256}
RUNTIME = {"mlx_version": "0.30.4", "device_arch": "applegpu_g16s", "device_name": "Apple M4 Max"}
SHAPES = {"rmsnorm": {"rows": 1, "D": 2048}, "rmsnorm_residual": {"rows": 1, "D": 2048},
          "swiglu": {"rows": 1, "D": 1536, "N": 1536},
          "rope": {"B": 1, "H_Q": 32, "D_NOPE": 128, "D_ROPE": 64, "D_OUT": 192}}


def candidate_of(op):
    source = f"    out[thread_position_in_grid.x] = inp[thread_position_in_grid.x];  // {op}\n"
    specs = [{"name": name, "dtype": "float16", "shape": [1, 2048], "strides": "contiguous"} for name in ("inp", "out")]
    return {"op_name": op, "candidate_id": f"{op}_0123456789abcdef", "func_name": f"kk_{op}", "metal_source": source,
            "inputs_spec": specs[:1], "outputs_spec": specs[1:], "template_params": {"TG": 256, "eps": 1e-06},
            "launch_params": {"threadgroup_x": 256}}


def write_old_run(folder, op):
    """A run directory of zmlx.kd: one evaluation, one failure, and the winner."""
    candidate = candidate_of(op)
    metrics = {"latency_us": 12.5, "p10_us": 12.0, "p90_us": 13.0, "speedup_vs_ref": 1.25, "gbps_est": 1.0,
               "correctness_max_abs_err": 0.001, "correctness_max_rel_err": 0.002, "compile_time_ms": 3.0,
               "dtype": "float16"}
    sizes = [{"shape": SHAPES[op], "latency_us": 12.5, "p10_us": 12.0, "p90_us": 13.0, "baseline_us": 15.6,
              "speedup_vs_ref": 1.25, "gbps_est": 1.0, "max_abs_err": 0.001, "max_rel_err": 0.002}]
    records = [{"event": "evaluation", "ts": "2025-01-02T03:04:05", "step": 0, "seed": 0, "parent_id": None, "notes": {},
                "status": "benchmarked", "features": [], "metrics": {**metrics, "per_shape": sizes}, **candidate},
               {"event": "failure", "ts": "2025-01-02T03:04:06", "step": 1, "seed": 0, "parent_id": None, "notes": {},
                "status": "compile_error", "features": [], "metrics": {}, "reason": "no", **candidate}]
    meta = {"schema_version": "1", "created_at": "2025-01-02T03:04:05+00:00", "op_name": op, "seed": 0, "budget": 50,
            "dtype": "float16", "shape_suite": "glm_flash_small", "runtime": RUNTIME}
    entry = {"key": {"op_name": op, "dtype": "float16", "shape_signature": SHAPES[op], **RUNTIME},
             "source_hash": "0" * 64, "metrics": {name: metrics[name] for name in (
                 "latency_us", "speedup_vs_ref", "correctness_max_abs_err", "correctness_max_rel_err")}, **candidate}
    folder.mkdir(parents=True)
    (folder / "run_meta.json").write_text(json.dumps(meta))
    (folder / "run.ndjson").write_text("".join(json.dumps(record, sort_keys=True) + "\n" for record in records))
    (folder / "best_kernels.json").write_text(json.dumps({"schema_version": "2", "runtime": RUNTIME, "entries": [entry]}))


class Manual(unittest.TestCase):
    def setUp(self):
        self.temp = Path(tempfile.mkdtemp(prefix="kd_manual_"))
        self.addCleanup(shutil.rmtree, self.temp, ignore_errors=True)

    def kd(self, command, *more, **variables):
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env.update(HOME=str(self.temp), **variables)
        result = subprocess.run([KD, *command.split(), *more], cwd=self.temp, env=env, capture_output=True, text=True,
                                timeout=300)
        self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}")
        return result

    def with_hub(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not installed")
        hub = FakeHub({"mlx-community/GLM-4.7-Flash-4bit": File(json.dumps(GLM))})
        self.addCleanup(hub.close)
        return {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(self.temp / "cache")}

    def test_searches(self):
        variables = self.with_hub()
        for command in SEARCHES:
            self.kd(command.replace("--budget 200", "--budget 2").replace("--budget 50", "--budget 2"), "--device",
                    "null", **variables)
            for name in ("run_meta.json", "run.ndjson", "report.md", "best_kernels.json"):
                self.assertTrue((self.temp / command.split()[-1] / name).is_file(), f"{command}: {name}")

    def test_suggest_shapes(self):
        result = self.kd(SUGGEST, **self.with_hub())
        for op in ("rmsnorm_residual", "swiglu", "rope"):
            self.assertIn(op, result.stdout)

    def test_shape_log(self):
        line = {"ts": "2025-01-02T03:04:05", "op_name": "rmsnorm", "dtype": "float16", "source": "zmlx.patch",
                "shape_signature": SHAPES["rmsnorm"], "count": 3}
        (self.temp / "shapes.jsonl").write_text(json.dumps(line) + "\n")
        self.kd("run --op rmsnorm --shape-log shapes.jsonl --budget 2 --bench-mode legacy --device null --out runs/logged")
        meta = json.loads((self.temp / "runs/logged/run_meta.json").read_text())
        self.assertEqual(meta["sizes"], ["rows=1,D=2048"])

    def test_report(self):
        write_old_run(self.temp / "runs/kd_rmsnorm", "rmsnorm")
        self.kd(REPORT)
        self.assertIn("rmsnorm_0123456789abcdef", (self.temp / "runs/kd_rmsnorm/report.md").read_text())

    def test_install(self):
        write_old_run(self.temp / "runs/kd_rmsnorm", "rmsnorm")
        self.kd(INSTALL)
        pack = json.loads((self.temp / "configs/discovered_kernels.json").read_text())
        self.assertEqual([entry["key"]["op_name"] for entry in pack["entries"]], ["rmsnorm"])

    def test_pack(self):
        for op in ("rmsnorm_residual", "swiglu", "rope"):
            write_old_run(self.temp / f"runs/kd_{op}", op)
        self.kd(PACK)
        pack = json.loads((self.temp / "kernelpacks/applegpu_g16s.json").read_text())
        self.assertEqual(sorted(entry["key"]["op_name"] for entry in pack["entries"]),
                         ["rmsnorm_residual", "rope", "swiglu"])


if __name__ == "__main__":
    unittest.main()
