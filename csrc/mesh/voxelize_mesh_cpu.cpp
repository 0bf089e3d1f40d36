// The rows of the grid are cut into bands; each band of a sample keeps one bit per voxel, in the cache, toggles it by
// the faces that reach it, and writes its part of the output once.
#include <cstring>

#include "../common/dispatch.h"
#include "../common/lanes.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "voxelize_mesh_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

constexpr int64_t kBandBytes = int64_t{256} << 10;
constexpr int64_t kBandsWanted = 16;

struct Bands {
  int64_t rows, count;  // rows of a band; the last may have fewer

  Bands(const Mesh& m, int64_t row_bytes) {
    const int64_t fit = kBandBytes / row_bytes;
    const int64_t few = (m.size[0] + kBandsWanted - 1) / kBandsWanted;
    rows = fit < 1 ? 1 : fit < few ? fit : few;
    count = (m.size[0] + rows - 1) / rows;
  }
};

struct BandRange {
  int32_t first, last;  // [first, last)
};

// Faces by band: bin n is band n % count of sample n / count.
struct Bins {
  const int64_t* end;  // of every bin in the list; it begins where the one before ends
  const int32_t* list;

  const int32_t* begin_of(int64_t bin) const { return list + (bin == 0 ? 0 : end[bin - 1]); }
  const int32_t* end_of(int64_t bin) const { return list + end[bin]; }
};

// The bands that each face of a sample reaches, and how many faces reach each band.
template <class T>
void find_ranges(const Mesh& m, const Bands& bands, int64_t b, BandRange* ranges, int64_t* counts) {
  for (int64_t n = 0; n < bands.count; ++n) counts[n] = 0;
  for (int64_t f = 0; f < m.face_count; ++f) {
    Face face;
    ranges[f] = {0, 0};
    if (!load_face<T>(m, b, f, face) || face.first_row >= face.last_row) continue;
    ranges[f] = {static_cast<int32_t>(face.first_row / bands.rows),
                 static_cast<int32_t>((face.last_row - 1) / bands.rows + 1)};
    for (int64_t n = ranges[f].first; n < ranges[f].last; ++n) ++counts[n];
  }
}

template <class T>
Bins bin_faces(const Mesh& m, const Bands& bands) {
  const int64_t bins = m.batch * bands.count;
  int64_t* start =
      static_cast<int64_t*>(workspace(0, (bins + 1) * static_cast<int64_t>(sizeof(int64_t)) +
                                             m.batch * m.face_count * static_cast<int64_t>(sizeof(BandRange))));
  BandRange* ranges = reinterpret_cast<BandRange*>(start + bins + 1);
  parallel_for(0, m.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      find_ranges<T>(m, bands, b, ranges + b * m.face_count, start + 1 + b * bands.count);
    }
  });
  start[0] = 0;
  for (int64_t n = 0; n < bins; ++n) start[n + 1] += start[n];
  int32_t* list = static_cast<int32_t*>(workspace(1, start[bins] * static_cast<int64_t>(sizeof(int32_t))));
  parallel_for(0, m.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      int64_t* next = start + b * bands.count;  // in the end each is where its bin ends
      for (int64_t f = 0; f < m.face_count; ++f) {
        const BandRange range = ranges[b * m.face_count + f];
        for (int64_t n = range.first; n < range.last; ++n) list[next[n]++] = static_cast<int32_t>(f);
      }
    }
  });
  return {start, list};
}

// One voxel per bit, from the lowest.
template <class T>
void expand(uint64_t bits, int64_t count, T* out) {
  if constexpr (sizeof(T) == 1) {
#ifdef __AVX512BW__
    if (count == 64) {
      store(out, _mm512_maskz_set1_epi8(bits, 1));
      return;
    }
#endif
    for (; count >= 8; count -= 8, bits >>= 8, out += 8) {
      const uint64_t spread = ((bits & 0xFF) * 0x0101010101010101u) & 0x8040201008040201u;
      store(out, ((spread + 0x7F7F7F7F7F7F7F7Fu) >> 7) & 0x0101010101010101u);
    }
  } else {
    using V = typename VecOf<T>::type;
    using Lane = typename LaneTypes<T>::I;
    typedef Lane I __attribute__((vector_size(kVectorBytes)));
    constexpr int64_t kCount = kVectorBytes / sizeof(T);
    I lane = {};
    for (int64_t i = 0; i < kCount; ++i) lane[i] = Lane{1} << i;
    const V one = splat<V>(T(1));
    for (; count >= kCount; count -= kCount, bits >>= kCount, out += kCount) {
      const I here = splat<I>(static_cast<Lane>(bits & ((1u << kCount) - 1))) & lane;
      store(out, bit_copy<V>(bit_copy<I>(one) & (here == lane)));
    }
  }
  for (int64_t i = 0; i < count; ++i, bits >>= 1) out[i] = static_cast<T>(bits & 1);
}

// The toggles of a band: bits of every word of every column of every part; of slices one word a column with two bits:
// inside, and whether the column is open.
struct Band {
  const Mesh& m;
  int64_t b, first_row, rows, words;
  uint64_t* bits;

  uint64_t* column(int64_t part, int64_t row, int64_t j) const {
    return bits + ((part * rows + row - first_row) * m.size[1] + j) * words;
  }

  void toggle(const Face& face) const {
    const int64_t from = face.first_row > first_row ? face.first_row : first_row;
    const int64_t end = first_row + rows, to = face.last_row < end ? face.last_row : end;
    for (int64_t row = from; row < to; ++row) {
      const Span span = span_of(face, row, m.size[1]);
      uint64_t* word = column(face.part, row, span.first);
      for (int64_t j = span.first; j < span.last; ++j, word += words) {
        const int64_t cell = span.cell(j, m.size[2]);
        if (m.slices == nullptr) {
          word[cell / 64] ^= uint64_t{1} << (cell % 64);
        } else {
          *word ^= cell <= m.slices[b] ? 3 : 2;
        }
      }
    }
  }

  // Turns the toggles of a row of columns into what is inside; returns how many columns are open.
  int64_t fill(int64_t part, int64_t row) const {
    int64_t open = 0;
    uint64_t* word = column(part, row, 0);
    for (int64_t j = 0; j < m.size[1]; ++j, word += words) {
      if (m.slices == nullptr) {
        open += fill_column(word, words, m.size[2]);
      } else {
        open += static_cast<int64_t>(*word >> 1);
        *word &= 1;
      }
    }
    return open;
  }

  // Takes from a filled row what earlier parts have, and adds to that what it had.
  void yield(int64_t part, int64_t row, uint64_t* taken) const {
    uint64_t* word = column(part, row, 0);
    for (int64_t w = 0; w < m.size[1] * words; ++w) {
      const uint64_t had = word[w];
      word[w] = had & ~taken[w];
      taken[w] |= had;
    }
  }

  template <class Out>
  void write(int64_t part, int64_t row, Out* out) const {
    const uint64_t* word = column(part, row, 0);
    if (m.slices != nullptr) {
      for (int64_t j = 0; j < m.size[1]; ++j) out[j] = static_cast<Out>(word[j]);
      return;
    }
    for (int64_t j = 0; j < m.size[1]; ++j, word += words, out += m.size[2]) {
      for (int64_t w = 0; 64 * w < m.size[2]; ++w) {
        const int64_t left = m.size[2] - 64 * w;
        expand(word[w], left < 64 ? left : 64, out + 64 * w);
      }
    }
  }
};

template <class T, class Out>
void run_band(const VoxelizeParams& p, const Band& band, const int32_t* begin, const int32_t* end) {
  const Mesh& m = p.mesh;
  const int64_t row_bytes = m.size[1] * band.words * static_cast<int64_t>(sizeof(uint64_t));
  memset(band.bits, 0, static_cast<size_t>(m.parts * band.rows * row_bytes));
  for (const int32_t* f = begin; f < end; ++f) {
    Face face;
    if (load_face<T>(m, band.b, *f, face)) band.toggle(face);
  }
  uint64_t* taken = m.ordered ? static_cast<uint64_t*>(workspace(3, row_bytes)) : nullptr;
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    if (taken != nullptr) memset(taken, 0, static_cast<size_t>(row_bytes));
    for (int64_t rank = 0; rank < m.parts; ++rank) {
      const int64_t part = m.ranked(rank), plane = band.b * m.parts + part;
      const int64_t open = band.fill(part, row);
      if (open > 0) __atomic_fetch_add(p.open + plane, open, __ATOMIC_RELAXED);
      if (taken != nullptr) band.yield(part, row, taken);
      band.write(part, row, static_cast<Out*>(p.out) + (plane * m.size[0] + row) * m.size[1] * m.depth());
    }
  }
}

template <class T, class Out>
void voxelize(const VoxelizeParams& p) {
  const Mesh& m = p.mesh;
  const int64_t words = m.slices == nullptr ? m.words() : 1;
  const int64_t row_bytes = m.parts * m.size[1] * words * static_cast<int64_t>(sizeof(uint64_t));
  const Bands bands(m, row_bytes);
  const Bins bins = bin_faces<T>(m, bands);
  parallel_for(0, m.batch * bands.count, 1, [&](int64_t begin, int64_t end) {
    uint64_t* bits = static_cast<uint64_t*>(workspace(2, bands.rows * row_bytes));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / bands.count, first_row = item % bands.count * bands.rows;
      const int64_t rows = m.size[0] - first_row < bands.rows ? m.size[0] - first_row : bands.rows;
      run_band<T, Out>(p, {m, b, first_row, rows, words, bits}, bins.begin_of(item), bins.end_of(item));
    }
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(voxelize_mesh, VoxelizeParams, p) {
  dispatch_float(p.mesh.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.out_dtype == DType::u8) {
      voxelize<T, uint8_t>(p);
    } else {
      voxelize<T, T>(p);
    }
  });
}

}  // namespace medsynth
