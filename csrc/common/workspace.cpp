#include "workspace.h"

#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <new>

namespace medsynth {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

struct Buffer {
  void* data = nullptr;
  int64_t bytes = 0;

  void release() {
    std::free(data);
    data = nullptr;
    bytes = 0;
  }
  ~Buffer() { release(); }
};

thread_local std::array<Buffer, 4> buffers;

}  // namespace

void* workspace(int slot, int64_t bytes) {
  Buffer& buffer = buffers.at(static_cast<size_t>(slot));
  if (buffer.bytes >= bytes && buffer.data != nullptr) return buffer.data;
  buffer.release();
  const int64_t rounded = (bytes / kHugePage + 1) * kHugePage;
  if (posix_memalign(&buffer.data, static_cast<size_t>(kHugePage), static_cast<size_t>(rounded)) != 0) {
    buffer.data = nullptr;
    throw std::bad_alloc();
  }
  prefer_huge_pages(buffer.data, rounded);
  buffer.bytes = rounded;
  return buffer.data;
}

void prefer_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr auto page = static_cast<uintptr_t>(kHugePage);
  const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

int64_t workspace_bytes() {
  int64_t total = 0;
  for (const Buffer& buffer : buffers) total += buffer.bytes;
  return total;
}

void release_workspaces() {
  for (Buffer& buffer : buffers) buffer.release();
}

}  // namespace medsynth
