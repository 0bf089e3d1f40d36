// One triangle of voxelize_mesh: the columns it meets.
#pragma once
#include <cmath>

#include "voxelize_mesh.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr double kRowOffset = 1.3e-4, kColumnOffset = 2.1e-4;

struct Corner {
  double x, y, z;
  int64_t row;  // above the rows below this one
};

struct Face {
  Corner corner[3];
  int64_t part;
  int64_t first_row, last_row;  // [first, last)
};

// The least integer that is not below v, kept in 0..most; v finite or infinite.
MEDSYNTH_HD int64_t ceil_within(double v, int64_t most) {
  const double c = ceil(v);
  return !(c > 0.0) ? 0 : c < static_cast<double>(most) ? static_cast<int64_t>(c) : most;
}

MEDSYNTH_HD double unit(double t) { return !(t > 0.0) ? 0.0 : t < 1.0 ? t : 1.0; }

MEDSYNTH_HD bool is_finite(double v) { return v - v == 0.0; }

// False for a face that is left out.
template <class T>
MEDSYNTH_HD bool load_face(const Mesh& m, int64_t b, int64_t f, Face& face) {
  const T* verts = static_cast<const T*>(m.verts) + b * m.vertices * 3;
  face.part = m.part == nullptr ? 0 : m.part[f];
  if (face.part < 0 || face.part >= m.parts) return false;
  face.first_row = m.size[0];
  face.last_row = 0;
  for (int c = 0; c < 3; ++c) {
    const int64_t v = m.faces[3 * f + c];
    if (v < 0 || v >= m.vertices) return false;
    const double x = verts[3 * v], y = verts[3 * v + 1], z = verts[3 * v + 2];
    if (!is_finite(x + y + z)) return false;
    const int64_t row = ceil_within(x - kRowOffset, m.size[0]);
    face.corner[c] = {x, y, z, row};
    face.first_row = row < face.first_row ? row : face.first_row;
    face.last_row = row > face.last_row ? row : face.last_row;
  }
  return true;
}

// The columns of a row that meet a face, [first, last), and the line of crossings, from its left end.
struct Span {
  int64_t first, last;
  double y, z, dy, dz;

  // The first voxel above the crossing of a column, 0..most.
  MEDSYNTH_HD int64_t cell(int64_t column, int64_t most) const {
    return ceil_within(z + dz * unit((static_cast<double>(column) + kColumnOffset - y) / dy), most);
  }
};

// Where an edge that passes a row, from below it to above it, is cut.
MEDSYNTH_HD void cut(const Corner& below, const Corner& above, int64_t row, double& y, double& z) {
  const double t = unit((static_cast<double>(row) + kRowOffset - below.x) / (above.x - below.x));
  y = below.y + (above.y - below.y) * t;
  z = below.z + (above.z - below.z) * t;
}

// For a row in [first_row, last_row).
MEDSYNTH_HD Span span_of(const Face& face, int64_t row, int64_t columns) {
  const Corner* c = face.corner;
  const bool above0 = row < c[0].row, above1 = row < c[1].row, above2 = row < c[2].row;
  const int lone = above1 == above2 ? 0 : above0 == above2 ? 1 : 2;  // on one side of the row, the others on the other
  const Corner &l = c[lone], &a = c[lone == 0 ? 1 : 0], &b = c[lone == 2 ? 1 : 2];
  double y0, z0, y1, z1;
  if (row < l.row) {
    cut(a, l, row, y0, z0);
    cut(b, l, row, y1, z1);
  } else {
    cut(l, a, row, y0, z0);
    cut(l, b, row, y1, z1);
  }
  const int64_t j0 = ceil_within(y0 - kColumnOffset, columns), j1 = ceil_within(y1 - kColumnOffset, columns);
  if (j1 < j0) return {j1, j0, y1, z1, y0 - y1, z0 - z1};
  return {j0, j1, y0, z0, y1 - y0, z1 - z0};
}

// Each bit becomes the parity of the bits up to it.
MEDSYNTH_HD uint64_t running_parity(uint64_t w) {
  w ^= w << 1;
  w ^= w << 2;
  w ^= w << 4;
  w ^= w << 8;
  w ^= w << 16;
  return w ^ (w << 32);
}

// Toggles of a column become what is inside; returns whether the column stays open.
MEDSYNTH_HD bool fill_column(uint64_t* word, int64_t words, int64_t depth) {
  uint64_t before = 0;  // all bits are the parity of the words before
  for (int64_t w = 0; w < words; ++w) {
    word[w] = word[w] == 0 ? before : running_parity(word[w]) ^ before;
    before = uint64_t{0} - (word[w] >> 63);
  }
  return (word[depth / 64] >> (depth % 64)) & 1;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
