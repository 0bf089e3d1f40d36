// Union of voxels with their earlier neighbours; the root of a region is its first voxel.
#include "../common/parallel.h"
#include "connected_components_math.h"

namespace medsynth {

namespace {

// The root of the tree that holds entry i (one-based); the path is halved on the way.
int32_t root_of(int32_t* parent, int32_t i) {
  while (parent[i - 1] != i) {
    parent[i - 1] = parent[parent[i - 1] - 1];
    i = parent[i - 1];
  }
  return i;
}

void label_map(const ConnectedComponentsParams& p, int64_t map) {
  const int64_t volume = p.volume();
  const uint8_t* mask = p.mask + map * volume;
  int32_t* labels = p.labels + map * volume;
  for (int64_t i = 0; i < volume; ++i) {
    labels[i] = 0;
    if (mask[i] == 0) continue;
    int32_t mine = static_cast<int32_t>(i + 1);
    labels[i] = mine;
    earlier_neighbours(p, i, [&](int64_t other) {
      if (mask[other] == 0) return;
      const int32_t theirs = root_of(labels, static_cast<int32_t>(other + 1));
      mine = root_of(labels, mine);
      (theirs < mine ? labels[mine - 1] : labels[theirs - 1]) = theirs < mine ? theirs : mine;
    });
  }
  // Parents come first, so one pass turns them into final labels; from here a negative entry is a label.
  int32_t next = 0;
  for (int64_t i = 0; i < volume; ++i) {
    if (labels[i] == 0) continue;
    labels[i] = labels[i] == static_cast<int32_t>(i + 1) ? -(++next) : labels[labels[i] - 1];
  }
  for (int64_t i = 0; i < volume; ++i) labels[i] = -labels[i];
}

}  // namespace

MEDSYNTH_DEFINE_CPU(connected_components, ConnectedComponentsParams, p) {
  parallel_for(0, p.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t map = begin; map < end; ++map) label_map(p, map);
  });
}

}  // namespace medsynth
