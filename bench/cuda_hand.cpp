// What translation costs: kernels in Metal, translated, against CUDA written by hand for the same
// algorithm and the same knobs (bench/hand), on the GPU's own clock.
//
//   bench_cuda_hand FOLDER [PAIRS]     FOLDER: bench/hand
//
// stdout: one JSON object, a row for each op, type and size with both times in us, the median ratio
// of the pairs and whether all bits of the outputs agree. Rows are 1 x 4096, 1024 x 4096 and
// 8192 x 8192 elements; rope has 8 heads of 448 + 64 in place of a row of 4096.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/cuda/compile/cubin.h"
#include "mlx_kd/devices/cuda/driver/device_clock.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

using namespace mlx_kd;
namespace cuda = devices::cuda;

constexpr double kSampleUs = 200;
constexpr int kMostSets = 512, kMostColdSets = 4;

struct Size {
  std::string name;  // "1024x4096"
  int64_t rows, d;
};
const Size kSizes[] = {{"1x4096", 1, 4096}, {"1024x4096", 1024, 4096}, {"8192x8192", 8192, 8192}};

struct Case {
  const spec::Op* op;
  spec::Dtype dtype;
  Size size;
  spec::Dims dims;
  spec::Setting knobs;
  int threads = 0;
};

spec::Dims dims_of(const spec::Op& op, const Size& size) {
  if (op.name == "rope")
    return spec::complete(
        op, {{"B", size.rows * size.d / 4096}, {"H_Q", 8}, {"D_NOPE", 448}, {"D_ROPE", 64}});
  return spec::complete(op, {{"rows", size.rows}, {"D", size.d}});
}

const spec::Variant& metal_variant(const spec::Op& op) {
  for (const spec::Variant& one : op.variants)
    if (one.language == "metal") return one;
  base::fail("bench", op.name + " has no kernel in Metal");
}

// 16 bytes a pack; norms keep a row in registers.
Case make_case(const spec::Op& op, spec::Dtype dtype, const Size& size,
               const spec::DeviceTraits& traits) {
  Case made{&op, dtype, size, dims_of(op, size), {}, 256};
  made.knobs = spec::default_setting(metal_variant(op).space(dtype, traits));
  const int64_t vec = 16 / spec::size_of(dtype);
  made.knobs.set("VEC", vec);
  if (op.name.rfind("rmsnorm", 0) == 0) {
    made.threads = static_cast<int>(std::min<int64_t>(512, size.d / vec));
    made.knobs.set("CACHE", 1);
    made.knobs.set("KEEP", size.d / vec / made.threads);
  }
  made.knobs.set("THREADS", made.threads);
  return made;
}

std::vector<std::string> hand_options(const Case& one, int sm) {
  std::vector<std::string> options = cuda::nvrtc_options(sm);
  options.push_back("-DKD_DTYPE=" + std::to_string(static_cast<int>(one.dtype)));
  for (const auto& [name, value] : one.knobs.items())
    options.push_back("-D" + name + "=" + std::to_string(value));
  if (!one.knobs.has("THREADS")) options.push_back("-DTHREADS=" + std::to_string(one.threads));
  return options;
}

// The hand-written text with what it includes.
std::string hand_text(const std::string& folder, const std::string& op) {
  const std::string include = "#include \"types.cuh\"\n";
  std::string text = base::read_file(folder + "/" + op + ".cu", "bench");
  text.replace(text.find(include), include.size(), base::read_file(folder + "/types.cuh", "bench"));
  return text;
}

class Hand {
 public:
  Hand(const std::string& folder, const Case& one)
      : one_(one), code_(compile(folder, one)), function_(code_.function("hand")) {}

  void queue(const devices::DeviceArrays& set, cuda::Stream stream) const {
    cuda::Parameters parameters;
    for (const void* input : set.inputs) parameters.add(input);
    for (const void* output : set.outputs) parameters.add(output);
    const auto dim = [&](const char* name) { return static_cast<int>(one_.dims.at(name)); };
    int64_t work = one_.dims.value_or("rows", 1) * one_.threads;
    const int64_t vec = one_.knobs.at("VEC");
    if (one_.op->name == "swiglu") {
      parameters.add(static_cast<cuda::Address>(one_.dims.at("N")));
      work = one_.dims.at("N") / vec;
    } else if (one_.op->name == "rope") {
      for (const char* name : {"B", "H_Q", "D_NOPE", "D_ROPE"}) parameters.add(dim(name));
      work = one_.dims.at("B") * (one_.dims.at("H_Q") + 1) * one_.dims.at("D_OUT") / vec;
    } else {
      parameters.add(static_cast<float>(one_.op->scalars[0].default_value));
      parameters.add(dim("D"));
    }
    const int64_t blocks = (work + one_.threads - 1) / one_.threads;
    const cuda::LaunchSize size{{static_cast<unsigned>(blocks), 1, 1},
                                {static_cast<unsigned>(one_.threads), 1, 1}};
    cuda::launch(function_, size, 0, stream, parameters);
  }

 private:
  static std::string compile(const std::string& folder, const Case& one) {
    const cuda::Cubin cubin = cuda::compile_cuda(
        one.op->name + ".cu", hand_text(folder, one.op->name), hand_options(one, cuda::gpu().sm));
    if (cubin.bytes.empty()) base::fail("bench", cubin.error);
    return cubin.bytes;
  }

  const Case& one_;
  cuda::Code code_;
  cuda::Function function_;
};

int64_t bytes_of(const spec::Port& port, const Case& one) {
  return spec::element_count(port.shape(one.dims)) * spec::size_of(one.dtype);
}

// Bits of numbers of the type between 1/4 and 4, of either sign.
std::vector<uint16_t> random_bits(int64_t bytes, spec::Dtype dtype, base::Random& random) {
  std::vector<uint16_t> words(static_cast<size_t>(bytes / 2));
  for (size_t i = 0; i < words.size(); ++i) {
    const uint64_t bits = random.next();
    const auto sign = static_cast<uint16_t>(bits & 0x8000);
    if (dtype == spec::Dtype::float16)
      words[i] = static_cast<uint16_t>(sign | (0x3400 + (bits >> 16) % 0x1000));
    else if (dtype == spec::Dtype::bfloat16 || i % 2 == 1)
      words[i] = static_cast<uint16_t>(sign | (0x3e80 + (bits >> 16) % 0x0200));
    else
      words[i] = static_cast<uint16_t>(bits);
  }
  return words;
}

class Sets {
 public:
  Sets(const devices::Accelerator& accelerator, const Case& one, int64_t l2_bytes)
      : accelerator_(accelerator) {
    int64_t bytes = 0;
    for (const auto* ports : {&one.op->inputs, &one.op->outputs})
      for (const spec::Port& port : *ports) bytes += bytes_of(port, one);
    cold_ = bytes > l2_bytes / 2;
    const int64_t count =
        cold_ ? kMostColdSets : std::clamp<int64_t>(l2_bytes / 2 / bytes, 1, kMostSets);
    base::Random random(3);
    for (int64_t i = 0; i < count; ++i) add(one, random);
  }
  ~Sets() {
    for (void* memory : memory_) accelerator_.release(memory);
  }
  Sets(const Sets&) = delete;
  Sets& operator=(const Sets&) = delete;

  const devices::DeviceArrays& next() { return sets_[turn_++ % sets_.size()]; }
  std::vector<devices::DeviceArrays> next(int count) {
    std::vector<devices::DeviceArrays> result;
    for (int i = 0; i < count; ++i) result.push_back(next());
    return result;
  }
  const devices::DeviceArrays& first() const { return sets_.front(); }
  bool cold() const { return cold_; }
  size_t count() const { return sets_.size(); }

 private:
  void* take(int64_t bytes) { return memory_.emplace_back(accelerator_.allocate(bytes)); }
  void add(const Case& one, base::Random& random) {
    devices::DeviceArrays& set = sets_.emplace_back();
    for (const spec::Port& port : one.op->inputs) {
      const int64_t bytes = bytes_of(port, one);
      set.inputs.push_back(take(bytes));
      const auto words = random_bits(bytes, one.dtype, random);
      accelerator_.write(memory_.back(), words.data(), bytes);
    }
    for (const spec::Port& port : one.op->outputs) set.outputs.push_back(take(bytes_of(port, one)));
  }

  const devices::Accelerator& accelerator_;
  std::vector<void*> memory_;
  std::vector<devices::DeviceArrays> sets_;
  bool cold_ = false;
  size_t turn_ = 0;
};

using Bytes = std::vector<std::vector<char>>;

Bytes read_outputs(const devices::Accelerator& accelerator, const Case& one,
                   const devices::DeviceArrays& set) {
  Bytes result;
  for (size_t i = 0; i < set.outputs.size(); ++i) {
    auto& to = result.emplace_back(static_cast<size_t>(bytes_of(one.op->outputs[i], one)));
    accelerator.read(to.data(), set.outputs[i], static_cast<int64_t>(to.size()));
    accelerator.fill(set.outputs[i], 0xff, static_cast<int64_t>(to.size()));
  }
  return result;
}

// Elements of 16 or 32 bits that differ.
int64_t differing(const Bytes& a, const Bytes& b, int64_t size) {
  int64_t count = 0;
  for (size_t k = 0; k < a.size(); ++k)
    for (size_t i = 0; i < a[k].size(); i += static_cast<size_t>(size))
      count += !std::equal(a[k].begin() + static_cast<int64_t>(i),
                           a[k].begin() + static_cast<int64_t>(i) + size,
                           b[k].begin() + static_cast<int64_t>(i));
  return count;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

base::OrderedJson measure(const devices::Device& device, const std::string& folder, const Case& one,
                          int pairs) {
  const devices::Accelerator& accelerator = *device.accelerator();
  const spec::Variant& variant = metal_variant(*one.op);
  const auto space = variant.space(one.dtype, device.id().traits);
  const auto candidate =
      spec::make_candidate(*one.op, variant, one.dtype, one.knobs, space, one.dims);
  const devices::Artifact artifact = device.compile(candidate, 60);
  if (!artifact.ok) base::fail("bench", artifact.error);
  const auto program = device.load(artifact, candidate);
  const devices::Call call = devices::make_call(*one.op, variant, one.dtype, one.dims, one.knobs,
                                                spec::default_scalars(*one.op));
  const Hand hand(folder, one);
  Sets sets(accelerator, one, device.id().traits.l2_bytes);

  program->launch(sets.first().inputs, sets.first().outputs, call);
  const Bytes mine = read_outputs(accelerator, one, sets.first());
  cuda::TimedGraph([&](cuda::Stream stream) { hand.queue(sets.first(), stream); }).run();
  const Bytes theirs = read_outputs(accelerator, one, sets.first());

  const double call_us = accelerator.sample(*program, call, {sets.first()}, false)->run();
  const double most = sets.cold() ? static_cast<double>(sets.count()) : 400.0;
  const int calls = static_cast<int>(std::clamp(std::ceil(kSampleUs / call_us), 1.0, most));
  const auto ours = accelerator.sample(*program, call, sets.next(calls), sets.cold());
  const auto hand_sets = sets.next(calls);
  const cuda::TimedGraph by_hand([&](cuda::Stream stream) {
    for (const auto& set : hand_sets) hand.queue(set, stream);
  });
  const auto hand_us = [&] {
    if (sets.cold()) accelerator.flush();
    return by_hand.run() / calls;
  };
  const auto our_us = [&] { return ours->run() / calls; };
  our_us(), hand_us();
  std::vector<double> first, second, ratios;
  for (int i = 0; i < pairs; ++i) {
    const double early = i % 2 == 0 ? our_us() : hand_us();
    const double late = i % 2 == 0 ? hand_us() : our_us();
    first.push_back(i % 2 == 0 ? early : late);
    second.push_back(i % 2 == 0 ? late : early);
    ratios.push_back(first.back() / second.back());
  }
  return {{"op", one.op->name},
          {"dtype", spec::name_of(one.dtype)},
          {"size", one.size.name},
          {"dims", one.dims.text()},
          {"knobs", one.knobs.json()},
          {"cold", sets.cold()},
          {"calls", calls},
          {"translated_us", median(first)},
          {"by_hand_us", median(second)},
          {"ratio", median(ratios)},
          {"gbps", 1e-3 * spec::cost_of(*one.op, one.dims, one.dtype).bytes / median(first)},
          {"elements_that_differ", differing(mine, theirs, spec::size_of(one.dtype))}};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) base::misuse("bench", "usage: bench_cuda_hand FOLDER [PAIRS]");
  const int pairs = argc > 2 ? std::max(1, std::atoi(argv[2])) : 41;
  const auto device = devices::open_device("cuda");
  cuda::use_gpu();
  base::OrderedJson rows = base::OrderedJson::array();
  for (const char* name : {"rmsnorm", "rmsnorm_residual", "swiglu", "rope"})
    for (const spec::Dtype dtype :
         {spec::Dtype::float32, spec::Dtype::float16, spec::Dtype::bfloat16})
      for (const Size& size : kSizes) {
        const Case one = make_case(kernels::find_op(name), dtype, size, device->id().traits);
        rows.push_back(measure(*device, argv[1], one, pairs));
        std::fprintf(stderr, "%s\n", rows.back().dump().c_str());
      }
  std::cout << base::OrderedJson{{"device", device->id().name},
                                 {"compiler", cuda::nvrtc_version()},
                                 {"date", base::iso_time_now()},
                                 {"pairs", pairs},
                                 {"rows", rows}}
                   .dump(1)
            << "\n";
  return 0;
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
