#include "mlx_kd/shapes/hub_download.h"

#include <chrono>
#include <thread>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/shapes/curl.h"

namespace mlx_kd::shapes {
namespace {

namespace fs = std::filesystem;

struct Remote {
  std::string etag, commit;
  int64_t bytes = -1;  // -1 if the hub does not say
};

std::string url_of(const ModelRequest& request, const HubSettings& settings,
                   const std::string& name) {
  std::string revision;
  for (char c : request.revision)
    revision += c == '/' ? "%2F" : c == '+' ? "%2B" : std::string(1, c);
  return settings.endpoint + "/" + request.model_id + "/resolve/" + revision + "/" + name;
}

// Redirects may lead to other hosts: there curl leaves the Authorization header out.
CurlOptions common(const std::string& url, const HubSettings& settings) {
  CurlOptions result = {{"url", url},
                        {"silent", ""},
                        {"show-error", ""},
                        {"location", ""},
                        {"max-redirs", "5"},
                        {"proto-redir", "=http,https"},
                        {"user-agent", "mlx-kd"},
                        {"connect-timeout", std::to_string(settings.ask_s)}};
  if (!settings.token.empty())
    result.emplace_back("header", "Authorization: Bearer " + settings.token);
  return result;
}

std::string login_advice(const ModelRequest& request, const HubSettings& settings) {
  return "accept its terms at " + settings.endpoint + "/" + request.model_id +
         ", make a token at " + settings.endpoint +
         "/settings/tokens, and log in: hf auth login, or HF_TOKEN=...";
}

[[noreturn]] void refuse_status(int status, const std::string& code, const ModelRequest& request,
                                const HubSettings& settings) {
  const std::string model = "model '" + request.model_id + "'";
  if (code == "GatedRepo")
    base::fail("shapes", model + " is gated: " + login_advice(request, settings));
  if (code == "RevisionNotFound")
    base::misuse("shapes", model + " has no revision '" + request.revision +
                               "': give a branch, a tag or a commit of it");
  if (code == "EntryNotFound")
    base::misuse("shapes", model + " has no config.json at revision '" + request.revision +
                               "': give a folder that has one");
  if (code == "RepoNotFound" || status == 404)
    base::misuse("shapes", "there is no " + model + " at " + settings.endpoint +
                               ", or it is private: check the id, or log in (hf auth login, or "
                               "HF_TOKEN=...)");
  if (status == 401 || status == 403)
    base::fail("shapes", settings.endpoint + " refuses " + model + " (status " +
                             std::to_string(status) + "): " + login_advice(request, settings));
  base::fail("shapes", settings.endpoint + " answered with status " + std::to_string(status) +
                           " for " + model + ": try again later, or give a folder");
}

[[noreturn]] void fail_transfer(const CurlResult& result, const HubSettings& settings) {
  if (result.cancelled) base::fail("shapes", "the fetch was ended");
  if (result.missing)
    base::fail("shapes",
               "curl is not installed, which fetches from the hub: install it, or give "
               "the folder of a model");
  base::fail("shapes", "cannot reach " + settings.endpoint + " (" + result.message() +
                           "): check the network, HF_ENDPOINT and proxies, or give a folder or a "
                           "model that is in the cache (--local-files-only)");
}

void pause(int attempt) {
  std::this_thread::sleep_for(std::chrono::milliseconds(100 << attempt));
}

bool is_busy(int status) {
  return status == 429 || status >= 500;
}

Headers ask(const std::string& url, const HubSettings& settings, const FetchWatch& watch) {
  CurlOptions options = common(url, settings);
  options.insert(options.end(), {{"head", ""}, {"max-time", std::to_string(settings.ask_s)}});
  for (int attempt = 1;; ++attempt) {
    const CurlResult result = run_curl(options, settings.ask_s + 5, watch.cancelled);
    const Headers headers = parse_headers(result.output);
    const bool again = result.exit_code == 0 ? is_busy(headers.status) : result.is_transient();
    if (result.exit_code == 0 && !(again && attempt < kAttempts)) return headers;
    if (!again || attempt == kAttempts || result.cancelled) fail_transfer(result, settings);
    pause(attempt);
  }
}

std::string without_quotes(std::string etag) {
  if (etag.rfind("W/", 0) == 0) etag = etag.substr(2);
  std::erase(etag, '"');
  return etag;
}

// Names of files are made of these: nothing but letters and digits is let through.
bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 128 &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '-'; });
}

Remote remote_of(const Headers& headers, const HubSettings& settings) {
  Remote result;
  const std::string linked = headers.value("x-linked-etag"), bytes = headers.value("x-linked-size");
  result.etag = without_quotes(linked.empty() ? headers.value("etag") : linked);
  result.commit = headers.value("x-repo-commit");
  const std::string length = bytes.empty() ? headers.value("content-length") : bytes;
  if (!length.empty()) result.bytes = std::atoll(length.c_str());
  if (!is_name(result.etag) || !is_commit(result.commit))
    base::fail("shapes", settings.endpoint +
                             " names no commit or no ETag: it is not a Hugging Face "
                             "hub, set HF_ENDPOINT to one");
  return result;
}

int64_t size_of(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(size);
}

// Fetches what is missing of the file; false if that is worth another attempt.
bool transfer(const std::string& url, const fs::path& part, const Remote& remote,
              const ModelRequest& request, const HubSettings& settings, const FetchWatch& watch,
              bool last) {
  if (remote.bytes >= 0 && size_of(part) >= remote.bytes) return true;
  CurlOptions options = common(url, settings);
  options.insert(
      options.end(),
      {{"fail", ""},
       {"output", part.string()},
       {"continue-at", "-"},
       {"max-filesize", kMaxFetchBytes},
       {"speed-limit", "1"},
       {"speed-time", std::to_string(std::max(1, static_cast<int>(settings.transfer_s)))},
       {"max-time", std::to_string(6 * settings.transfer_s)}});
  const CurlResult result = run_curl(options, 6 * settings.transfer_s + 5, watch.cancelled);
  if (result.exit_code == 0) return true;
  // curl's own message of a status ends in it: "The requested URL returned error: 503".
  const size_t at = result.output.rfind("error: ");
  const int status = result.exit_code == 22 && at != std::string::npos
                         ? std::atoi(result.output.c_str() + at + 7)
                         : 0;
  const bool restart = result.exit_code == 33 || status == 416;  // it cannot continue
  if (restart) fs::remove(part);
  if (!last && !result.cancelled && (restart || result.is_transient() || is_busy(status)))
    return false;
  if (status > 0) refuse_status(status, "", request, settings);
  if (result.exit_code == 63)
    base::fail("shapes", url + " is larger than 16 MiB: it is not a model's config");
  fail_transfer(result, settings);
}

void check_bytes(const fs::path& part, const Remote& remote) {
  const std::string bytes = base::read_file(part, "shapes");
  const bool whole = remote.bytes < 0 || static_cast<int64_t>(bytes.size()) == remote.bytes;
  const bool is_hashed = remote.etag.size() == 64;
  if (whole && (!is_hashed || base::sha256_hex(bytes) == remote.etag)) return;
  fs::remove(part);
  base::fail("shapes", "what arrived from the hub is not what it announced (" +
                           std::to_string(bytes.size()) + " bytes): try again");
}

}  // namespace

ModelFile fetch(const ModelRequest& request, const std::string& name, const CachedModel& model,
                const HubSettings& settings, const FetchWatch& watch) {
  const std::string url = url_of(request, settings, name);
  watch.note("fetching " + name + " of " + request.model_id + " from " + settings.endpoint);
  const Headers headers = ask(url, settings, watch);
  if (headers.status != 200)
    refuse_status(headers.status, headers.value("x-error-code"), request, settings);
  const Remote remote = remote_of(headers, settings);
  const auto lock = base::FileLock::take(model.lock(remote.etag), "shapes");
  const fs::path part = model.incomplete(remote.etag);
  if (!fs::exists(part.parent_path() / remote.etag)) {
    for (int attempt = 1;
         !transfer(url, part, remote, request, settings, watch, attempt == kAttempts); ++attempt)
      pause(attempt);
    check_bytes(part, remote);
  }
  return {model.keep(remote.etag, remote.commit, request.revision, name), remote.commit};
}

}  // namespace mlx_kd::shapes
