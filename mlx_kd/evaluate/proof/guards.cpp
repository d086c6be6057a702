#include "mlx_kd/evaluate/proof/guards.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"

namespace mlx_kd::evaluate {
namespace {

constexpr unsigned char kCanary = 0xc5;
constexpr size_t kMaxGuards = 1024;

struct Guard {
  const std::byte *begin, *end;
  char line[256];
};

// Plain data, for a signal handler reads it.
Guard guards[kMaxGuards];
volatile size_t guard_count = 0;
int report_fd = -1;
char prefix[64] = "{";  // in place of a line's first character

bool put(const char* text) {
  return write(report_fd, text, strlen(text)) >= 0;
}

void on_fault(int signal, siginfo_t* info, void*) {
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  for (size_t i = 0; i < guard_count; ++i) {
    if (at < guards[i].begin || at >= guards[i].end) continue;
    _exit(put(prefix) && put(guards[i].line + 1) ? kFaultExit : kFaultExit + 1);
  }
  ::signal(signal, SIG_DFL);  // the faulting instruction runs again and ends the process
}

}  // namespace

void register_guard(const void* begin, int64_t bytes, const std::string& line) {
  if (guard_count >= kMaxGuards || line.size() + 2 > sizeof(Guard::line))
    base::fail("evaluate", "no room for the guard '" + line + "': give fewer sizes");
  Guard& guard = guards[guard_count];
  guard.begin = static_cast<const std::byte*>(begin);
  guard.end = guard.begin + bytes;
  std::memcpy(guard.line, (line + "\n").c_str(), line.size() + 2);
  guard_count = guard_count + 1;
}

void clear_guards_within(const void* begin, int64_t bytes) {
  const auto* first = static_cast<const std::byte*>(begin);
  const auto inside = [&](const Guard& g) { return g.begin >= first && g.end <= first + bytes; };
  guard_count = static_cast<size_t>(std::remove_if(guards, guards + guard_count, inside) - guards);
}

void report_faults_to(int fd) {
  report_fd = fd;
  static char stack[1 << 16];
  stack_t alternate = {};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

void sign_faults_with(const std::string& signature) {
  const std::string text = "{\"signature\":\"" + signature + "\",";
  if (text.size() >= sizeof prefix)
    base::fail("evaluate", "the signature '" + signature + "' is too long");
  std::memcpy(prefix, text.c_str(), text.size() + 1);
}

FencedBuffer::FencedBuffer(int64_t capacity, const std::string& name)
    : capacity_(round_up(std::max<int64_t>(capacity, 1), page_bytes()) + page_bytes()) {
  const int64_t page = page_bytes();
  const auto whole = static_cast<size_t>(capacity_ + 2 * page);
  void* at = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base_ = static_cast<std::byte*>(at);
  if (at == MAP_FAILED ||
      mprotect(base_ + page, static_cast<size_t>(capacity_), PROT_READ | PROT_WRITE) != 0)
    base::fail("evaluate", "no memory for output '" + name + "': free some memory");
  const base::Json line = {
      {"status", "wrong"},
      {"reason", "it touched memory outside the bounds of output '" + name + "'"}};
  register_guard(base_, page, line.dump());
  register_guard(base_ + page + capacity_, page, line.dump());
}

FencedBuffer::~FencedBuffer() {
  const int64_t whole = capacity_ + 2 * page_bytes();
  clear_guards_within(base_, whole);
  munmap(base_, static_cast<size_t>(whole));
}

std::byte* FencedBuffer::poison(int64_t bytes, Place place, unsigned char pattern) {
  std::byte* const first = base_ + page_bytes();
  const int64_t slack = std::min(capacity_ - bytes, page_bytes());
  std::byte* const array = place == Place::low ? first : first + capacity_ - bytes;
  canary_ = place == Place::low ? array + bytes : array - slack;
  canary_bytes_ = slack;
  std::memset(array, pattern, static_cast<size_t>(bytes));
  std::memset(canary_, kCanary, static_cast<size_t>(slack));
  return array;
}

bool FencedBuffer::intact() const {
  return std::all_of(canary_, canary_ + canary_bytes_,
                     [](std::byte b) { return b == std::byte{kCanary}; });
}

}  // namespace mlx_kd::evaluate
