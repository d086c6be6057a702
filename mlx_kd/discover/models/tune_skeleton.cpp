#include "mlx_kd/discover/models/tune_skeleton.h"

#include <algorithm>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/discover/models/model_code.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/spec/op/rows.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;

constexpr double kLongest = 60;  // seconds

std::vector<shapes::LoggedSize> read_log(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  return shapes::read_shape_log(path, kernels::all_ops()).sizes;
}

// --- what was called, and what the config tells ---

// Calls that differ in how many tokens there are alone; over keys, in how many keys.
bool is_same_place(const spec::Op& op, const spec::Dims& a, const spec::Dims& b) {
  const auto ranged = shapes::ranged_dims(op);
  const auto names = op.dim_names();
  const std::string& rows = spec::rows_dim(op);
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    const bool is_free = std::find(ranged.begin(), ranged.end(), name) != ranged.end();
    return a.at(name) == b.at(name) || (is_free && (name != rows || name == op.batch_dim));
  });
}

struct Place {
  const spec::Op* op;
  spec::Dims dims;  // of the first line
  int64_t calls = 0;
};

std::vector<Place> places_of(const std::vector<shapes::LoggedSize>& logged, spec::Dtype dtype) {
  std::vector<Place> places;
  for (const shapes::LoggedSize& one : logged) {
    if (one.dtype != dtype) continue;
    const spec::Op& op = kernels::find_op(one.op_name);
    const auto known = std::find_if(places.begin(), places.end(), [&](const Place& place) {
      return place.op == &op && is_same_place(op, place.dims, one.dims);
    });
    if (known == places.end())
      places.push_back({&op, one.dims, static_cast<int64_t>(one.count)});
    else
      known->calls += static_cast<int64_t>(one.count);
  }
  return places;
}

spec::ModelSizes model_sizes_of(const Place& place, int64_t tokens, size_t number) {
  spec::ModelSizes sizes;
  sizes.name = "code" + (number > 1 ? std::to_string(number) : "");
  sizes.reason = "called by the model's code";
  const int64_t first = place.dims.at(place.op->batch_dim);
  for (const std::string& name : place.op->dim_names())
    if (name != place.op->batch_dim) sizes.dims.set(name, place.dims.at(name));
  sizes.per_token = first % tokens == 0 ? first / tokens : first;
  if (is_over_keys(*place.op)) {
    if (tokens == 1)
      sizes.lengths = key_lengths();
    else
      sizes.lengths = {first};
  }
  (tokens == 1 ? sizes.calls.decode : sizes.calls.prompt) = place.calls;
  return sizes;
}

std::string times(int64_t calls) {
  return std::to_string(calls) + (calls == 1 ? " call" : " calls");
}

class Merge {
 public:
  Merge(const PassSizes& sizes, ModelUses& uses) : sizes_(sizes), uses_(uses) {}

  void pass(std::vector<Place> places, bool prompt) {
    std::erase_if(uses_.uses, [&](ModelUse& use) {
      if (use.prompt != prompt) return false;
      const auto at = std::find_if(places.begin(), places.end(), [&](const Place& place) {
        return place.op == use.op && is_same_place(*use.op, place.dims, use.sizes.front());
      });
      if (at == places.end()) {
        note(use.name + ": the model's code does not call it, and the config tells " +
             times(use.calls));
        return true;
      }
      if (at->calls != use.calls)
        note(use.name + ": " + times(at->calls) + " by the model's code, and the config tells " +
             std::to_string(use.calls));
      use.calls = at->calls;
      places.erase(at);
      return false;
    });
    for (const Place& place : places) add(place, prompt);
  }

 private:
  void note(std::string text) { uses_.differences.push_back(std::move(text)); }

  void add(const Place& place, bool prompt) {
    const size_t number = ++numbers_[{place.op->name, prompt}];
    try {
      const ModelUse use = use_of(
          *place.op, model_sizes_of(place, prompt ? sizes_.prompt : 1, number), sizes_, prompt);
      note(use.name + ": " + times(place.calls) + " by the model's code of " +
           use.sizes.front().text() + ", which the config does not tell");
      uses_.uses.push_back(use);
      if (const auto few = few_queries_of(use)) uses_.uses.push_back(*few);
    } catch (const base::Error& error) {
      uses_.without.push_back(place.op->name + ": " + error.what());
    }
  }

  const PassSizes& sizes_;
  ModelUses& uses_;
  std::map<std::pair<std::string, bool>, size_t> numbers_;
};

}  // namespace

CalledSizes run_skeleton(const std::string& python, const base::Json& config,
                         const PassSizes& sizes, spec::Dtype dtype,
                         const std::atomic<bool>* cancelled) {
  const base::ScratchFolder scratch("discover");
  const fs::path file = scratch.file("config.json");
  base::write_file_atomically(file, config.dump(2, ' ', true) + "\n", "discover");
  const base::Json request = {{"config", file.string()},
                              {"folder", scratch.path().string()},
                              {"prompt", sizes.prompt},
                              {"dtype", spec::name_of(dtype)}};
  CalledSizes called;
  called.why_not = run_model_code(python, "skeleton", request, kLongest, cancelled);
  if (!called.why_not.empty()) return called;
  called.decode = read_log(scratch.file("decode.ndjson"));
  called.prompt = read_log(scratch.file("prompt.ndjson"));
  if (called.decode.empty()) called.why_not = "it calls no operator of this build";
  return called;
}

void take_called(const CalledSizes& called, const PassSizes& sizes, spec::Dtype dtype,
                 ModelUses& uses) {
  Merge merge(sizes, uses);
  merge.pass(places_of(called.decode, dtype), false);
  if (sizes.prompt > 0) merge.pass(places_of(called.prompt, dtype), true);
  if (uses.uses.empty())
    base::misuse("discover", std::string("the model's code calls no operator in ") +
                                 spec::name_of(dtype) +
                                 ": give the type of its weights with "
                                 "--dtype");
}

}  // namespace mlx_kd::discover
