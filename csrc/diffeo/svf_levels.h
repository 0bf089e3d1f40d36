// The order in which the backward of scaling and squaring visits its fields u_0 .. u_{steps-1}.
//
// Every second field is kept on the way up, the others are recomputed on the way down from the one below, u_0 from the
// velocity: half the memory for one step more per two levels.
#pragma once
#include <cstdint>

namespace medsynth {

// Fields that must be held at the same time, beside two for the gradient.
inline int svf_slots(int steps) { return steps < 2 ? 1 : steps / 2 < 2 ? 2 : steps / 2; }

// Calls start(slot) to make u_0, advance(from, to) to make the next level, begin() once when all levels are kept, and
// then visit(slot) for the levels steps-1 .. 0. Slots: 0 .. svf_slots-1 as above, svf_slots and svf_slots+1 may be used
// before begin().
template <class Start, class Advance, class Begin, class Visit>
void walk_levels(int steps, Start start, Advance advance, Begin begin, Visit visit) {
  const int spare = svf_slots(steps);
  const auto kept = [&](int level) { return level > 0 && (steps - 1 - level) % 2 == 0; };
  const auto slot_of = [&](int level) { return (steps - 1 - level) / 2; };
  if (steps > 1) {
    int now = spare;
    start(now);
    for (int level = 1; level < steps; ++level) {
      const int next = kept(level) ? slot_of(level) : now == spare ? spare + 1 : spare;
      advance(now, next);
      now = next;
    }
  }
  begin();
  for (int level = steps - 1; level >= 0; --level) {
    if (kept(level)) {
      visit(slot_of(level));
      continue;
    }
    // The slot of the level above is free by now.
    const int free = level + 1 < steps ? slot_of(level + 1) : 0;
    if (level == 0) {
      start(free);
    } else if (level == 1) {
      const int other = free > 0 ? free - 1 : 1;
      start(other);
      advance(other, free);
    } else {
      advance(slot_of(level - 1), free);
    }
    visit(free);
  }
}

}  // namespace medsynth
