// What was built and what this machine can use, for medsynth_ext.build_info() and for C++ programs.
#include <cstdio>

#include "isa.h"
#include "parallel.h"
#include "workspace.h"

#ifndef MEDSYNTH_CUDA_ARCHS
#define MEDSYNTH_CUDA_ARCHS ""
#endif
#ifndef MEDSYNTH_NVCC_VERSION
#define MEDSYNTH_NVCC_VERSION ""
#endif

namespace {
const char* name_of(medsynth::Isa isa) {
  return isa == medsynth::Isa::avx512 ? "avx512" : isa == medsynth::Isa::avx2 ? "avx2" : "base";
}
}  // namespace

#define MEDSYNTH_EXPORT extern "C" __attribute__((visibility("default")))

// A JSON object; the text lives until the calling thread asks again.
MEDSYNTH_EXPORT const char* medsynth_build_info() {
  thread_local char text[1024];
#ifdef MEDSYNTH_WITH_CUDA
  const char* cuda = "true";
#else
  const char* cuda = "false";
#endif
#ifdef MEDSYNTH_SANITIZE
  const char* sanitizers = "address,undefined";
#else
  const char* sanitizers = "";
#endif
  std::snprintf(text, sizeof text,
                "{\"version\": \"%s\", \"compiler\": \"%s\", \"torch_target\": \"%s\", \"cuda\": %s, \"nvcc\": \"%s\", "
                "\"cuda_archs\": \"%s\", \"sanitizers\": \"%s\", \"cpu_best\": \"%s\", \"cpu_in_use\": \"%s\", "
                "\"threads\": %lld}",
                MEDSYNTH_VERSION, __VERSION__, MEDSYNTH_TORCH_TARGET, cuda, MEDSYNTH_NVCC_VERSION, MEDSYNTH_CUDA_ARCHS,
                sanitizers, name_of(medsynth::best_isa()), name_of(medsynth::current_isa()),
                static_cast<long long>(medsynth::thread_count()));
  return text;
}

MEDSYNTH_EXPORT int medsynth_set_isa(int isa) {
  return static_cast<int>(medsynth::set_isa(static_cast<medsynth::Isa>(isa < 0 ? 0 : isa > 2 ? 2 : isa)));
}

MEDSYNTH_EXPORT long long medsynth_workspace_bytes() { return medsynth::workspace_bytes(); }
MEDSYNTH_EXPORT void medsynth_release_workspaces() { medsynth::release_workspaces(); }
