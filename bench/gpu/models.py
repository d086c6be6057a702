"""The models that all sides run on a GPU: structures of Llama and Qwen3 with random weights, in mlx-lm and in PyTorch."""
LLAMA_8B = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5,
            "vocab_size": 128256, "rope_theta": 5e5, "max_position_embeddings": 8192, "tie_word_embeddings": False}
QWEN3_4B = {"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6,
            "vocab_size": 151936, "rope_theta": 1e6, "max_position_embeddings": 40960, "tie_word_embeddings": True}
QWEN3_30B = {"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 12, "intermediate_size": 6144,
             "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "rms_norm_eps": 1e-6,
             "vocab_size": 151936, "rope_theta": 1e6, "max_position_embeddings": 40960, "tie_word_embeddings": False,
             "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": True,
             "decoder_sparse_step": 1, "mlp_only_layers": []}
MODELS = {"llama-8b": LLAMA_8B, "qwen3-4b": QWEN3_4B, "qwen3-30b-a3b-12": QWEN3_30B}  # the last: 12 of its 48 layers
GROUP = 64


def weight_bytes(shape, bits):
    """Bytes of weights that a token reads: all but the embedding, which is read where it is the head too; of experts,
    those that it chooses. The router has 8 bits, or 16."""
    hidden, experts = shape["hidden_size"], shape.get("num_experts", 0)
    mlp = shape["num_experts_per_tok"] * shape["moe_intermediate_size"] if experts else shape["intermediate_size"]
    queries = shape["num_attention_heads"] * shape["head_dim"]
    keys = shape["num_key_value_heads"] * shape["head_dim"]
    layer = hidden * (2 * queries + 2 * keys + 3 * mlp)
    elements = shape["num_hidden_layers"] * layer + shape["vocab_size"] * hidden
    routers = shape["num_hidden_layers"] * experts * hidden
    if bits == 16:
        return 2 * (elements + routers)
    return elements * (bits / 8 + 4 / GROUP) + routers * (1 + 4 / GROUP)


def quantisable(model):
    """What mlx-lm quantises of a model, and how: its router has 8 bits."""
    own = getattr(model, "quant_predicate", None)
    return lambda path, module: hasattr(module, "to_quantized") and (own(path, module) if own else True)


def mlx_model(name, bits):
    """mlx-lm's model in bfloat16, quantised below 16 bits."""
    import importlib

    import mlx.core as mx
    import mlx.nn as nn

    shape = MODELS[name]
    module = importlib.import_module("mlx_lm.models." + shape["model_type"])
    mx.random.seed(0)
    model = module.Model(module.ModelArgs.from_dict(shape))
    model.set_dtype(mx.bfloat16)
    if bits < 16:
        nn.quantize(model, group_size=GROUP, bits=bits, class_predicate=quantisable(model))
    model.eval()
    mx.eval(model.parameters())
    return model


def torch_model(name, bits, length):
    """The same structure with a cache of fixed length, as torch.compile with CUDA graphs needs it."""
    import torch
    from torch import nn
    from torch.nn import functional

    if "num_experts" in MODELS[name]:
        raise SystemExit(f"{name} is not written in PyTorch here: its experts have no products of 4 bits")
    shape, place = MODELS[name], {"device": "cuda", "dtype": torch.bfloat16}
    heads, kv_heads, width = shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"]
    hidden, mlp, eps = shape["hidden_size"], shape["intermediate_size"], shape["rms_norm_eps"]

    class FourBits(nn.Module):  # torch's own product of 4 bits
        def __init__(self, columns, rows):
            super().__init__()
            codes = torch.randint(0, 255, (rows, columns // 2), dtype=torch.uint8, device="cuda")
            self.codes = nn.Buffer(torch.ops.aten._convert_weight_to_int4pack(codes, 8))
            self.scales = nn.Buffer(torch.randn(columns // GROUP, rows, 2, **place) * 0.01)

        def forward(self, x):
            y = torch.ops.aten._weight_int4pack_mm(x.view(-1, x.shape[-1]), self.codes, GROUP, self.scales)
            return y.view(*x.shape[:-1], -1)

    def product(columns, rows):
        return FourBits(columns, rows) if bits == 4 else nn.Linear(columns, rows, bias=False, **place)

    def norm(size):
        return nn.RMSNorm(size, eps, **place)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = product(hidden, (heads + 2 * kv_heads) * width), product(heads * width, hidden)
            self.gate_up, self.down = product(hidden, 2 * mlp), product(mlp, hidden)
            self.first, self.second = norm(hidden), norm(hidden)
            has_norms = shape["model_type"] == "qwen3"
            self.q_norm, self.k_norm = (norm(width), norm(width)) if has_norms else (None, None)
            self.keys = nn.Buffer(torch.zeros(1, kv_heads, length, width, **place))
            self.values = nn.Buffer(torch.zeros_like(self.keys))

        def forward(self, x, at, cos, sin, mask):
            q, k, v = self.qkv(self.first(x)).view(1, 1, -1, width).split([heads, kv_heads, kv_heads], 2)
            if self.q_norm is not None:
                q, k = self.q_norm(q), self.k_norm(k)

            def turned(t):
                half = width // 2
                return (t * cos + torch.cat([-t[..., half:], t[..., :half]], -1) * sin).transpose(1, 2)

            self.keys.index_copy_(2, at, turned(k))
            self.values.index_copy_(2, at, v.transpose(1, 2))
            y = functional.scaled_dot_product_attention(turned(q), self.keys, self.values, attn_mask=mask,
                                                        enable_gqa=True)
            x = x + self.out(y.transpose(1, 2).reshape(1, 1, -1))
            gate, up = self.gate_up(self.second(x)).chunk(2, -1)
            return x + self.down(functional.silu(gate) * up)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(shape["vocab_size"], hidden, **place)
            self.blocks = nn.ModuleList([Block() for _ in range(shape["num_hidden_layers"])])
            self.norm, self.head = norm(hidden), product(hidden, shape["vocab_size"])
            pairs = 1 / shape["rope_theta"] ** (torch.arange(0, width, 2, device="cuda").float() / width)
            turns = torch.outer(torch.arange(length, device="cuda").float(), pairs).repeat(1, 2)
            self.cos, self.sin = nn.Buffer(turns.cos().bfloat16()), nn.Buffer(turns.sin().bfloat16())

        def forward(self, token, at):
            x = self.embedding(token)[:, None]
            mask = (torch.arange(length, device="cuda") <= at)[None, None, None]
            for block in self.blocks:
                x = block(x, at, self.cos[at], self.sin[at], mask)
            return self.head(self.norm(x))[:, -1].argmax(-1)

    return Model().eval().requires_grad_(False)
