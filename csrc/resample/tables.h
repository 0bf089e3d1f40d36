// Builds the tables of taps that the resampling kernels read.
#pragma once
#include <utility>
#include <vector>

#include "../diffeo/sampling.h"
#include "locations.h"
#include "resample.h"

namespace medsynth {

enum class ResampleMode : int32_t { linear = 0, nearest = 1 };

// A sparse matrix by rows: per output, input positions in ascending order and their weights.
struct Taps {
  std::vector<std::vector<std::pair<int32_t, double>>> rows;
  int64_t inputs = 0;

  bool is_identity() const;
};

// `outputs` voxels of an axis of `full`, from voxel `origin` on, drawn from an axis of `inputs` voxels.
Taps resize_taps(int64_t inputs, int64_t outputs, int64_t full, int64_t origin, ResizeRule rule, ResampleMode mode,
                 Border border);
Taps composed(const Taps& second, const Taps& first);
Taps transposed(const Taps& taps);

// Lays tables out in one block of memory that can be copied to a device as it is.
class TableBlock {
 public:
  explicit TableBlock(DType real) : real_(real) {}
  // Adds the table of one axis for all samples (or one for all); its pointers are set by `place`.
  void add(AxisTable* table, const std::vector<Taps>& samples);
  // Sets the pointers of all tables as if the block began at `base`.
  void place(const char* base) const;
  const char* data() const { return bytes_.data(); }
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }

 private:
  struct Entry {
    AxisTable* table;
    size_t count, index, weight;
  };
  size_t grow(size_t bytes);

  DType real_;
  std::vector<char> bytes_;
  std::vector<Entry> entries_;
};

}  // namespace medsynth
