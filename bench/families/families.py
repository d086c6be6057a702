"""Families of language models as few layers of realistic widths with random weights, for mlx-lm."""

COMMON = dict(num_hidden_layers=2, vocab_size=8192, rms_norm_eps=1e-6, rope_theta=1e6, max_position_embeddings=40960,
              tie_word_embeddings=False)
LATENT = dict(kv_lora_rank=512, qk_rope_head_dim=64, norm_topk_prob=True, moe_layer_freq=1, attention_bias=False,
              n_shared_experts=1, routed_scaling_factor=1.8, first_k_dense_replace=1)

# Widths of a published model of each family; layers, vocabulary and the number of experts are few. Of kinds of layers
# that alternate in a family there is one of each.
CONFIGS = {
    "llama": dict(hidden_size=2048, intermediate_size=8192, num_attention_heads=32, num_key_value_heads=8, head_dim=64),
    "qwen3": dict(hidden_size=2048, intermediate_size=6144, num_attention_heads=16, num_key_value_heads=8, head_dim=128),
    "qwen3_moe": dict(hidden_size=2048, intermediate_size=6144, num_attention_heads=32, num_key_value_heads=4,
                      head_dim=128, num_experts=16, num_experts_per_tok=8, decoder_sparse_step=1,
                      moe_intermediate_size=768, norm_topk_prob=True, mlp_only_layers=[]),
    "glm4_moe_lite": dict(LATENT, hidden_size=2048, intermediate_size=10240, num_attention_heads=20,
                          num_key_value_heads=20, n_routed_experts=16, num_experts_per_tok=4, q_lora_rank=768,
                          qk_nope_head_dim=192, v_head_dim=256, moe_intermediate_size=1536, n_group=1, topk_group=1,
                          rope_scaling=None, num_nextn_predict_layers=0, partial_rotary_factor=1.0),
    "lfm2": dict(hidden_size=2048, num_attention_heads=32, num_key_value_heads=8, norm_eps=1e-5, conv_bias=False,
                 conv_L_cache=3, block_dim=2048, block_ff_dim=8192, block_multiple_of=256, block_ffn_dim_multiplier=1.0,
                 block_auto_adjust_ff_dim=False, full_attn_idxs=[1]),
    "deepseek_v3": dict(LATENT, hidden_size=2048, intermediate_size=6144, num_attention_heads=32, num_key_value_heads=32,
                        n_routed_experts=16, num_experts_per_tok=8, q_lora_rank=1536, qk_nope_head_dim=128,
                        v_head_dim=128, moe_intermediate_size=1024, n_group=4, topk_group=2),
    "gpt_oss": dict(hidden_size=2880, intermediate_size=2880, num_attention_heads=64, num_key_value_heads=8, head_dim=64,
                    num_local_experts=16, num_experts_per_tok=4, sliding_window=128, rope_scaling=None,
                    layer_types=["sliding_attention", "full_attention"]),
    "gemma3_text": dict(hidden_size=1152, intermediate_size=6912, num_attention_heads=4, num_key_value_heads=1,
                        head_dim=256, query_pre_attn_scalar=256, sliding_window=512, sliding_window_pattern=2),
    "qwen3_next": dict(hidden_size=2048, intermediate_size=5120, num_attention_heads=16, num_key_value_heads=2,
                       head_dim=256, num_experts=16, num_local_experts=16, num_experts_per_tok=8, decoder_sparse_step=1,
                       moe_intermediate_size=512, shared_expert_intermediate_size=512, norm_topk_prob=True,
                       mlp_only_layers=[], linear_num_value_heads=32, linear_num_key_heads=16, linear_key_head_dim=128,
                       linear_value_head_dim=128, linear_conv_kernel_dim=4, partial_rotary_factor=0.25,
                       full_attention_interval=2)}
GROUP = 64


def model_of(family, bits):
    """In bfloat16, with 32 bits in float32; quantised below 16 bits."""
    import importlib

    import mlx.core as mx
    import mlx.nn as nn

    mx.set_default_device(mx.cpu)
    mx.random.seed(0)
    code = importlib.import_module(f"mlx_lm.models.{family}")
    model = code.Model(code.ModelArgs.from_dict({**COMMON, **CONFIGS[family], "model_type": family}))
    model.set_dtype(mx.float32 if bits == 32 else mx.bfloat16)
    if bits < 16:
        nn.quantize(model, group_size=GROUP, bits=bits,
                    class_predicate=lambda _, m: hasattr(m, "to_quantized") and m.weight.shape[-1] % GROUP == 0)
    model.eval()
    for module in model.modules():  # weights are made one module at a time: all at once, in float32, take much memory
        mx.eval(list(module.values()) if not module.children() else [])
    mx.eval(model.parameters())
    mx.clear_cache()
    return model
