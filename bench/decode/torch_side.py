"""The model in PyTorch at its best on a CPU: plain functions of a static cache, compiled by torch.compile.

Products: bfloat16 by oneDNN, 8 bits by torch's int8 weight-only product (a scale per row), 4 bits by its int4
weight-only product in groups of 64. Where the compiler does not work the functions run as they are, and `about` says
so.
"""
import time

EPS = 1e-5
GROUP = 64
ROOM = 8192  # positions of the cache


class Dense:
    def __init__(self, torch, rows, columns):
        self.torch = torch
        self.weight = torch.randn(rows, columns, dtype=torch.bfloat16) * 0.02

    def __call__(self, x):
        return self.torch.nn.functional.linear(x, self.weight)


class EightBits:
    def __init__(self, torch, rows, columns):
        self.torch = torch
        self.weight = torch.randint(-127, 128, (rows, columns), dtype=torch.int8)
        self.scales = torch.rand(rows, dtype=torch.bfloat16) * 1e-3

    def __call__(self, x):
        flat = x.reshape(-1, x.shape[-1])
        return self.torch.ops.aten._weight_int8pack_mm(flat, self.weight, self.scales).reshape(*x.shape[:-1], -1)


class FourBits:
    def __init__(self, torch, rows, columns):
        self.torch = torch
        values = torch.randint(0, 16, (rows, columns), dtype=torch.int32)
        self.weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)
        self.scales = torch.rand(columns // GROUP, rows, 2, dtype=torch.bfloat16) * 1e-2

    def __call__(self, x):
        flat = x.reshape(-1, x.shape[-1])
        y = self.torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.weight, GROUP, self.scales)
        return y.reshape(*x.shape[:-1], -1)


class Torch:
    """The same requests as the other sides: see worker.py."""

    def __init__(self, bits, shape, threads):
        import torch
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.shape = torch, shape
        linear = {4: FourBits, 8: EightBits, 16: Dense}[bits]
        heads, kv_heads, width = shape["heads"], shape["kv_heads"], shape["head_dim"]
        hidden, mlp = shape["hidden"], shape["mlp"]
        self.layers = [dict(qkv=linear(torch, (heads + 2 * kv_heads) * width, hidden),
                            out=linear(torch, hidden, heads * width), gate_up=linear(torch, 2 * mlp, hidden),
                            down=linear(torch, hidden, mlp)) for _ in range(shape["layers"])]
        self.norm = torch.ones(hidden, dtype=torch.bfloat16)
        self.table = torch.randn(shape["vocab"], hidden, dtype=torch.bfloat16) * 0.02
        self.head = linear(torch, shape["vocab"], hidden)
        self.caches = [torch.randn(2, 1, kv_heads, ROOM, width, dtype=torch.bfloat16) for _ in self.layers]
        angles = torch.outer(torch.arange(ROOM).float(), 10000.0 ** (-torch.arange(0, width, 2).float() / width))
        self.cos, self.sin = angles.cos(), angles.sin()
        self.how, self.compiled = "torch.compile", set()  # numbers of keys
        self.one = torch.compile(self.logits, dynamic=False)

    def compile(self, keys):
        """The step of one token; it runs as it is from then on where the compiler fails."""
        if keys in self.compiled:
            return
        self.compiled.add(keys)
        arguments = self.torch.tensor([[300]]), self.torch.tensor([keys - 1]), keys
        try:
            self.one(*arguments)
        except Exception as error:  # whatever its compiler throws
            self.how = f"without torch.compile, which fails: {str(error).splitlines()[0]}"
            self.one = self.logits

    def rotated(self, x, positions):
        """Of [1, T, heads, D]."""
        cos, sin = self.cos[positions][:, None, :], self.sin[positions][:, None, :]
        first, second = x.float().chunk(2, -1)
        return self.torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)

    def attention(self, layer, cache, x, positions, keys):
        functional, shape = self.torch.nn.functional, self.shape
        heads, kv_heads, width = shape["heads"], shape["kv_heads"], shape["head_dim"]
        count = x.shape[1]
        q, k, v = layer["qkv"](x).unflatten(-1, (-1, width)).split([heads, kv_heads, kv_heads], dim=2)
        q, k = (self.rotated(part, positions).transpose(1, 2) for part in (q, k))
        cache[0].index_copy_(2, positions, k)
        cache[1].index_copy_(2, positions, v.transpose(1, 2))
        at = self.torch.arange(keys)
        mask = at[None, :] <= positions[:, None]
        y = functional.scaled_dot_product_attention(q, cache[0][:, :, :keys], cache[1][:, :, :keys], attn_mask=mask,
                                                    enable_gqa=True)
        return layer["out"](y.transpose(1, 2).reshape(1, count, -1))

    def logits(self, tokens, positions, keys):
        """Of the last of the tokens; `keys` positions of the cache are read."""
        functional = self.torch.nn.functional
        x, width = self.table[tokens], (self.shape["hidden"],)
        for layer, cache in zip(self.layers, self.caches):
            x = x + self.attention(layer, cache, functional.rms_norm(x, width, self.norm, EPS), positions, keys)
            gate, up = layer["gate_up"](functional.rms_norm(x, width, self.norm, EPS)).chunk(2, -1)
            x = x + layer["down"](functional.silu(gate) * up)
        return self.head(functional.rms_norm(x[:, -1:], width, self.norm, EPS))

    def about(self):
        return {"versions": {"PyTorch": f"{self.torch.__version__}, {self.how}"}, "replaced": []}

    def prompt(self, count):
        tokens = self.torch.tensor([[300 + i % 1000 for i in range(count)]])
        with self.torch.inference_mode():
            start = time.perf_counter()
            self.logits(tokens, self.torch.arange(count), count)
            return time.perf_counter() - start

    def decode(self, context, count):
        """The keys that are read grow in steps of 256: a compiled step is for one size."""
        with self.torch.inference_mode():
            keys = [-(-(at + 1) // 256) * 256 for at in range(context, context + count)]
            for size in set(keys):
                self.compile(size)
            token = self.torch.tensor([[300]])
            start = time.perf_counter()
            for at, size in enumerate(keys, context):
                token = self.one(token, self.torch.tensor([at]), size).argmax(-1)
                token.item()
            return time.perf_counter() - start
