#include "mlx_kd/discover/run/run.h"

#include "mlx_kd/discover/run/finalise.h"
#include "mlx_kd/discover/run/pause.h"
#include "mlx_kd/discover/run/run_setup.h"
#include "mlx_kd/discover/run/search_loop.h"

namespace mlx_kd::discover {
namespace {

archive::RunWriter open_writer(const RunRequest& request, archive::RunMeta meta,
                               const archive::OldRecords& old) {
  return request.resume ? archive::RunWriter::resume(request.out, std::move(meta), old)
                        : archive::RunWriter::create(request.out, std::move(meta));
}

void tell_if_cut(const archive::RunWriter& writer, Listener& listener) {
  if (!writer.so_far().cut) return;
  listener.note(
      "[archive] the last record was cut and has been taken off: the run continues before it");
}

}  // namespace

RunOutcome run(const RunRequest& request, Listener& listener, Interrupt& interrupt) {
  const auto pause = [&] {
    wait_while_in_use(request.pause_file, [&] { return interrupt.raised(); });
  };
  pause();
  RunSetup setup(request, listener);
  const Interrupt::Attached attached(interrupt, *setup.evaluator);
  const auto goes_on = [&](uint64_t done) {
    pause();
    return setup.goes_on(request, done);
  };
  std::optional<size_t> first;
  const size_t by_default =
      request.from_default ? setup.points.find(setup.space.default_point()) : setup.points.size();
  if (by_default < setup.points.size()) first = by_default;
  Walk walk({&setup.space, &setup.points, &setup.features, setup.strategy.get(),
             setup.evaluator.get(), &listener, &interrupt},
            {request.budget, request.batch, goes_on,
             request.ranges.empty() ? setup.sizes.sizes.size() : 0, request.finalists, first});
  auto writer = open_writer(request, setup.meta, walk.old_records());
  tell_if_cut(writer, listener);
  walk.run(writer);
  pause();
  const Finals finals{&request,           &setup,          &walk.records(), &walk.visits(),
                      walk.benchmarked(), &writer.so_far()};
  return finish_run(finals, writer, listener, interrupt);
}

}  // namespace mlx_kd::discover
