// The trial of winners, with a program in Python's place that invents times: a kernel named slow...
// makes a call of the model slower, one named fast... makes it faster.
#include "mlx_kd/discover/models/tune_trial.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/files.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;
using Names = std::set<std::string>;

constexpr const char* kProgram = R"(#!/usr/bin/env python3
import json, sys
request = json.loads(sys.argv[-1])
open(sys.argv[0] + ".runs", "a").write("x")
def us(pack, tokens):
    text = open(pack).read() if pack else "fast" * LESS
    time = 1000 + 100 * text.count("slow") - 10 * text.count("fast")
    return time + 300 * text.count("batches") * (1 < tokens < 17)
times = [[[us(pack, one["tokens"])] * 8 for pack in one["packs"]] for one in request["passes"]]
open(request["out"], "w").write(json.dumps(times))
)";

class TuneTrial : public testing::Test {
 protected:
  TuneTrial() {
    request_.device = "cpu";
    request_.sizes = {{1, 4}, 64};
    request_.out = folder_.file("out");
    python_ = folder_.file("python");
    program(kProgram);
    for (const char* name : {"down", "head"}) request_.uses.uses.push_back(use(name, false));
    request_.uses.uses.push_back(use("all", true));
  }

  // Without a pack the model has `less` fast kernels.
  void program(std::string text, int less = 0) {
    if (const size_t at = text.find("LESS"); at != std::string::npos)
      text.replace(at, 4, std::to_string(less));
    base::write_file_atomically(python_, text, "test");
    fs::permissions(python_, fs::perms::owner_all);
  }

  static int64_t width_of(const std::string& name) {
    return name == "down" ? 64 : name == "head" ? 128 : 256;
  }

  static spec::Dims size(const std::string& name, int64_t m) {
    return {{"M", m},        {"N", width_of(name)}, {"K", 64},
            {"has_norm", 0}, {"has_bias", 0},       {"has_residual", 0}};
  }

  static ModelUse use(const std::string& name, bool prompt) {
    const spec::Op& op = kernels::find_op("matvec");
    ModelUse result{&op, "matvec." + name, "", prompt, 1, {}, {}};
    for (const int64_t m : prompt ? std::vector<int64_t>{64} : std::vector<int64_t>{1, 4})
      result.sizes.push_back(shapes::checked_size(op, size(name, m)));
    return result;
  }

  static packs::Entry entry(const std::string& id, const ModelUse& use, const spec::Dims& size) {
    packs::Entry result;
    result.key.op_name = use.op->name;
    result.key.dtype = "float16";
    result.key.shape_signature = size;
    result.candidate_id = id;
    result.func_name = "kd_matvec";
    result.language = "cpp";
    result.source = "void kd_matvec() {}";
    result.source_hash = packs::source_hash_of(result);
    result.protocol = "test";
    return result;
  }

  // The default kernel is pinned at all sizes, and the search's winners are `ids`, by size.
  void found(TuneState& state, size_t at, const Texts& ids) {
    const ModelUse& use = request_.uses.uses[at];
    packs::Pack by_default, searched;
    for (size_t i = 0; i < use.sizes.size(); ++i) {
      by_default.entries.push_back(entry("first", use, use.sizes[i]));
      if (i < ids.size()) searched.entries.push_back(entry(ids[i], use, use.sizes[i]));
    }
    UseState& its = state.of(use);
    its.by_default = UseRun();
    its.by_default->candidate_id = "first";
    packs::write_pack(state.folder(use, kDefaultRun) / "best_kernels.json", by_default);
    if (ids.empty()) return;
    its.search = SearchPlan();
    its.search->found = UseRun();
    its.search->found->candidate_id = ids.front();
    packs::write_pack(state.folder(use, kSearchRun) / "best_kernels.json", searched);
  }

  std::optional<ModelTrial> tried(const TuneWinners& winners,
                                  const std::atomic<bool>* cancelled = nullptr) {
    return run_model_trial({python_.string(), base::Json::object(), request_.sizes,
                            spec::Dtype::float16, 0, 1, cancelled},
                           winners);
  }

  // "id N M" of each entry.
  static Texts texts(const packs::Pack& pack) {
    Texts result;
    for (const packs::Entry& one : pack.entries) {
      const spec::Dims& dims = one.key.shape_signature;
      result.push_back(one.candidate_id + " " + std::to_string(dims.at("N")) + " " +
                       std::to_string(dims.at("M")));
    }
    std::sort(result.begin(), result.end());
    return result;
  }

  base::ScratchFolder folder_{"test"};
  fs::path python_;
  TuneRequest request_;
};

TEST_F(TuneTrial, AWinnerThatIsSlowInTheModelGivesWayToTheDefaultKernel) {
  TuneState state(request_);
  found(state, 0, {"slow"});
  found(state, 1, {"fast"});
  found(state, 2, {"slow_prompt"});
  const TuneWinners winners(request_, state);
  const ModelTrial trial = *tried(winners);
  EXPECT_EQ(trial.why_not, "");
  ASSERT_EQ(trial.passes.size(), 3u);
  EXPECT_EQ(trial.passes[0].tried, (Names{"matvec.down", "matvec.head"}));
  EXPECT_LT(trial.passes[0].together.hi, 1);
  EXPECT_LT(trial.passes[0].alone.at("matvec.down").hi, 1);
  EXPECT_EQ(trial.passes[0].kept, Names{"matvec.head"});
  EXPECT_GT(trial.passes[0].pack.lo, 1);
  EXPECT_GT(trial.passes[0].over_patch.lo, 1);
  EXPECT_EQ(trial.passes[2].kept, Names());
  EXPECT_EQ(texts(winners.pack_of_kept(trial.kept())),
            (Texts{"fast 128 1", "first 128 4", "first 256 64", "first 64 1", "first 64 4"}));
}

TEST_F(TuneTrial, AWinnerForMoreTokensIsJudgedByAStepOfThem) {
  TuneState state(request_);
  found(state, 0, {"fast_a", "fast_batches"});
  found(state, 1, {});
  found(state, 2, {"fast_prompt"});
  const TuneWinners winners(request_, state);
  const ModelTrial trial = *tried(winners);
  EXPECT_EQ(trial.passes[0].kept, Names{"matvec.down"});
  EXPECT_EQ(trial.passes[1].kept, Names());
  EXPECT_EQ(trial.passes[2].kept, Names{"matvec.all"});
  EXPECT_EQ(
      texts(winners.pack_of_kept(trial.kept())),
      (Texts{"fast_a 64 1", "fast_prompt 256 64", "first 128 1", "first 128 4", "first 64 4"}));
}

TEST_F(TuneTrial, WithoutWinnersThePackIsComparedWithNoneAlone) {
  TuneState state(request_);
  for (size_t at : {0, 1, 2}) found(state, at, {});
  const TuneWinners winners(request_, state);
  const ModelTrial trial = *tried(winners);
  EXPECT_DOUBLE_EQ(trial.passes[0].over_patch.ratio, 1);
  EXPECT_EQ(trial.passes[0].together.rounds, 0u);
  EXPECT_EQ(fs::file_size(python_.string() + ".runs"), 1u);
}

TEST_F(TuneTrial, AFasterModelWithoutAPackLeavesNoPinOfThePass) {
  TuneState state(request_);
  found(state, 0, {"fast"});
  found(state, 1, {});
  found(state, 2, {"fast_prompt"});
  program(kProgram, 20);
  const TuneWinners winners(request_, state);
  ModelTrial trial = *tried(winners);
  EXPECT_EQ(trial.without_pins(), (std::set<size_t>{0, 2}));
  EXPECT_EQ(trial.kept(), UsesByPass(3));
  EXPECT_EQ(texts(winners.pack_of_kept(trial.kept(), trial.without_pins())), Texts());
  trial.passes[2].has_pins = true;
  EXPECT_EQ(texts(winners.pack_of_kept(trial.kept(), trial.without_pins())), Texts{"first 256 64"});
}

TEST_F(TuneTrial, CodeThatFailsIsSaidInItsLastWords) {
  TuneState state(request_);
  found(state, 0, {"fast"});
  program("#!/bin/sh\necho first; echo 'ValueError: no such layer' >&2; exit 1\n");
  const ModelTrial trial = *tried(TuneWinners(request_, state));
  EXPECT_EQ(trial.why_not, "ValueError: no such layer");
  EXPECT_TRUE(trial.passes.empty());
}

TEST_F(TuneTrial, ATrialThatIsCancelledFindsNothing) {
  TuneState state(request_);
  found(state, 0, {"fast"});
  program("#!/bin/sh\nsleep 60\n");
  const std::atomic<bool> cancelled{true};
  EXPECT_FALSE(tried(TuneWinners(request_, state), &cancelled));
}

TEST_F(TuneTrial, ItIsKeptWithTheTuning) {
  {
    TuneState state(request_);
    found(state, 0, {"fast"});
    state.trial() = tried(TuneWinners(request_, state));
    state.save();
  }
  const TuneState again(request_);
  ASSERT_TRUE(again.trial());
  EXPECT_EQ(again.trial()->winners, TuneWinners(request_, again).text_of_tried());
  EXPECT_EQ(again.trial()->kept(), (UsesByPass{{"matvec.down"}, {}, {}}));
}

}  // namespace
}  // namespace mlx_kd::discover
