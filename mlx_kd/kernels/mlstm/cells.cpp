#include "mlx_kd/kernels/mlstm/cells.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/common/suites.h"

namespace mlx_kd::kernels::mlstm {
namespace {

using spec::Dims;
using spec::Distribution;
using spec::Dtype;
using spec::Shape;

constexpr size_t kState = 5;  // the inputs before it are always there
enum DimIndex { kHeads, kS, kQk, kHv, kHasState = 8 };

Shape if_given(const Dims& dims, Shape shape) {
  return dims.at("has_state") ? std::move(shape) : Shape{0};
}

// ---- signature

// The inputs of mlstm_chunkwise, then those that its gradient takes in addition: the dims behind
// the leading axes.
struct Expected {
  const char* port;
  size_t axes;
  DimIndex dims[2];
};
constexpr Expected kExpected[] = {{"q", 2, {kS, kQk}},   {"k", 2, {kS, kQk}}, {"v", 2, {kS, kHv}},
                                  {"i", 1, {kS}},        {"f", 1, {kS}},      {"c0", 2, {kQk, kHv}},
                                  {"n0", 1, {kQk}},      {"m0", 0, {}},       {"dh", 2, {kS, kHv}},
                                  {"dc", 2, {kQk, kHv}}, {"dn", 1, {kQk}},    {"dm", 0, {}}};

[[noreturn]] void refuse(const std::string& op, const char* port, const spec::ArrayView& array,
                         const std::string& wanted) {
  throw std::invalid_argument("[" + op + "] " + port + " has shape " + shape_text(array.shape) +
                              ": it must be " + wanted);
}

void check_shape(const std::string& op, const Expected& port, const spec::ArrayView& array,
                 std::span<const int32_t> leading, std::span<const int64_t> dims) {
  const size_t first = leading.size();
  bool fits = array.shape.size() == first + port.axes &&
              std::equal(leading.begin(), leading.end(), array.shape.begin());
  for (size_t i = 0; i < port.axes && fits; ++i)
    fits = array.shape[first + i] == dims[port.dims[i]];
  if (fits) return;
  Shape wanted(leading.begin(), leading.end());
  for (size_t i = 0; i < port.axes; ++i) wanted.push_back(dims[port.dims[i]]);
  refuse(op, port.port, array, shape_text(wanted) + ", as q and v say");
}

// ---- sizes of sequences

std::vector<spec::Dim> chunkwise_dims() {
  const auto attribute = spec::Dim::Kind::attribute;
  return {{.name = "heads", .leading = true, .free = true},
          {.name = "S", .free = true},
          {"DHQK"},
          {"DHHV"},
          {.name = "siging", .kind = attribute},
          {.name = "normalize", .kind = attribute, .default_value = 1},
          {.name = "normalizer_grad", .kind = attribute, .default_value = 1},
          {.name = "chunk", .kind = attribute},
          {.name = "has_state", .kind = attribute}};
}

// Reads the sizes off the inputs, and sees that they go together and, of the gradient, with the
// cotangents dh, dc, dn, dm behind them.
void read_chunkwise(const std::string& op, std::span<const spec::ArrayView> in,
                    std::span<int64_t> dims) {
  const auto q = in[0].shape, v = in[2].shape;
  if (q.size() < 2) refuse(op, "q", in[0], "of at least 2 axes: (..., S, DHQK)");
  if (v.size() != q.size()) refuse(op, "v", in[2], "of as many axes as q: (..., S, DHHV)");
  const auto leading = q.first(q.size() - 2);
  dims[kHeads] = 1;
  for (const int32_t extent : leading) dims[kHeads] *= extent;
  dims[kS] = q[q.size() - 2], dims[kQk] = q.back(), dims[kHv] = v.back();
  dims[kHasState] = 0;
  for (size_t i = kState; i < kState + 3; ++i)
    if (!is_left_out(in[i])) dims[kHasState] = 1;
  for (size_t i = 0; i < in.size(); ++i) {
    const bool may_lack = i >= kState && i < kState + 3 && !dims[kHasState];
    if (!may_lack) check_shape(op, kExpected[i], in[i], leading, dims);
  }
}

std::vector<spec::Suite> chunkwise_suites() {
  return {{"small", {size_of(4, 256, 64, 128), size_of(4, 1024, 64, 128)}},
          {"xlstm_7b", {size_of(8, 512, 256, 512)}},
          {"square", {size_of(8, 512, 64, 64), size_of(8, 512, 128, 128)}}};
}

// One token, one element, chunks that are not full, both gates, with and without a state.
std::vector<Dims> chunkwise_edges() {
  const Dims odd = size_of(3, 37, 5, 9), wide = size_of(2, 70, 33, 48);
  return {size_of(1, 1, 1, 1),
          with(odd, {{"has_state", 1}, {"chunk", 16}}),
          with(wide, {{"has_state", 1}}),
          with(size_of(1, 20, 5, 520), {{"has_state", 1}, {"chunk", 16}}),  // a head in parts
          with(odd, {{"siging", 1}, {"has_state", 1}, {"chunk", 7}}),
          with(odd, {{"siging", 1}, {"normalize", 0}}),
          with(odd, {{"normalizer_grad", 0}, {"has_state", 1}, {"chunk", 33}}),
          with(size_of(3, 130, 16, 24), {{"chunk", 0}})};
}

// ---- inputs of proofs

class Filler {
 public:
  explicit Filler(const spec::FillRequest& request)
      : request_(request),
        random_(request.seed * 1000003 + static_cast<uint64_t>(request.distribution)) {}

  void fill(size_t port, const std::string& name, int64_t count, Dtype type) {
    const bool is_gate = name == "i" || name == "f" || name == "m0" || name == "m";
    const double size = is_gate ? gate_size() : name == "q" || name == "k" ? 1 : value_size();
    const double middle = name == "f" ? gate_size() : 0;
    for (int64_t at = 0; at < count; ++at)
      put(port, at, type, middle + size * (is_gate ? 1 : one_size()) * random_.normal());
  }

  // Heads in turn: as they are; gates that drop the past, the token, or both; an infinite input
  // gate. `tokens`: of a head.
  void add_special_gates(size_t i, size_t f, int64_t heads, int64_t tokens) {
    const double inf = std::numeric_limits<double>::infinity();
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t t = 0; t < tokens; ++t) {
        const uint64_t kind = random_.below(12);
        const int64_t at = head * tokens + t;
        if (head % 3 == 0) continue;
        if (kind == 1 || kind == 2) put(f, at, Dtype::float32, -inf);
        if (kind == 2 || kind == 3) put(i, at, Dtype::float32, -inf);
        if (kind == 4) put(f, at, Dtype::float32, inf);
        if (kind == 5 && head % 3 == 2) put(i, at, Dtype::float32, inf);
      }
  }

 private:
  bool is_wide() const { return request_.distribution == Distribution::magnitudes; }
  double gate_size() const { return is_wide() ? 8 : 2; }
  double value_size() const { return is_wide() && request_.t != Dtype::float16 ? 16 : 1; }
  // Of a number among others: over a range of 2^8.
  double one_size() { return is_wide() ? std::exp2(-8 * random_.uniform()) : 1; }
  void put(size_t port, int64_t at, Dtype type, double value) {
    spec::store_element(request_.inputs[port], at, type, static_cast<float>(value));
  }

  const spec::FillRequest& request_;
  base::Random random_;
};

}  // namespace

Shape keys(const Dims& dims) {
  return {dims.at("heads"), dims.at("S"), dims.at("DHQK")};
}
Shape values(const Dims& dims) {
  return {dims.at("heads"), dims.at("S"), dims.at("DHHV")};
}
Shape gates(const Dims& dims) {
  return {dims.at("heads"), dims.at("S")};
}
Shape state_c(const Dims& dims) {
  return {dims.at("heads"), dims.at("DHQK"), dims.at("DHHV")};
}
Shape state_n(const Dims& dims) {
  return {dims.at("heads"), dims.at("DHQK")};
}
Shape state_m(const Dims& dims) {
  return {dims.at("heads")};
}
Shape given_c(const Dims& dims) {
  return if_given(dims, state_c(dims));
}
Shape given_n(const Dims& dims) {
  return if_given(dims, state_n(dims));
}
Shape given_m(const Dims& dims) {
  return if_given(dims, state_m(dims));
}

std::vector<spec::Port> chunkwise_inputs() {
  const Dtype state = Dtype::float32;
  return {{"q", keys},
          {"k", keys},
          {"v", values},
          {"i", gates, state},
          {"f", gates, state},
          {.name = "c0", .shape = given_c, .type = state, .optional = true},
          {.name = "n0", .shape = given_n, .type = state, .optional = true},
          {.name = "m0", .shape = given_m, .type = state, .optional = true}};
}

Dims complete_chunkwise(const std::string& op, const Dims& dims) {
  for (const char* width : {"DHQK", "DHHV"})
    if (dims.at(width) > kWidest)
      base::misuse("kernels", std::string(width) + " is " + std::to_string(dims.at(width)) + ": " +
                                  op + " takes heads of at most " + std::to_string(kWidest));
  for (const char* choice : {"siging", "normalize", "normalizer_grad", "has_state"})
    if (dims.at(choice) > 1)
      base::misuse("kernels", std::string(choice) + " is " + std::to_string(dims.at(choice)) +
                                  ": give 0 or 1");
  if (!dims.at("normalize") && !dims.at("siging"))
    base::misuse("kernels",
                 "normalize is 0 and so is siging: only the sigmoid input gate does "
                 "without a normaliser");
  if (dims.at("chunk") > kMostChunk)
    base::misuse("kernels", "chunk is " + std::to_string(dims.at("chunk")) + ": give at most " +
                                std::to_string(kMostChunk) + " tokens, or 0 for the kernel's own");
  return dims;
}

int64_t chunk_of(const Dims& dims, int64_t preferred) {
  const int64_t chunk = dims.at("chunk") ? dims.at("chunk") : preferred;
  return std::min(chunk, dims.at("S"));
}

Dims size_of(int64_t heads, int64_t s, int64_t qk, int64_t hv) {
  return {{"heads", heads},       {"S", s},      {"DHQK", qk},
          {"DHHV", hv},           {"siging", 0}, {"normalize", 1},
          {"normalizer_grad", 1}, {"chunk", 0},  {"has_state", 0}};
}

double bytes_of(const std::vector<spec::Port>& inputs, const std::vector<spec::Port>& outputs,
                Dtype t, const Dims& dims) {
  return static_cast<double>(spec::bytes_of(inputs, t, dims) + spec::bytes_of(outputs, t, dims));
}

spec::Op chunkwise_op(const std::string& name, std::vector<spec::Port> inputs,
                      std::vector<spec::Port> outputs, double (*flops)(const Dims&)) {
  spec::Op op;
  op.name = name;
  op.inputs = std::move(inputs);
  op.outputs = std::move(outputs);
  op.dims = chunkwise_dims();
  op.batch_dim = "heads";
  op.scalars = {eps_scalar()};
  op.suites = chunkwise_suites();
  op.edge_sizes = chunkwise_edges();
  op.complete = [name](const Dims& dims) { return complete_chunkwise(name, dims); };
  op.signature = [name](std::span<const spec::ArrayView> in, std::span<const double>,
                        std::span<int64_t> dims) { read_chunkwise(name, in, dims); };
  op.cost = [in = op.inputs, out = op.outputs, flops](const Dims& dims, Dtype t) {
    return spec::Cost{bytes_of(in, out, t, dims), flops(dims)};
  };
  op.fill = [in = op.inputs](const spec::FillRequest& request) { fill(request, in); };
  return op;
}

void fill(const spec::FillRequest& request, const std::vector<spec::Port>& ports) {
  Filler filler(request);
  size_t i_at = 0, f_at = 0;
  for (size_t at = 0; at < ports.size(); ++at) {
    const spec::ArraySpec array = spec::array_of(ports[at], request.t, request.dims);
    filler.fill(at, ports[at].name, array.elements(), array.type);
    if (ports[at].name == "i") i_at = at;
    if (ports[at].name == "f") f_at = at;
  }
  if (request.distribution != Distribution::special) return;
  const int64_t heads = request.dims.at("heads");
  const int64_t gates = spec::array_of(ports[i_at], request.t, request.dims).elements();
  filler.add_special_gates(i_at, f_at, heads, gates / heads);
}

}  // namespace mlx_kd::kernels::mlstm
