"""The model that all sides run: Llama's structure with random weights, for mlx-lm and as a GGUF file."""
from pathlib import Path

SHAPE = {"hidden": 2048, "layers": 8, "mlp": 5632, "heads": 32, "kv_heads": 4, "head_dim": 64, "vocab": 32000}
FORMATS = {"4 bits": (4, "Q4_0"), "8 bits": (8, "Q8_0"), "bf16": (16, "BF16")}  # mlx-lm's bits, llama.cpp's type
GROUP = 64
EPS = 1e-5


def mlx_model(bits, shape):
    """mlx-lm's Llama in bfloat16, quantised below 16 bits."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.models import llama

    mx.set_default_device(mx.cpu)
    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(dict(
        model_type="llama", hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
        intermediate_size=shape["mlp"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"], rms_norm_eps=EPS, vocab_size=shape["vocab"], tie_word_embeddings=False)))
    model.set_dtype(mx.bfloat16)
    if bits < 16:
        nn.quantize(model, group_size=GROUP, bits=bits)
    model.eval()
    for module in model.modules():  # weights are made one module at a time: all at once, in float32, take much memory
        mx.eval(list(module.values()) if not module.children() else [])
    mx.eval(model.parameters())
    mx.clear_cache()
    return model


def write_gguf(path, kind, shape):
    """The same shape for llama.cpp. Written whole or not at all."""
    import gguf
    import numpy as np

    quantisation = gguf.GGMLQuantizationType[kind]
    random = np.random.default_rng(0)
    part = Path(path).with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["mlp"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_vocab_size(shape["vocab"])
    add_vocabulary(writer, shape["vocab"])

    def ones(name):
        writer.add_tensor(name, np.ones(shape["hidden"], np.float32))

    def weight(name, rows, columns):
        values = (random.standard_normal((rows, columns)) * 0.02).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, quantisation), raw_dtype=quantisation)

    hidden, mlp = shape["hidden"], shape["mlp"]
    queries, keys = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    weight("token_embd.weight", shape["vocab"], hidden)
    weight("output.weight", shape["vocab"], hidden)
    ones("output_norm.weight")
    for layer in range(shape["layers"]):
        block = f"blk.{layer}."
        ones(block + "attn_norm.weight")
        ones(block + "ffn_norm.weight")
        for name, rows, columns in (("attn_q", queries, hidden), ("attn_k", keys, hidden), ("attn_v", keys, hidden),
                                    ("attn_output", hidden, queries), ("ffn_gate", mlp, hidden),
                                    ("ffn_up", mlp, hidden), ("ffn_down", hidden, mlp)):
            weight(f"{block}{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def add_vocabulary(writer, size):
    """Three special tokens, the bytes, and names for the rest."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [2, 3, 3] + [6] * 256
    tokens += [f"t{number}" for number in range(size - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * size)
    writer.add_token_types(types + [1] * (size - len(types)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
