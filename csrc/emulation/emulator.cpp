// Runs CUDA kernels on one thread of the CPU, block after block, so that their tests need no GPU.
//
// A thread of a block is a fiber with a stack of its own. Fibers run until they reach a barrier, in one order and then
// in the other, so that what lacks a barrier gives other numbers; shared memory that is given at the launch begins as
// NaN. A barrier that not all threads of its block or warp reach ends the process, and with the address sanitizer so
// does every access outside of a tensor. What it cannot show: races between blocks, the order that warps of one block
// really have, the limits of registers and of static shared memory (ptxas refuses those), and speed.
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#ifndef __x86_64__
#error "the emulation of CUDA switches stacks in x86-64 assembler"
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Saves the callee's registers and the stack pointer in *save, and goes on where `load` was saved.
extern "C" void medsynth_emulation_switch(void** save, void* load);
asm(R"(
.text
.hidden medsynth_emulation_switch
.globl medsynth_emulation_switch
medsynth_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace emulation {
namespace {

constexpr int kThreads = 1024;
constexpr size_t kStackBytes = 128 << 10, kSharedBytes = 48 << 10;

struct Block {
  void* stacks[kThreads];
  State states[kThreads];
  uint64_t words[kThreads];
  alignas(16) unsigned char shared[kSharedBytes];
  int threads;
};

Block block;
void* scheduler;
int current;
const std::function<void()>* kernel;

[[noreturn]] void refuse(const char* what) {
  std::fprintf(stderr, "CUDA emulation: block (%u, %u): %s\n", blockIdx.x, blockIdx.y, what);
  std::abort();
}

void run_thread() {
  (*kernel)();
  block.states[current] = State::done;
  medsynth_emulation_switch(&block.stacks[current], scheduler);
  refuse("a thread that had ended ran on");
}

char* stack_memory() {
  static char* const memory = [] {
    void* at = mmap(nullptr, kStackBytes * kThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) refuse("no memory for the stacks");
    return static_cast<char*>(at);
  }();
  return memory;
}

void start_threads() {
  for (int t = 0; t < block.threads; ++t) {
    void** top = reinterpret_cast<void**>(stack_memory() + (t + 1) * kStackBytes - 64);
    *top = reinterpret_cast<void*>(&run_thread);  // where the first switch returns to, aligned as a call leaves it
    block.stacks[t] = top - 6;                    // six registers, whose first values do not matter
    block.states[t] = State::ready;
  }
}

int count(int from, int to, State state) {
  int n = 0;
  for (int t = from; t < to; ++t) n += block.states[t] == state;
  return n;
}

bool run_ready(bool backwards) {
  bool ran = false;
  for (int k = 0; k < block.threads; ++k) {
    const int t = backwards ? block.threads - 1 - k : k;
    if (block.states[t] != State::ready) continue;
    ran = true;
    current = t;
    threadIdx = {static_cast<unsigned>(t), 0, 0};
    medsynth_emulation_switch(&scheduler, block.stacks[t]);
  }
  return ran;
}

// Lets the threads from `from` to `to` go on when they wait at the barrier; says whether any did.
bool release(int from, int to, State barrier, const char* refusal) {
  const int waiting = count(from, to, barrier);
  if (waiting == 0) return false;
  if (waiting != to - from) refuse(refusal);
  for (int t = from; t < to; ++t) block.states[t] = State::ready;
  return true;
}

void run_block() {
  start_threads();
  for (bool backwards = true; count(0, block.threads, State::done) < block.threads; backwards = !backwards) {
    if (run_ready(backwards)) continue;
    bool released = false;
    for (int first = 0; first < block.threads; first += kWarp) {
      const int end = first + static_cast<int>(kWarp) < block.threads ? first + static_cast<int>(kWarp) : block.threads;
      released |= release(first, end, State::at_warp_barrier, "not all threads of a warp reached its barrier");
    }
    if (!released) release(0, block.threads, State::at_block_barrier, "not all threads of the block reached a barrier");
  }
}

}  // namespace

void wait(State barrier) {
  const int me = current;
  block.states[me] = barrier;
  medsynth_emulation_switch(&block.stacks[me], scheduler);
}

uint64_t* words() { return block.words; }

void* dynamic_shared() { return block.shared; }

void launch(dim3 grid, dim3 threads, size_t shared_bytes, const std::function<void()>& body) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  blockIdx = {0, 0, 0};
  if (threads.x == 0 || threads.x > kThreads || threads.y != 1 || threads.z != 1) refuse("no such size of a block");
  if (grid.x == 0 || grid.x > 0x7FFFFFFFu || grid.y == 0 || grid.y > 65535 || grid.z != 1) refuse("no such grid");
  if (shared_bytes > kSharedBytes) refuse("more shared memory than a launch may have");
  kernel = &body;
  gridDim = grid;
  blockDim = threads;
  block.threads = static_cast<int>(threads.x);
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      std::memset(block.shared, 0xFF, shared_bytes);
      run_block();
    }
  }
}

}  // namespace emulation
