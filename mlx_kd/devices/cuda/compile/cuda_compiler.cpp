#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"

#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cuda/compile/cuda_source.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr int64_t kMostGroupThreads = 1024;  // one cubin serves every launch of a candidate

Artifact refused(const std::string& error) {
  Artifact artifact;
  artifact.error = error;
  return artifact;
}

using Compile = std::function<Artifact()>;

// Kernels that are compiled alone and were launched: most candidates of an operator and a type are
// run at the same sizes. Those of another type may lack what this one has.
class Launched {
 public:
  static Launched& shared() {
    static Launched& all = *new Launched;  // threads that compile may outlive static objects
    return all;
  }
  void note(const spec::Candidate& candidate, const std::string& func_name) {
    const std::lock_guard lock(mutex_);
    of_[key_of(candidate)].insert(func_name);
  }
  std::set<std::string> of(const spec::Candidate& candidate) {
    const std::lock_guard lock(mutex_);
    const auto found = of_.find(key_of(candidate));
    return found == of_.end() ? std::set<std::string>() : found->second;
  }

 private:
  // Variants of an operator differ in the function that they are called by.
  using Key = std::tuple<std::string, std::string, spec::Dtype>;
  static Key key_of(const spec::Candidate& candidate) {
    return {candidate.op_name, candidate.func_name, candidate.dtype};
  }

  std::mutex mutex_;
  std::map<Key, std::set<std::string>> of_;
};

Artifact cached_source(const spec::Candidate& candidate, const std::string& func_name, int sm,
                       const cpu::ObjectCache& cache) {
  const auto options = source_options(candidate, sm, func_name);
  return cached_cubin(cache, source_key(candidate, options), candidate.op_name,
                      [&] { return compile_source(candidate, options, func_name); });
}

// The artifact of func_name, or the first refusal of one that was launched.
Artifact compile_with_launched(const spec::Candidate& candidate, int sm,
                               const cpu::ObjectCache& cache) {
  std::vector<std::future<Artifact>> others;
  for (const std::string& name : Launched::shared().of(candidate))
    others.push_back(std::async(std::launch::async,
                                [&, name] { return cached_source(candidate, name, sm, cache); }));
  Artifact made = cached_source(candidate, candidate.func_name, sm, cache);
  for (std::future<Artifact>& other : others)
    if (Artifact one = other.get(); made.ok && !one.ok) made = std::move(one);
  return made;
}

Compile work_of(const spec::Candidate& candidate, int sm, const cpu::ObjectCache& cache) {
  if (candidate.language == "cuda") {
    if (has_kernels_alone(candidate))
      return [candidate, sm, cache] { return compile_with_launched(candidate, sm, cache); };
    return
        [candidate, sm, cache] { return cached_source(candidate, candidate.func_name, sm, cache); };
  }
  const CudaText text = candidate_text(candidate, sm).cuda;
  return [text, cache, op_name = candidate.op_name] { return compile_text(text, cache, op_name); };
}

}  // namespace

msl::TranslateOptions candidate_options(const spec::Candidate& candidate) {
  msl::TranslateOptions options;
  options.numbers_by_value = true;
  options.buffers_apart = true;
  options.whole_lines = !is_body(candidate);
  for (const base::Json& port : candidate.inputs_spec)
    if (port.contains("name"))
      options.lists_by_value.insert(port["name"].get<std::string>() + "_strides");
  for (size_t i = 0; i < candidate.updates.size(); ++i)
    if (const int input = candidate.updates[i]; input >= 0)
      options.same_memory.emplace_back(
          candidate.inputs_spec.at(static_cast<size_t>(input)).at("name").get<std::string>(),
          candidate.outputs_spec.at(i).at("name").get<std::string>());
  return options;
}

CandidateText candidate_text(const spec::Candidate& candidate, int sm) {
  CandidateText result{
      translate_text(metal_text(candidate), msl::Target::cuda, candidate_options(candidate)), {}};
  result.text.kernel(candidate.func_name);
  result.cuda = cuda_text(result.text, sm, kMostGroupThreads);
  return result;
}

Artifact CudaCompiler::compile(const spec::Candidate& candidate, double timeout_s) const try {
  std::packaged_task<Artifact()> task(work_of(candidate, sm_, cache_));
  std::future<Artifact> result = task.get_future();
  std::thread(std::move(task)).detach();
  if (result.wait_for(std::chrono::duration<double>(timeout_s)) == std::future_status::ready)
    return result.get();
  Artifact late = refused("the compiler took longer than " + base::seconds_text(timeout_s));
  late.timed_out = true;
  return late;
} catch (const base::Error& error) {
  if (error.exit_code() != 2) throw;
  return refused(error.what());  // no valid Metal
}

Artifact CudaCompiler::compile_alone(const spec::Candidate& candidate,
                                     const std::string& func_name) const {
  Artifact made = cached_source(candidate, func_name, sm_, cache_);
  if (made.ok) Launched::shared().note(candidate, func_name);
  return made;
}

}  // namespace mlx_kd::devices::cuda
