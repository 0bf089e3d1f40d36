// Scratch memory for CPU kernels that outlives the call.
//
// Touching fresh pages costs several times more than the arithmetic of most kernels here, so the calling thread keeps
// its scratch between calls (in huge pages where the system grants them). `release_workspaces` gives it back.
#pragma once
#include <cstdint>

namespace medsynth {

// At least `bytes` of scratch, 64-byte aligned, contents undefined. `slot` (0..3) tells buffers used at the same time
// apart. Valid until the calling thread asks for the same slot again. Throws std::bad_alloc when there is no memory.
void* workspace(int slot, int64_t bytes);
int64_t workspace_bytes();
// Asks for huge pages under a large block of fresh memory: its first use then costs a quarter. The bytes stay as they
// are.
void prefer_huge_pages(void* data, int64_t bytes);
// Frees the scratch of the calling thread.
void release_workspaces();

}  // namespace medsynth
