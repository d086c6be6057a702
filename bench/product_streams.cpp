// How close decode steps come to reading their weights or their cache: the time of a kernel beside
// a plain read of the same bytes by all cores, directly before and after it. What is read is cold:
// the arrays of a size take turns, 512 MiB of them; of experts, others are chosen each time.
//
//   bench_product_streams [ROUNDS [NAME]] > bench/results/product_streams.json
//
// NAME: a part of the names of the sizes that are measured, all without it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <vector>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/thread_pool.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

using namespace mlx_kd;
using base::Json;

constexpr int64_t kCold = int64_t(512) << 20;
constexpr int64_t kPart = int64_t(256) << 10;  // bytes a task of the read

struct Size {
  std::string name, format, op;
  spec::Dims dims;
  std::vector<size_t> cold;  // inputs that are read, the largest first
  int64_t turns = 1;         // calls that together read all of them
  std::string variant = "";  // of the op's kernels on a CPU; empty: the first
};

Size product(int64_t n, int64_t k, int64_t bits, const std::string& variant = "") {
  Size size = {std::to_string(n) + " x " + std::to_string(k),
               bits == 16 ? "bf16" : std::to_string(bits) + " bits",
               bits == 16 ? "matvec" : "qmatvec",
               {{"M", 1}, {"N", n}, {"K", k}},
               {1}};
  if (bits < 16) {
    size.dims.set("bits", bits);
    size.dims.set("group", 64);
    size.cold = {1, 2, 3};
  }
  if (!variant.empty()) size.format += ", x in int8";
  size.variant = variant;
  return size;
}

// 8 of 64 experts of one token, gate and up or the product back.
Size experts(bool gated, int64_t n, int64_t k) {
  Size size = {gated ? "8 of 64 experts, gate and up" : "8 of 64 experts, the product back",
               "4 bits",
               gated ? "gather_qmatvec_gate_up" : "gather_qmatvec",
               {{"M", 1}, {"A", 8}, {"E", 64}, {"N", n}, {"K", k}, {"bits", 4}, {"group", 64}},
               {2, 3, 4},
               8};
  if (gated)
    size.cold = {2, 3, 4, 5, 6, 7};
  else
    size.dims.set("per_pair", 1);
  return size;
}

Size attention(int64_t hq, int64_t hk, int64_t dk, int64_t dv) {
  return {"attention, 4096 keys, " + std::to_string(hq) + "/" + std::to_string(hk) + " heads of " +
              std::to_string(dk) + (dk == dv ? "" : "/" + std::to_string(dv)),
          "bf16",
          "attention",
          {{"S", 4096}, {"B", 1}, {"Hq", hq}, {"Hk", hk}, {"M", 1}, {"Dk", dk}, {"Dv", dv}},
          {1, 2}};
}

std::vector<Size> all_sizes() {
  return {product(2048, 2048, 4),          product(5632, 2048, 4),
          product(2048, 5632, 4),          product(32000, 2048, 4),
          product(4096, 4096, 4),          product(4096, 14336, 4),
          product(2048, 2048, 8),          product(4096, 4096, 8),
          product(2048, 2048, 16),         product(4096, 4096, 16),
          product(2048, 2048, 4, "int8"),  product(5632, 2048, 4, "int8"),
          product(2048, 5632, 4, "int8"),  product(4096, 4096, 4, "int8"),
          product(4096, 14336, 4, "int8"), product(4096, 4096, 8, "int8"),
          experts(true, 1024, 2048),       experts(false, 2048, 1024),
          attention(32, 4, 64, 64),        attention(32, 8, 128, 128),
          attention(20, 1, 576, 512)};
}

// Memory of the inputs of one call.
using Arrays = std::vector<std::vector<std::byte>>;

struct Read {
  const std::byte* from;
  int64_t bytes;
};

void read_parts(const void* context, int64_t begin, int64_t end) {
  typedef long Line __attribute__((vector_size(64)));
  const auto& read = *static_cast<const Read*>(context);
  Line sums[4] = {};
  const int64_t last = std::min(end * kPart, read.bytes) - int64_t{sizeof sums};
  for (int64_t at = begin * kPart; at <= last; at += sizeof sums) {
    Line lines[4];
    std::memcpy(lines, read.from + at, sizeof lines);
    for (int i = 0; i < 4; ++i) sums[i] ^= lines[i];
  }
  asm volatile("" : : "m"(sums));
}

double us_since(int64_t start) {
  return 1e6 * base::seconds_since(start);
}

double read_us(const Read& read, int threads) {
  const int64_t parts = (read.bytes + kPart - 1) / kPart;
  const int64_t start = base::steady_ns();
  devices::cpu::ThreadPool::shared().run(threads, parts, (parts + threads - 1) / threads,
                                         read_parts, &read);
  return us_since(start);
}

class Step {
 public:
  Step(const devices::Device& device, const Size& size)
      : size_(size), op_(kernels::find_op(size.op)), dims_(spec::complete(op_, size.dims)) {
    const spec::Variant& variant = variant_of(op_, size.variant);
    const spec::Space space = variant.space(kType, device.id().traits);
    const spec::Setting knobs = spec::default_setting(space);
    const auto candidate = spec::make_candidate(op_, variant, kType, knobs, space, dims_);
    const devices::Artifact artifact = device.compile(candidate, 120);
    if (!artifact.ok) base::fail("bench", "the kernel is refused: " + artifact.error);
    program_ = device.load(artifact, candidate);
    call_ = devices::make_call(op_, variant, kType, dims_, knobs, spec::default_scalars(op_));
    fill();
  }

  int64_t bytes() const { return bytes_; }  // that a call reads

  // A part of the largest array of the next turn, in proportion to what a call reads of it.
  Read read_of(size_t turn) const {
    const auto& memory = set_of(turn)[size_.cold.front()];
    const int64_t part = static_cast<int64_t>(memory.size()) / size_.turns;
    return {memory.data() + part * static_cast<int64_t>(turn % turns()), part};
  }

  double launch_us(size_t turn) {
    std::vector<const void*> inputs;
    for (const auto& array : set_of(turn)) inputs.push_back(array.data());
    if (turns() > 1) inputs[1] = ids_[turn % turns()].data();
    const int64_t start = base::steady_ns();
    program_->launch(inputs, {output_.data()}, call_);
    return us_since(start);
  }

 private:
  static constexpr spec::Dtype kType = spec::Dtype::bfloat16;

  static const spec::Variant& variant_of(const spec::Op& op, const std::string& name) {
    for (const spec::Variant& variant : op.variants)
      if (variant.language == "cpp" && (name.empty() || variant.name == name)) return variant;
    base::fail("bench", op.name + " has no kernel '" + name + "' on a CPU");
  }

  size_t turns() const { return static_cast<size_t>(size_.turns); }
  const Arrays& set_of(size_t turn) const { return sets_[turn / turns() % sets_.size()]; }

  void fill() {
    Arrays first;
    std::vector<void*> pointers;
    for (const spec::Port& port : op_.inputs)
      first.emplace_back(static_cast<size_t>(spec::array_of(port, kType, dims_).bytes()));
    for (auto& array : first) pointers.push_back(array.data());
    op_.fill({pointers, kType, dims_, call_.scalars, spec::Distribution::normal, 1});
    int64_t all = 0;
    for (const size_t input : size_.cold) all += static_cast<int64_t>(first[input].size());
    bytes_ = all / size_.turns;
    for (int64_t i = 0; i < std::max<int64_t>(2, kCold / all); ++i) sets_.push_back(first);
    output_.resize(static_cast<size_t>(spec::array_of(op_.outputs[0], kType, dims_).bytes()));
    if (turns() > 1) choose();
  }

  // Each turn other experts, all of them before one comes again.
  void choose() {
    const auto each = static_cast<size_t>(dims_.at("A"));
    std::vector<uint32_t> order(static_cast<size_t>(dims_.at("E")));
    for (size_t i = 0; i < order.size(); ++i)
      order[i] = static_cast<uint32_t>(i * 37 % order.size());
    for (size_t turn = 0; turn < turns(); ++turn)
      ids_.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(turn * each),
                        order.begin() + static_cast<std::ptrdiff_t>((turn + 1) * each));
  }

  Size size_;
  const spec::Op& op_;
  spec::Dims dims_;
  std::shared_ptr<devices::Program> program_;
  devices::Call call_;
  std::vector<Arrays> sets_;
  std::vector<std::vector<uint32_t>> ids_;
  std::vector<std::byte> output_;
  int64_t bytes_ = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double rounded(double value, double parts) {
  return std::round(value * parts) / parts;
}

// The 95 % interval of a median by its order statistics.
Json interval_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  const double half = 0.98 * std::sqrt(count);
  const auto at = [&](double place) {
    return rounded(values[static_cast<size_t>(std::clamp(place, 0.0, count - 1))], 1000);
  };
  return {at(count / 2 - half), at(count / 2 + half)};
}

Json measure(const devices::Device& device, const Size& size, int rounds) {
  Step step(device, size);
  const int threads = std::max(1, device.id().traits.cores);
  std::vector<double> shares, kernels, reads;
  size_t turn = 0;
  step.launch_us(turn++);
  for (int i = 0; i < rounds; ++i) {
    // The reads scale to all bytes that a call reads.
    const auto stream = [&] {
      const Read read = step.read_of(turn++);
      return read_us(read, threads) * static_cast<double>(step.bytes()) /
             static_cast<double>(read.bytes);
    };
    const double before = stream(), kernel = step.launch_us(turn++), after = stream();
    shares.push_back((before + after) / 2 / kernel);
    kernels.push_back(kernel);
    reads.push_back((before + after) / 2);
  }
  const auto gb_s = [&](double us) {
    return rounded(static_cast<double>(step.bytes()) / us / 1e3, 10);
  };
  return {{"name", size.name},
          {"format", size.format},
          {"us", rounded(median(kernels), 10)},
          {"kernel_gb_s", gb_s(median(kernels))},
          {"read_gb_s", gb_s(median(reads))},
          {"share", rounded(median(shares), 1000)},
          {"interval", interval_of(shares)}};
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&seconds));
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 101;
  if (rounds < 5) base::misuse("bench", "ROUNDS is below 5: give more");
  const auto device = devices::open_device("cpu");
  Json rows = Json::array();
  for (const Size& size : all_sizes()) {
    if (argc > 2 && (size.name + ", " + size.format).find(argv[2]) == std::string::npos) continue;
    rows.push_back(measure(*device, size, rounds));
    std::cerr << rows.back().dump() << std::endl;
  }
  const Json result = {
      {"what", "decode steps with cold weights or caches beside a plain read of the same bytes"},
      {"date", now()},
      {"machine", {{"cpu", device->id().name}, {"cores", device->id().traits.cores}}},
      {"versions", {{"mlx_kd", base::version()}}},
      {"rounds", rounds},
      {"rows", rows}};
  std::cout << result.dump(1) << std::endl;
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
