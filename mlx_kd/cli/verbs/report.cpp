#include "mlx_kd/archive/report/report.h"

#include <cstdio>
#include <memory>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct ReportOptions {
  std::string run;
  bool open = false, json = false;
};

void open_in_browser(const std::string& file) {
#ifdef __APPLE__
  const char* opener = "open";
#else
  const char* opener = "xdg-open";
#endif
  if (!base::run_process({opener, file}, 10).ok())
    std::fprintf(stderr, "[cli] %s could not open it: open %s yourself\n", opener, file.c_str());
}

}  // namespace

void add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* verb = app.add_subcommand(
      "report", "Writes report.md and report.html of a run again, and prints its winners.");
  verb->add_option("--run", options->run, "Run directory")->required();
  verb->add_flag("--open", options->open, "Show report.html in the browser");
  verb->add_flag("--json", options->json, "Print the winners as JSON");
  verb->callback([options] {
    const archive::RunData run = archive::read_run_digest(options->run);
    if (run.cut) std::fputs("[archive] the last line of run.ndjson is cut and left out\n", stderr);
    archive::write_report(options->run, run);
    const std::string file = (std::filesystem::path(options->run) / "report.html").string();
    if (options->json)
      std::printf("%s\n", archive::report_json(run).dump(2, ' ', true).c_str());
    else
      std::fputs(archive::report_table(run).c_str(), stdout);
    std::fprintf(stderr, "%s\n", file.c_str());
    if (options->open) open_in_browser(file);
  });
}

}  // namespace mlx_kd::cli
