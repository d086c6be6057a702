"""What a module is, read off its children and the code of its ``__call__``: no class of a model is named here.

A module's code names what it does. A replacement is considered only if every name in that code is understood; whether
it computes the same is then proved by running both (proof.py).
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Optional, Union

import mlx.core as mx

nn: Any = import_module("mlx.nn")  # without types for a type checker
ROWS = 16  # of a decode call, at most
ARRAY_NAMES = frozenset({"shape", "reshape", "transpose", "swapaxes", "ndim", "dtype", "size"})


class Unknown(NamedTuple):
    """Why a module that looks like a known kind has no replacement."""
    why: str


def original_class(module: Any) -> Any:
    """The class that the module had before it was patched."""
    return getattr(type(module), "_kd_original", type(module))


def has_call_of(module: Any, cls: Any) -> bool:
    return original_class(module).__call__ is cls.__call__


class Code(NamedTuple):
    names: tuple[str, ...]
    arguments: tuple[str, ...]
    constants: tuple[Any, ...]
    globals: dict[str, Any]


def code_of(module: Any) -> Optional[Code]:
    function = original_class(module).__call__
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return Code(code.co_names, code.co_varnames[:code.co_argcount], code.co_consts, function.__globals__)


def child_names(module: Any) -> list[str]:
    return [name for name, value in module.items() if isinstance(value, nn.Module)]


def first_of(module: Any, names: tuple[str, ...]) -> Optional[str]:
    return next((name for name in names if name in module or name in module.__dict__), None)


def not_understood(code: Code, known: frozenset[str]) -> str:
    return ", ".join(sorted(set(code.names) - known))


# Products.

@dataclass(frozen=True)
class Product:
    quantized: bool
    classes: frozenset[Any]  # that such a module may have: MLX's and ours


def product_of(module: Any) -> Union[Product, Unknown]:
    for cls, quantized in ((nn.QuantizedLinear, True), (nn.Linear, False)):
        if has_call_of(module, cls):
            return Product(quantized, frozenset({original_class(module)}))
    name = type(module).__name__
    if "Sharded" in name:
        return Unknown(f"it is sharded ({name})")
    return Unknown(f"{name} is not a linear layer of mlx.nn")


def is_embedding(module: Any) -> bool:
    return has_call_of(module, nn.QuantizedEmbedding) or has_call_of(module, nn.Embedding)


def format_of(linear: Any) -> tuple[Any, ...]:
    return (*(getattr(linear, name, None) for name in ("bits", "group_size", "mode")), "bias" in linear)


def products_of(module: Any, names: tuple[str, ...]) -> Union[Product, Unknown]:
    """Of several children: all quantised or none."""
    found = []
    for name in names:
        product = product_of(module[name])
        if isinstance(product, Unknown):
            return Unknown(f"{name}: {product.why}")
        found.append(product)
    if len({product.quantized for product in found}) > 1:
        return Unknown(f"of {', '.join(names)} some are quantised and some are not")
    if len({format_of(module[name]) for name in names[:-1]}) > 1:  # one call takes all but the last
        return Unknown(f"{', '.join(names[:-1])} differ in bits, group, mode or in whether they have a bias")
    return Product(found[0].quantized, frozenset().union(*(product.classes for product in found)))


# Norms.

@dataclass(frozen=True)
class Norm:
    plus_one: bool  # the norm multiplies with 1 + weight
    cls: Any


def norm_of(module: Any) -> Optional[Norm]:
    if has_call_of(module, nn.RMSNorm):
        return Norm(False, original_class(module))
    code = code_of(module)
    if code and code.names == ("mx", "fast", "rms_norm", "weight", "eps") and 1.0 in code.constants:
        return Norm(True, original_class(module))
    return None


# Rotary positions.

@dataclass(frozen=True)
class Rope:
    has_freqs: bool
    cls: Any


FREQS_NAMES = frozenset({"mx", "fast", "rope", "dims", "traditional", "_freqs"})


def rope_of(module: Any) -> Optional[Rope]:
    if has_call_of(module, nn.RoPE):
        return Rope(False, original_class(module))
    code = code_of(module)
    if code and frozenset(code.names) == FREQS_NAMES and 1.0 in code.constants:
        return Rope(True, original_class(module))
    return None


# Gated feed-forward layers.

@dataclass(frozen=True)
class Mlp:
    gate: str
    up: str
    down: str
    activation: int  # 0: silu, 1: gelu in its tanh form
    product: Product


GATES = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))


def activation_of(code: Code) -> Optional[int]:
    """By the globals that the code names."""
    known = sys.modules.get("mlx_lm.models.activations")
    kinds = set()
    for name in code.names:
        value = code.globals.get(name)
        if value is not None and known is not None and value is getattr(known, "swiglu", None):
            kinds.add(0)
        elif value is nn.silu or (name == "silu" and code.globals.get("nn") is nn):
            kinds.add(0)
        elif value is nn.gelu_approx or (name == "gelu_approx" and code.globals.get("nn") is nn):
            kinds.add(1)
    return kinds.pop() if len(kinds) == 1 else None


def mlp_of(module: Any) -> Union[Mlp, Unknown, None]:
    names = next((names for names in GATES if all(isinstance(module.get(name), nn.Module) for name in names)), None)
    if names is None:
        return None
    code = code_of(module)
    if code is None or code.arguments != ("self", "x"):
        return Unknown("its __call__ does not take x alone")
    activation = activation_of(code)
    if activation is None:
        return Unknown("its activation is neither silu nor gelu_approx by the names in its code")
    known = frozenset(names) | {"swiglu", "silu", "gelu_approx", "nn"}
    if odd := not_understood(code, known):
        return Unknown(f"its code names {odd}")
    product = products_of(module, names)
    return product if isinstance(product, Unknown) else Mlp(*names, activation, product)


# Attention.

@dataclass(frozen=True)
class Attention:
    out: str
    heads: Optional[str]  # attributes
    kv_heads: Optional[str]
    head_dim: int
    scale: str
    norms: Optional[tuple[str, str]]
    norm: Optional[Norm]
    rope: Optional[Rope]
    sinks: bool
    gated: bool  # q_proj gives a gate too, next to the queries of each head
    product: Product


QKV = ("q_proj", "k_proj", "v_proj")
NORM_PAIRS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"))
HEADS = (("n_heads", "n_kv_heads"), ("num_heads", "num_kv_heads"), ("num_attention_heads", "num_key_value_heads"))
GATE_NAMES = frozenset({"split", "sigmoid"})
ATTENTION_NAMES = ARRAY_NAMES | GATE_NAMES | frozenset(QKV) | {
    "rope", "offset", "update_and_fetch", "scaled_dot_product_attention", "mx", "fast", "head_dim", "sinks", "scale",
    "sm_scale"} | {name for pair in NORM_PAIRS + HEADS for name in pair}


def is_mlx_attention(code: Code) -> bool:
    """Whether the attention that the code names is MLX's, called by itself or through mlx_lm.models.base."""
    value = code.globals.get("scaled_dot_product_attention")
    if value is not None:
        return getattr(value, "__module__", "") == "mlx_lm.models.base" or value is mx.fast.scaled_dot_product_attention
    return "fast" in code.names and code.globals.get("mx") is mx


def attention_of(module: Any) -> Union[Attention, Unknown, None]:
    if not all(isinstance(module.get(name), nn.Module) for name in QKV):
        return None
    out, scale = first_of(module, ("o_proj", "out_proj")), first_of(module, ("scale", "sm_scale"))
    code = code_of(module)
    if code is None or code.arguments != ("self", "x", "mask", "cache"):
        return Unknown("its __call__ does not take x, mask and cache")
    if out is None or scale is None or "rope" not in module:
        return Unknown("it lacks an output projection, a scale or a rope")
    if odd := not_understood(code, ATTENTION_NAMES | {out}):
        return Unknown(f"its code names {odd}")
    if "scaled_dot_product_attention" not in code.names or not is_mlx_attention(code):
        return Unknown("its attention is not mx.fast.scaled_dot_product_attention")
    heads = next((pair for pair in HEADS if all(name in module.__dict__ for name in pair)), None)
    if heads is None:
        return Unknown("its numbers of heads are not found")
    product = products_of(module, (*QKV, out))
    if isinstance(product, Unknown):
        return product
    norms = next((pair for pair in NORM_PAIRS if all(name in module for name in pair)), None)
    norm = norm_of(module[norms[0]]) if norms else None
    if norms and norm is None:
        return Unknown(f"{norms[0]} is not an rmsnorm")
    gated, width = GATE_NAMES <= set(code.names), output_size(module["k_proj"]) // getattr(module, heads[1])
    if output_size(module["q_proj"]) != width * getattr(module, heads[0]) * (2 if gated else 1):
        return Unknown(f"its q_proj has {output_size(module['q_proj'])} outputs, of heads of {width}")
    return Attention(out, *heads, width, scale, norms, norm, rope_of(module["rope"]), "sinks" in code.names, gated, product)


def output_size(linear: Any) -> int:
    return int(linear["weight"].shape[0])


def input_size(linear: Any) -> int:
    """Of a linear layer, dense or quantised."""
    width = int(linear["weight"].shape[1])
    return width * 32 // linear.bits if "scales" in linear else width


# Decoder blocks.

@dataclass(frozen=True)
class Block:
    attention: str  # children
    attention_norm: str
    mlp: str
    mlp_norm: str
    norm: Norm


def block_of(module: Any) -> Union[Block, Unknown, None]:
    """x + r; norm; h + r: two norms and two other children, in the order in which the code names them."""
    children = child_names(module)
    norms = [name for name in children if norm_of(module[name])]
    others = [name for name in children if name not in norms]
    if len(norms) < 2 or len(others) < 2 or any(name in QKV for name in others):
        return None
    code = code_of(module)
    if code is None or code.arguments != ("self", "x", "mask", "cache"):
        return Unknown("its __call__ does not take x, mask and cache")
    if any(isinstance(product_of(module[name]), Product) for name in others):
        return Unknown("it has norms and linear layers, and is not an attention or feed-forward layer of a known kind")
    if len(norms) != 2 or len(others) != 2:
        return Unknown(f"it has {len(norms)} norms and {len(others)} other parts: h = x + r; norm(h); h + r has 2 and 2")
    odd = [name for name in code.names if name not in children and not is_switch(module, name)
           and (name in code.globals or hasattr(mx.array, name) or hasattr(module, name))]
    if odd:
        return Unknown(f"its code names {', '.join(odd)}")
    order = {name: code.names.index(name) for name in children if name in code.names}
    if len(order) != 4:
        return Unknown("its code does not name all of its parts")
    (first, second), (before, between) = sorted(others, key=order.__getitem__), sorted(norms, key=order.__getitem__)
    norm = norm_of(module[before])
    if norm is None or norm != norm_of(module[between]):
        return Unknown("its two norms differ")
    return Block(first, before, second, between, norm)


def is_switch(module: Any, name: str) -> bool:
    return isinstance(module.__dict__.get(name), bool)
