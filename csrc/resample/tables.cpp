#include "tables.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace medsynth {

bool Taps::is_identity() const {
  if (inputs != static_cast<int64_t>(rows.size())) return false;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].size() != 1 || rows[i][0].first != static_cast<int32_t>(i) || rows[i][0].second != 1.0) return false;
  }
  return true;
}

Taps resize_taps(int64_t inputs, int64_t outputs, int64_t full, int64_t origin, ResizeRule rule, ResampleMode mode,
                 Border border) {
  Taps taps;
  taps.inputs = inputs;
  taps.rows.resize(static_cast<size_t>(outputs));
  for (int64_t i = 0; i < outputs; ++i) {
    const double q = resize_location(rule, i + origin, inputs, full);
    auto& row = taps.rows[static_cast<size_t>(i)];
    dispatch_border(border, [&](auto tag) {
      constexpr Border kBorder = decltype(tag)::value;
      if (mode == ResampleMode::nearest) {
        const int64_t at = nearest_index<kBorder>(q, inputs);
        if (at >= 0) row.emplace_back(static_cast<int32_t>(at), 1.0);
        return;
      }
      const AxisSample<double> s = sample_axis<kBorder>(q, inputs);
      if (s.w0 != 0.0) row.emplace_back(static_cast<int32_t>(s.index), s.w0);
      if (s.next != 0 && s.w1 != 0.0) row.emplace_back(static_cast<int32_t>(s.index + s.next), s.w1);
    });
  }
  return taps;
}

Taps composed(const Taps& second, const Taps& first) {
  Taps taps;
  taps.inputs = first.inputs;
  for (const auto& row : second.rows) {
    std::map<int32_t, double> sums;
    for (const auto& [middle, outer] : row) {
      for (const auto& [at, inner] : first.rows[static_cast<size_t>(middle)]) sums[at] += outer * inner;
    }
    taps.rows.emplace_back(sums.begin(), sums.end());
  }
  return taps;
}

Taps transposed(const Taps& taps) {
  Taps result;
  result.inputs = static_cast<int64_t>(taps.rows.size());
  result.rows.resize(static_cast<size_t>(taps.inputs));
  for (size_t i = 0; i < taps.rows.size(); ++i) {
    for (const auto& [at, weight] : taps.rows[i]) {
      result.rows[static_cast<size_t>(at)].emplace_back(static_cast<int32_t>(i), weight);
    }
  }
  return result;
}

size_t TableBlock::grow(size_t bytes) {
  const size_t at = (bytes_.size() + 63) / 64 * 64;
  bytes_.resize(at + bytes);
  return at;
}

void TableBlock::add(AxisTable* table, const std::vector<Taps>& samples) {
  const size_t outputs = samples[0].rows.size();
  size_t width = 1;
  for (const Taps& taps : samples) {
    for (const auto& row : taps.rows) width = std::max(width, row.size());
  }
  table->width = static_cast<int32_t>(width);
  table->stride = samples.size() == 1 ? 0 : static_cast<int64_t>(outputs);
  const size_t total = samples.size() * outputs, item = static_cast<size_t>(size_of(real_));
  Entry entry{table, 0, 0, 0};
  entry.count = grow(total * sizeof(int32_t));
  entry.index = grow(total * width * sizeof(int32_t));
  entry.weight = grow(total * width * item);
  for (size_t b = 0; b < samples.size(); ++b) {
    for (size_t i = 0; i < outputs; ++i) {
      const auto& row = samples[b].rows[i];
      const size_t at = b * outputs + i;
      const auto count = static_cast<int32_t>(row.size());
      std::memcpy(&bytes_[entry.count + at * sizeof(int32_t)], &count, sizeof count);
      for (size_t t = 0; t < row.size(); ++t) {
        std::memcpy(&bytes_[entry.index + (at * width + t) * sizeof(int32_t)], &row[t].first, sizeof(int32_t));
        const auto single = static_cast<float>(row[t].second);
        const void* weight = real_ == DType::f64 ? static_cast<const void*>(&row[t].second) : &single;
        std::memcpy(&bytes_[entry.weight + (at * width + t) * item], weight, item);
      }
    }
  }
  entries_.push_back(entry);
}

void TableBlock::place(const char* base) const {
  for (const Entry& e : entries_) {
    e.table->count = reinterpret_cast<const int32_t*>(base + e.count);
    e.table->index = reinterpret_cast<const int32_t*>(base + e.index);
    e.table->weight = base + e.weight;
  }
}

}  // namespace medsynth
