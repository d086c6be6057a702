"""Small xLSTM models whose weights NumPy and MLX make alike, and the logits that NX-AI's xlstm_large gives for them.

    PYTHONPATH=. python tests/support/xlstm_models.py

writes tests/python/xlstm/logits.json anew; it needs PyTorch, xlstm and mlstm-kernels, the tests need none of them.
"""
import json
import math
from pathlib import Path

from tests.support.mlstm_cases import draw, sampled

FILE = Path(__file__).resolve().parents[1] / "python" / "xlstm" / "logits.json"
TOKENS = [[(7 * at * at + 3 * at + row) % 96 for at in range(40)] for row in range(2)]
CONFIGS = {mode: {"embedding_dim": 64, "num_heads": 4, "num_blocks": 3, "vocab_size": 96, "weight_mode": mode,
                  "use_bias": mode == "fused"} for mode in ("single", "fused")}


def weights(library, shapes):
    """Of each name of `shapes`, in the order of the names."""
    made = {}
    for at, name in enumerate(sorted(shapes)):
        shape = tuple(shapes[name])
        drawn = draw(library, math.prod(shape), 5000 + at).reshape(shape)
        is_norm = "norm" in name and name.endswith("weight")
        made[name] = drawn * 0.1 + 1 if is_norm else drawn * (1 if len(shape) == 1 else shape[-1] ** -0.5)
    return made


def main():
    import numpy
    import torch
    from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig
    found = {}
    for mode, config in CONFIGS.items():
        model = xLSTMLarge(xLSTMLargeConfig(
            **config, chunkwise_kernel="chunkwise--native_autograd", sequence_kernel="native_sequence__native",
            step_kernel="native", mode="inference", return_last_states=True, autocast_kernel_dtype="float32"))
        shapes = {name: x.shape for name, x in model.state_dict().items()}
        model.load_state_dict({name: torch.from_numpy(x) for name, x in weights(numpy, shapes).items()})
        with torch.no_grad():
            logits, _ = model(torch.tensor(TOKENS))
        found[mode] = [float(f"{x:.7g}") for x in sampled(logits.reshape(-1).tolist())]
    FILE.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
