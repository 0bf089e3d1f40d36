// The schema of every operator, sorted by name. Kernels are registered beside their doors; fake kernels and gradients
// are declared in medsynth_ext/ops. `_out` forms write into a given tensor and have no gradient.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(medsynth_ext, m) {
  // out[b, x] = table[b, labels[b, x]]; returns the first position per sample whose label has no entry, or -1.
  m.def("map_labels_out(Tensor labels, Tensor table, Tensor(a!) out) -> Tensor");
  // Philox4x32-10 words for counters (N, 4) int64 (each < 2^32) and a key of two words; int64 (N, 4).
  m.def("philox_raw(Tensor counters, int key0, int key1) -> Tensor");
}
