#include "mlx_kd/devices/null/proxy_device.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices::null {
namespace {

DeviceKind kind_named(const std::string& kind) {
  std::vector<std::string> known;
  for (const DeviceKind& one : all_kinds()) {
    if (one.kind == kind) return one;
    known.push_back(one.kind);
  }
  base::misuse("devices", "device '" + kind + "' is not known: choose " + base::list_of(known));
}

class StandIn final : public Device {
 public:
  StandIn(const std::string& kind, std::vector<std::string> languages,
          std::shared_ptr<const Device> prover)
      : languages_(std::move(languages)), prover_(std::move(prover)) {
    id_ = prover_->id();
    id_.kind = kind;
    id_.arch = id_.name = "null";
    id_.target = base::Json::object();
  }

  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return languages_; }
  bool lacks(spec::Dtype type) const override { return prover_->lacks(type); }
  Artifact compile(const spec::Candidate& candidate, double timeout_s) const override {
    return prover_->compile(candidate, timeout_s);
  }
  std::shared_ptr<Program> load(const Artifact& artifact,
                                const spec::Candidate& candidate) const override {
    return prover_->load(artifact, candidate);
  }
  bool checks() const override { return prover_->checks(); }
  std::vector<std::string> check(const spec::Candidate& candidate,
                                 const std::vector<std::span<const std::byte>>& inputs,
                                 const std::vector<size_t>& output_bytes,
                                 const Call& call) const override {
    return prover_->check(candidate, inputs, output_bytes, call);
  }

 private:
  spec::DeviceId id_;
  std::vector<std::string> languages_;
  std::shared_ptr<const Device> prover_;
};

}  // namespace

std::shared_ptr<const Device> stand_in(const std::string& kind, const std::string& prove_on) {
  const DeviceKind wanted = kind_named(kind);
  auto prover = open_device(prove_on);
  // The languages of the one that the other takes.
  const std::vector<std::string>& theirs = prover->languages();
  std::vector<std::string> languages;
  for (const std::string& one : wanted.languages)
    if (std::find(theirs.begin(), theirs.end(), one) != theirs.end()) languages.push_back(one);
  if (languages.empty())
    base::misuse("devices", "device '" + prove_on + "' does not run the kernels of '" + kind +
                                "', which are in " + base::list_of(wanted.languages) +
                                ": prove them on another");
  return std::make_shared<StandIn>(kind, std::move(languages), std::move(prover));
}

}  // namespace mlx_kd::devices::null
