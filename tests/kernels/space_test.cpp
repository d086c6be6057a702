// The knob spaces: their size, their defaults, and the macros of source knobs.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "mlx_kd/kernels/op_table.h"
#include "tests/kernels/support.h"

namespace mlx_kd::kernels {
namespace {

using spec::Dtype;

spec::DeviceTraits other_cpu(int vector_bytes, std::vector<std::string> isa) {
  spec::DeviceTraits traits;
  traits.cores = 1;
  traits.vector_bytes = vector_bytes;
  traits.isa = std::move(isa);
  return traits;
}

TEST(Spaces, HaveAValidDefaultOnEveryCpu) {
  const std::vector<spec::DeviceTraits> cpus = {host_traits(), avx512_traits(), other_cpu(16, {}),
                                                other_cpu(16, {"neon"}),
                                                other_cpu(32, {"avx2", "f16c", "fma"})};
  for (const spec::Op& op : all_ops())
    for (const spec::Variant& variant : op.variants)
      for (Dtype dtype : op.types)
        for (const spec::DeviceTraits& cpu : cpus) {
          const spec::Space space = variant.space(dtype, cpu);
          EXPECT_TRUE(spec::is_valid(space, default_setting(space))) << op.name;
          EXPECT_LE(space.knobs.size(), 16u);
          for (const spec::Knob& knob : space.knobs) {
            EXPECT_EQ(std::set(knob.values.begin(), knob.values.end()).size(), knob.values.size());
            EXPECT_TRUE(knob.labels.empty() || knob.labels.size() == knob.values.size())
                << knob.name;
            EXPECT_FALSE(knob.help.empty()) << knob.name;
          }
        }
}

struct Offer {
  int64_t settings = 0;                              // valid ones
  std::map<std::string, std::set<int64_t>> by_knob;  // values that occur in one of them
};
Offer offer_of(const spec::Space& space) {
  Offer result;
  each_valid(space, [&](const spec::Setting& setting) {
    ++result.settings;
    for (const auto& [name, value] : setting.items()) result.by_knob[name].insert(value);
  });
  return result;
}

// A search needs something to choose from: the least that an op may offer on a device that takes
// its language. What runs on tensor cores has tiles of sizes that its text fixes.
constexpr int64_t kLeastOnACpu = 64, kLeastInMetal = 8, kLeastInCuda = 2;

// It has one kernel of ordinary units for float32.
int64_t least_in(const std::string& language, Dtype dtype) {
  if (language == "cuda" && dtype == Dtype::float32) return 1;
  return language == "cpp" ? kLeastOnACpu : language == "metal" ? kLeastInMetal : kLeastInCuda;
}

TEST(Spaces, OfferEnoughAndNoValueThatIsNeverValid) {
  for (const spec::Op& op : all_ops())
    for (Dtype dtype : op.types) {
      std::map<std::string, int64_t> counts;
      for (const spec::Variant& variant : op.variants) {
        const spec::Space space = variant.space(dtype, avx512_traits());
        const Offer offer = offer_of(space);
        counts[variant.language] += offer.settings;
        for (const spec::Knob& knob : space.knobs)
          EXPECT_EQ(offer.by_knob.at(knob.name).size(), knob.values.size())
              << op.name << " " << variant.language << " " << variant.name << " " << knob.name;
      }
      for (const auto& [language, count] : counts)
        EXPECT_GE(count, least_in(language, dtype))
            << op.name << " in " << language << ", " << name_of(dtype);
    }
}

TEST(Spaces, OfferOnlyWhatTheCpuHas) {
  const spec::DeviceTraits arm = other_cpu(16, {"neon"});
  for (const std::string& name : ops_in("cpp"))
    for (const spec::Knob& knob :
         variant_in(find_op(name), "cpp")->space(Dtype::bfloat16, arm).knobs) {
      for (const char* x86 : {"STREAM", "SCALEF", "BF16"}) EXPECT_NE(knob.name, x86) << name;
      const bool single = knob.name == "VEC" || knob.name == "THREADS";
      EXPECT_TRUE(!single || knob.values.size() == 1) << name << " " << knob.name;
    }
}

TEST(Spaces, NameEachSourceKnobAsAMacroWithADefault) {
  for (const spec::Op& op : all_ops())
    for (const spec::Variant& variant : op.variants)
      for (const spec::Knob& knob : variant.space(Dtype::bfloat16, avx512_traits()).knobs) {
        const std::string line = "#ifndef " + knob.name + "\n#define " + knob.name + " ";
        const bool found = variant.source.find(line) != std::string::npos;
        EXPECT_EQ(found, knob.role == spec::KnobRole::source) << op.name << " " << knob.name;
      }
}

}  // namespace
}  // namespace mlx_kd::kernels
