#include "mlx_kd/python/bindings.h"
#include "mlx_kd/python/decode_layer.h"

namespace mlx_kd::python {
namespace {

using MaybeArray = std::optional<mx::array>;

// A key of a module or a name of an attribute; interned, so that a lookup compares pointers.
nb::object key(const char* text) {
  return nb::steal(PyUnicode_InternFromString(text));
}

struct Missing {};  // what a step needs is not there: the layer's own code runs

nb::object item(nb::handle module, const nb::object& name) {
  PyObject* const value = PyObject_GetItem(module.ptr(), name.ptr());
  if (!value) PyErr_Clear(), throw Missing();
  return nb::steal(value);
}

nb::object attribute(nb::handle object, const nb::object& name) {
  PyObject* const value = PyObject_GetAttr(object.ptr(), name.ptr());
  if (!value) PyErr_Clear(), throw Missing();
  return nb::steal(value);
}

template <class T>
T as(nb::handle value) {
  T result;
  if (!nb::try_cast(value, result)) throw Missing();
  return result;
}

template <>
mx::array as(nb::handle value) {
  mx::array* found = nullptr;
  if (!nb::try_cast(value, found) || !found) throw Missing();
  return *found;
}

MaybeArray array_if_there(nb::handle module, const nb::object& name) {
  if (PyDict_Contains(module.ptr(), name.ptr()) != 1) return std::nullopt;
  const nb::object value = item(module, name);
  return value.is_none() ? MaybeArray() : as<mx::array>(value);
}

constexpr const char* kDoc =
    R"(A decoder layer's step of decoding as one call: attention with its cache, then the feed-forward part.

Made from the names of the layer's parts and called with the layer, its input and its cache. Weights
are read at each call. The operators are those of ``mlx_kd``, in the order in which
:mod:`mlx_kd.patching` calls them one by one.

Parameters
----------
names : dict of str to str
    ``attention, attention_norm, mlp, mlp_norm, out, heads, kv_heads, scale, gate, up, down`` and, for
    a layer with norms of queries and keys, ``q_norm, k_norm``. A layer with experts has ``router,
    experts`` and ``top`` too: parts and an attribute of ``mlp``; ``gate, up, down`` are parts of
    ``experts`` then.
linear, norm, rope, caches : sequence of type
    Classes that the layer's products, norms, rotation and cache may have; a subclass that is for
    one names it in ``_kd_original``.
quantized : bool
    Whether the products are quantised.
activation : int
    0: silu, 1: gelu in its tanh form.
freqs : bool
    Whether the rotation has an array of frequencies, ``_freqs``.
experts : sequence of type
    Classes that the experts and their products may have.
scoring : int
    Of the router, as the operator ``router`` has it.)";

constexpr const char* kCallDoc = R"(The layer's result for one position.

Parameters
----------
layer : mlx.nn.Module
    The layer.
x : mlx.core.array
    [B, 1, width].
cache : object
    With attributes ``keys`` and ``values``, [B, heads, room, D], and ``offset``, all of which are set.

Returns
-------
mlx.core.array or None
    [B, 1, width]; ``None``, and nothing has changed, if a part is not of the classes named, or the
    cache has no room for the position.)";

class DecodeStep {
 public:
  DecodeStep(const nb::dict& names, nb::tuple linear, nb::tuple norm, nb::tuple rope,
             nb::tuple caches, bool quantized, int activation, bool freqs, nb::tuple experts,
             int scoring);

  MaybeArray operator()(nb::handle layer, const mx::array& x, nb::handle cache) const;

 private:
  nb::object name(const nb::dict& names, const char* part) const;
  nb::object name_if_there(const nb::dict& names, const char* part) const;
  nb::object child(nb::handle module, const nb::object& name, const nb::tuple& classes) const;
  bool is_one_of(nb::handle object, const nb::tuple& classes) const;
  bool has(nb::handle object, const nb::object& name) const;
  Linear linear_of(nb::handle module, const nb::object& name) const;
  Linear router_of(nb::handle mlp) const;
  Linear experts_of(nb::handle experts, const nb::object& name) const;
  void read_experts(nb::handle mlp, DecoderLayer& layer) const;
  Rotation rotation_of(nb::handle attention, int width) const;
  void read_attention(nb::handle attention, DecoderLayer& layer) const;
  DecoderLayer layer_of(nb::handle layer) const;

  nb::object weight_ = key("weight"), scales_ = key("scales"), biases_ = key("biases"),
             bias_ = key("bias"), eps_ = key("eps"), original_ = key("_kd_original"),
             q_ = key("q_proj"), k_ = key("k_proj"), v_ = key("v_proj"), rope_ = key("rope"),
             freqs_ = key("_freqs"), base_ = key("base"), rope_scale_ = key("scale"),
             dims_ = key("dims"), traditional_ = key("traditional"), keys_ = key("keys"),
             values_ = key("values"), offset_ = key("offset"), training_ = key("training"),
             normalises_ = key("norm_topk_prob"), shards_ = key("sharding_group"),
             global_scale_ = key("global_scale");
  nb::object attention_, attention_norm_, mlp_, mlp_norm_, out_, heads_, kv_heads_, scale_, gate_,
      up_, down_, q_norm_, k_norm_, router_, experts_, top_;
  nb::tuple linears_, norms_, ropes_, caches_, expert_classes_;
  bool quantized_, has_freqs_;
  int activation_, scoring_;
};

DecodeStep::DecodeStep(const nb::dict& names, nb::tuple linear, nb::tuple norm, nb::tuple rope,
                       nb::tuple caches, bool quantized, int activation, bool freqs,
                       nb::tuple experts, int scoring)
    : attention_(name(names, "attention")),
      attention_norm_(name(names, "attention_norm")),
      mlp_(name(names, "mlp")),
      mlp_norm_(name(names, "mlp_norm")),
      out_(name(names, "out")),
      heads_(name(names, "heads")),
      kv_heads_(name(names, "kv_heads")),
      scale_(name(names, "scale")),
      gate_(name(names, "gate")),
      up_(name(names, "up")),
      down_(name(names, "down")),
      q_norm_(name_if_there(names, "q_norm")),
      k_norm_(name_if_there(names, "k_norm")),
      router_(name_if_there(names, "router")),
      experts_(name_if_there(names, "experts")),
      top_(name_if_there(names, "top")),
      linears_(std::move(linear)),
      norms_(std::move(norm)),
      ropes_(std::move(rope)),
      caches_(std::move(caches)),
      expert_classes_(std::move(experts)),
      quantized_(quantized),
      has_freqs_(freqs),
      activation_(activation),
      scoring_(scoring) {}

nb::object DecodeStep::name(const nb::dict& names, const char* part) const {
  nb::object found = name_if_there(names, part);
  if (!found.is_none()) return found;
  throw std::invalid_argument("[DecodeStep] names lacks '" + std::string(part) +
                              "': give the name of that part of the layer");
}

nb::object DecodeStep::name_if_there(const nb::dict& names, const char* part) const {
  return names.contains(part) ? key(nb::cast<std::string>(names[part]).c_str()) : nb::none();
}

bool DecodeStep::is_one_of(nb::handle object, const nb::tuple& classes) const {
  const nb::handle own = object.type();
  for (const nb::handle one : classes)
    if (one.is(own)) return true;
  if (!PyObject_HasAttr(own.ptr(), original_.ptr())) return false;
  const nb::object original = attribute(own, original_);
  for (const nb::handle one : classes)
    if (one.is(original)) return true;
  return false;
}

nb::object DecodeStep::child(nb::handle module, const nb::object& name,
                             const nb::tuple& classes) const {
  nb::object found = item(module, name);
  if (!is_one_of(found, classes)) throw Missing();
  return found;
}

Linear DecodeStep::linear_of(nb::handle module, const nb::object& name) const {
  const nb::object linear = child(module, name, linears_);
  Linear parts{as<mx::array>(item(linear, weight_)), {}, {}, array_if_there(linear, bias_)};
  if (!quantized_) return parts;
  parts.scales = as<mx::array>(item(linear, scales_));
  parts.biases = array_if_there(linear, biases_);
  return parts;
}

// Whether the attribute is there, and neither None nor False.
bool DecodeStep::has(nb::handle object, const nb::object& name) const {
  PyObject* const value = PyObject_GetAttr(object.ptr(), name.ptr());
  if (!value) return PyErr_Clear(), false;
  const nb::object held = nb::steal(value);
  return PyObject_IsTrue(held.ptr()) == 1;
}

Linear DecodeStep::router_of(nb::handle mlp) const {
  const nb::object linear = child(mlp, router_, linears_);
  return {as<mx::array>(item(linear, weight_)), array_if_there(linear, scales_),
          array_if_there(linear, biases_), array_if_there(linear, bias_)};
}

Linear DecodeStep::experts_of(nb::handle experts, const nb::object& name) const {
  const nb::object linear = child(experts, name, expert_classes_);
  if (array_if_there(linear, global_scale_) || has(linear, global_scale_)) throw Missing();
  return {as<mx::array>(item(linear, weight_)), as<mx::array>(item(linear, scales_)),
          array_if_there(linear, biases_), array_if_there(linear, bias_)};
}

// A router has no gradient.
void DecodeStep::read_experts(nb::handle mlp, DecoderLayer& layer) const {
  if (has(mlp, training_) || has(mlp, shards_)) throw Missing();
  layer.experts = Experts{router_of(mlp), as<int64_t>(attribute(mlp, top_)), scoring_,
                          scoring_ == 2 || has(mlp, normalises_)};
}

Rotation DecodeStep::rotation_of(nb::handle attention, int width) const {
  const nb::object rope = child(attention, rope_, ropes_);
  Rotation rotation;
  const auto dims = as<int64_t>(attribute(rope, dims_));
  rotation.dims = dims == width ? 0 : dims;
  rotation.traditional = as<bool>(attribute(rope, traditional_));
  if (has_freqs_) {
    rotation.freqs = as<mx::array>(item(rope, freqs_));
  } else {
    rotation.base = as<double>(attribute(rope, base_));
    rotation.scale = as<double>(attribute(rope, rope_scale_));
  }
  return rotation;
}

// Of a layer with norms of queries and keys, and of all.
void DecodeStep::read_attention(nb::handle attention, DecoderLayer& layer) const {
  layer.heads = as<int>(attribute(attention, heads_));
  layer.kv_heads = as<int>(attribute(attention, kv_heads_));
  layer.scale = as<double>(attribute(attention, scale_));
  layer.rotation = rotation_of(attention, layer.q.weight.shape(0) / layer.heads);
  if (q_norm_.is_none()) return;
  const nb::object first = child(attention, q_norm_, norms_);
  layer.q_norm = as<mx::array>(item(first, weight_));
  layer.k_norm = as<mx::array>(item(child(attention, k_norm_, norms_), weight_));
  layer.head_eps = as<double>(attribute(first, eps_));
}

DecoderLayer DecodeStep::layer_of(nb::handle layer) const {
  const nb::object attention = item(layer, attention_), mlp = item(layer, mlp_);
  const bool has_experts = !experts_.is_none();
  const nb::object products = has_experts ? child(mlp, experts_, expert_classes_) : mlp;
  const auto half = [&](const nb::object& name) {
    return has_experts ? experts_of(products, name) : linear_of(products, name);
  };
  const nb::object first = child(layer, attention_norm_, norms_),
                   second = child(layer, mlp_norm_, norms_);
  DecoderLayer of{.q = linear_of(attention, q_),
                  .k = linear_of(attention, k_),
                  .v = linear_of(attention, v_),
                  .out = linear_of(attention, out_),
                  .gate = half(gate_),
                  .up = half(up_),
                  .down = half(down_),
                  .attention_norm = as<mx::array>(item(first, weight_)),
                  .mlp_norm = as<mx::array>(item(second, weight_)),
                  .q_norm = {},
                  .k_norm = {},
                  .rotation = {},
                  .attention_eps = as<double>(attribute(first, eps_)),
                  .mlp_eps = as<double>(attribute(second, eps_)),
                  .head_eps = 1e-6,
                  .scale = 1,
                  .heads = 1,
                  .kv_heads = 1,
                  .activation = activation_};
  if (!of.q.has_format_of(of.k) || !of.q.has_format_of(of.v)) throw Missing();
  if (!of.gate.has_format_of(of.up) || of.gate.bias.has_value() != of.up.bias.has_value())
    throw Missing();
  if (of.gate.bias && !has_experts) throw Missing();
  if (has_experts) read_experts(mlp, of);
  read_attention(attention, of);
  return of;
}

MaybeArray DecodeStep::operator()(nb::handle layer, const mx::array& x, nb::handle cache) const {
  try {
    if (x.ndim() != 3 || x.shape(1) != 1 || !is_one_of(cache, caches_)) return std::nullopt;
    const nb::object keys = attribute(cache, keys_);
    if (keys.is_none()) return std::nullopt;
    LayerCache room{as<mx::array>(keys), as<mx::array>(attribute(cache, values_)),
                    as<int>(attribute(cache, offset_))};
    if (!room.has_room(x)) return std::nullopt;
    const mx::array y = decode_one(layer.ptr(), layer_of(layer), x, room);
    cache.attr(keys_) = nb::cast(room.keys);
    cache.attr(values_) = nb::cast(room.values);
    cache.attr(offset_) = nb::cast(room.offset);
    return y;
  } catch (const Missing&) {
    return std::nullopt;
  }
}

}  // namespace

void add_decode_step(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<DecodeStep>(m, "DecodeStep", kDoc)
      .def(nb::init<const nb::dict&, nb::tuple, nb::tuple, nb::tuple, nb::tuple, bool, int, bool,
                    nb::tuple, int>(),
           "names"_a, "linear"_a, "norm"_a, "rope"_a, "caches"_a, "quantized"_a, "activation"_a,
           "freqs"_a, "experts"_a = nb::tuple(), "scoring"_a = 0,
           nb::sig(
               "def __init__(self, names: dict[str, str], linear: tuple[type, ...], norm: "
               "tuple[type, ...], rope: tuple[type, ...], caches: tuple[type, ...], quantized: "
               "bool, activation: int, freqs: bool, experts: tuple[type, ...] = (), scoring: int = "
               "0) -> None"))
      .def("__call__", &DecodeStep::operator(), "layer"_a, "x"_a, "cache"_a.none(), kCallDoc);
}

}  // namespace mlx_kd::python
