#include "mlx_kd/discover/run.h"

#include "mlx_kd/discover/finalise.h"
#include "mlx_kd/discover/run_setup.h"
#include "mlx_kd/discover/search_loop.h"

namespace mlx_kd::discover {
namespace {

archive::RunWriter open_writer(const RunRequest& request, archive::RunMeta meta) {
  return request.resume ? archive::RunWriter::resume(request.out, std::move(meta))
                        : archive::RunWriter::create(request.out, std::move(meta));
}

void tell_if_cut(const archive::RunWriter& writer, Listener& listener) {
  if (!writer.so_far().cut) return;
  listener.note(
      "[archive] the last record was cut and has been taken off: the run continues before it");
}

}  // namespace

RunOutcome run(const RunRequest& request, Listener& listener, Interrupt& interrupt) {
  RunSetup setup(request, listener);
  const Interrupt::Attached attached(interrupt, *setup.evaluator);
  auto writer = open_writer(request, setup.meta);
  tell_if_cut(writer, listener);
  Walk walk(
      {&setup.space, &setup.points, &setup.features, setup.strategy.get(), setup.evaluator.get(),
       &writer, &listener, &interrupt},
      {request.budget, request.batch, [&](uint64_t done) { return setup.goes_on(request, done); }});
  walk.run();
  return finish_run({&request, &setup, &walk.records(), &writer.so_far()}, writer, listener,
                    interrupt);
}

}  // namespace mlx_kd::discover
