#include "mlx_kd/discover/bundle.h"

#include <algorithm>
#include <cstdlib>
#include <variant>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/discover/make_entry.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/runtime/pins/bundle.h"
#include "mlx_kd/runtime/pins/pin.h"

namespace mlx_kd::discover {
namespace {

constexpr double kCompileLimit_s = 60;

struct Level {
  const char* name;
  std::vector<std::string> isa;  // in addition to those of the levels before it
};

// System V ABI, x86-64 supplement, 3.1.1, by the names of a pin's target.
const std::vector<Level>& levels() {
#if defined(__x86_64__)
  static const std::vector<Level> all = {
      {"x86-64", {}},
      {"x86-64-v2", {"sse42"}},
      {"x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma"}},
      {"x86-64-v4", {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}}};
#else
  static const std::vector<Level> all;
#endif
  return all;
}

// The instruction sets that code of a level may use.
base::Json isa_of(const std::string& march, const spec::DeviceId& device) {
  if (march == "native") return device.target.value("isa", base::Json::array());
  std::vector<std::string> isa;
  for (const Level& level : levels()) {
    isa.insert(isa.end(), level.isa.begin(), level.isa.end());
    if (march != level.name) continue;
    for (const std::string& set : isa)
      if (std::find(device.traits.isa.begin(), device.traits.isa.end(), set) ==
          device.traits.isa.end())
        base::misuse("discover", "this CPU lacks " + set + " of " + march +
                                     ", so nothing could be proved: give a lower level");
    std::sort(isa.begin(), isa.end());
    return isa;
  }
  std::vector<std::string> known = instruction_set_levels();
  known.push_back("native");
  base::misuse("discover", "'" + march + "' is not an instruction-set level here: give " +
                               base::list_of(known));
}

// "" where the candidate is correct at all sizes.
std::string disproof(const spec::Candidate& candidate, const packs::Entry& entry,
                     const spec::Op& op) {
  evaluate::EvaluateOptions how;
  how.prove_only = true;
  std::string why = "it was not proved";
  evaluate::make_evaluator({&op, "cpu", candidate.dtype, proved_sizes(entry, op)}, how)
      ->evaluate({candidate}, [&](size_t, const spec::Verdict& verdict) {
        const bool proved = verdict.status == spec::Status::benchmarked;
        why = proved ? "" : name_of(verdict.status) + ": " + verdict.reason;
      });
  return why;
}

class Bundler {
 public:
  explicit Bundler(const std::string& march)
      : march_(march), device_(devices::open_device("cpu")), isa_(isa_of(march, device_->id())) {
    ::setenv("MLX_KD_MARCH", march.c_str(), 1);  // for the workers that prove, too
  }

  // What became of it; `entry` has its object where it was bundled.
  BundledEntry add(packs::Entry& entry) const {
    BundledEntry result{packs::title(entry), entry.candidate_id, 0, ""};
    try {
      result.why = unfit(entry);
      if (result.why.empty()) result.bytes = compile(entry, result.why);
    } catch (const base::Error& error) {
      result.why = error.what();
    }
    return result;
  }

 private:
  std::string unfit(const packs::Entry& entry) const {
    if (entry.language != "cpp") return "its kernel is in " + entry.language + ", not C++";
    if (entry.source.empty()) return "it has no source";
    const auto fit = runtime::pins_of(entry, /*allow_approximate=*/true);
    const auto* skipped = std::get_if<runtime::Skipped>(&fit);
    return skipped ? skipped->reason : "";
  }

  size_t compile(packs::Entry& entry, std::string& why) const {
    const spec::Op& op = op_of(entry);
    const spec::Candidate candidate = candidate_of(entry, op);
    const devices::Artifact artifact = device_->compile(candidate, kCompileLimit_s);
    why = artifact.ok ? disproof(candidate, entry, op) : artifact.error;
    if (!why.empty()) return 0;
    const std::string object = base::read_file(artifact.path, "discover");
    runtime::set_object(entry, object, march_);
    entry.target["isa"] = isa_;
    return object.size();
  }

  std::string march_;
  std::shared_ptr<const devices::Device> device_;
  base::Json isa_;
};

}  // namespace

std::vector<std::string> instruction_set_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels()) names.push_back(level.name);
  return names;
}

Bundle bundle(const packs::Pack& pack, const std::string& march) {
  const Bundler bundler(march);
  Bundle result;
  result.pack = pack;
  result.pack.entries.clear();
  for (packs::Entry entry : pack.entries) {
    result.entries.push_back(bundler.add(entry));
    if (result.entries.back().bytes > 0) result.pack.entries.push_back(std::move(entry));
  }
  return result;
}

}  // namespace mlx_kd::discover
