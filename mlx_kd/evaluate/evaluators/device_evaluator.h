// The evaluator of a real device: compiles here, proves and times in a worker.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <vector>

#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/evaluate/worker/worker_host.h"

namespace mlx_kd::evaluate {

class DeviceEvaluator : public Evaluator {
 public:
  DeviceEvaluator(const Task& task, const EvaluateOptions& options);

  void evaluate(const std::vector<spec::Candidate>& batch,
                const std::function<void(size_t, const spec::Verdict&)>& done) override;
  void adopt(const spec::Candidate& anchor, const spec::Candidate& incumbent,
             const std::vector<double>& log_ratios) override;
  std::vector<Claim> claims(const std::vector<std::vector<spec::Candidate>>& finalists) override;
  std::vector<spec::AaPair> aa() override;
  base::Json protocol() const override;
  std::string protocol_name() const override;
  base::Json runtime() const override;
  base::Json seconds() const override;
  void interrupt() override { host_.interrupt(); }

 private:
  struct Compiled {
    spec::Candidate candidate;
    devices::Artifact artifact;
  };
  // What others are timed against.
  struct Partner {
    Compiled what;
    std::vector<double> log_ratios;  // of each size, over the anchor

    double objective() const;
  };
  std::vector<devices::Artifact> compile(const std::vector<spec::Candidate>& batch);
  void prepare_while_compiling(const std::vector<spec::Candidate>& batch,
                               std::vector<devices::Artifact>& artifacts);
  spec::Verdict judge(const Compiled& what);
  bool prove(const Compiled& what, spec::Verdict& verdict);
  bool watch(const Compiled& what, spec::Verdict& verdict);
  base::Json time(const Compiled& what, const Partner* other, int pairs, spec::Verdict& verdict);
  void confirm(const Compiled& what, spec::Verdict& verdict);
  // Whether both are one object that is launched alike at every size: the same work in every call.
  bool are_one_program(const Compiled& a, const Compiled& b) const;
  bool take_known_times(const Compiled& what, spec::Verdict& verdict) const;
  bool take(const WorkerClient::Answer& answer, const std::string& doing, double limit_s,
            spec::Verdict& verdict);
  void keep_if_best(const Compiled& what, const spec::Verdict& verdict);
  void compile_if_adopted(std::optional<Partner>& partner);
  // A claim on its way: from the first process, then from several.
  struct Made {
    Claim claim;
    size_t size;
    Compiled what;
    base::Json mlx = {};  // what it was compared with; null where one process is enough
    std::vector<double> log_ratios = {};  // of each process
    bool is_confirmed = false;
  };
  Made claim(size_t size, const Compiled& what, const Compiled* leader);
  std::vector<Made> claims_of_size(size_t size, const std::vector<spec::Candidate>& finalists);
  std::vector<Made*> unconfirmed_winners(std::vector<Made>& made) const;
  void claim_again(Made& made);
  void confirm_winners(std::vector<Made>& made);

  Task task_;
  EvaluateOptions options_;
  std::shared_ptr<const devices::Device> device_;
  Protocol protocol_;
  Setup setup_;
  WorkerHost host_;
  std::optional<Partner> anchor_, incumbent_;
  // Of each object the candidates that were timed, one for each launch.
  struct Timed {
    Compiled what;
    std::vector<spec::SizeMetrics> sizes;
  };
  std::multimap<std::filesystem::path, Timed> timed_;
  double compile_s_ = 0, prove_s_ = 0, time_s_ = 0, claims_s_ = 0;
};

}  // namespace mlx_kd::evaluate
