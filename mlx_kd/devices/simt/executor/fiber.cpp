#include "mlx_kd/devices/simt/executor/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "mlx_kd/base/error.h"

#if defined(__x86_64__)
// Callee-saved registers of the System V ABI, and the control words of SSE and x87 left as they
// are: kernels do not change them.
asm(R"(
.text
.p2align 4
.globl mlx_kd_simt_switch
.hidden mlx_kd_simt_switch
.type mlx_kd_simt_switch,@function
mlx_kd_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mlx_kd_simt_switch,.-mlx_kd_simt_switch
)");
#elif defined(__aarch64__)
// x19 to x30 and d8 to d15 (AAPCS64).
asm(R"(
.text
.p2align 4
.globl mlx_kd_simt_switch
mlx_kd_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  ldr x9, [x1]
  mov sp, x9
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#endif

namespace mlx_kd::devices::simt {

#if defined(__x86_64__) || defined(__aarch64__)
extern "C" void mlx_kd_simt_switch(Context* from, Context* to);

void switch_to(Context& from, Context& to) {
  mlx_kd_simt_switch(&from, &to);
}

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  auto top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{15};
#if defined(__x86_64__)
  constexpr int kWords = 8;  // six registers, the entry, and a return address that is never taken
  constexpr int kEntry = 6;
#else
  constexpr int kWords = 20;
  constexpr int kEntry = 11;  // x30
#endif
  auto* words = reinterpret_cast<uintptr_t*>(top) - kWords;
  std::memset(words, 0, kWords * sizeof(uintptr_t));
  words[kEntry] = reinterpret_cast<uintptr_t>(entry);
  context = words;
}
#else
void switch_to(Context& from, Context& to) {
  swapcontext(&from, &to);
}

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif

Stacks::~Stacks() {
  if (base_) munmap(base_, count_ * (kBytes + guard_));
}

void Stacks::reserve(size_t count) {
  if (count <= count_) return;
  if (base_) munmap(base_, count_ * (kBytes + guard_));
  guard_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* made = mmap(nullptr, count * (kBytes + guard_), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  base_ = nullptr;
  if (made == MAP_FAILED) base::fail("simt", "no memory for the stacks of a threadgroup");
  base_ = static_cast<char*>(made);
  count_ = count;
  for (size_t i = 0; i < count; ++i) mprotect(at(i) - guard_, guard_, PROT_NONE);
}

bool Stacks::in_guard(const void* address) const {
  const auto* byte = static_cast<const char*>(address);
  if (!base_ || byte < base_ || byte >= base_ + count_ * (kBytes + guard_)) return false;
  return static_cast<size_t>(byte - base_) % (kBytes + guard_) < guard_;
}

}  // namespace mlx_kd::devices::simt
