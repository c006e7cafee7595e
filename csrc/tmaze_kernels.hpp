// The hot loops as tables of function pointers, one table for each instruction set.
//
// tmaze_kernels.cpp is compiled once per instruction set, each time into a namespace of its own,
// so that one binary runs everywhere and uses the widest vectors it finds.
#pragma once

#include <cstdint>

#include "tmaze.hpp"

namespace fastmaze {

// Structure of arrays over a range of envs.
struct TMazeLanes {
    int32_t* x;
    int32_t* t;
    int32_t* flags;
    int32_t* penalties;
    int32_t* distractions;

    TMazeLanes operator+(int64_t n) const {
        return {x + n, t + n, flags + n, penalties + n, distractions + n};
    }
};

struct Kernels {
    const char* isa;

    // Steps n envs; writes obs [n, D], reward [n], terminated [n]; returns the largest new t.
    using Step = int32_t (*)(const TMazeOptions& options, const TMazeLanes& lanes,
                             const uint8_t* actions, float* obs, float* reward,
                             uint8_t* terminated, int64_t n);
    Step step[kNumViews][2][kNumRules];

    // Writes the present observations of n envs, obs [n, D].
    using Observe = void (*)(const TMazeOptions& options, const TMazeLanes& lanes, float* obs,
                             int64_t n);
    Observe observe[kNumViews][2];

    // Copies n actions to bytes; returns whether all of them were 0..3.
    bool (*narrow_int64)(const int64_t* actions, uint8_t* narrowed, int64_t n);
    bool (*narrow_int32)(const int32_t* actions, uint8_t* narrowed, int64_t n);
    bool (*check_uint8)(const uint8_t* actions, int64_t n);

    // goal[i] = +1 or -1 from the stream (key[i], index[i], episode[i]).
    void (*draw_goals)(const uint64_t* key, const uint32_t* index, const uint32_t* episode,
                       int32_t* goal, int64_t n);
};

namespace isa_baseline { const Kernels& kernels(); }
#ifdef FASTMAZE_MULTIARCH
namespace isa_avx2 { const Kernels& kernels(); }
namespace isa_avx512 { const Kernels& kernels(); }
#endif

// The table for "baseline", "avx2" or "avx512", the best one for "auto"; null where the machine or
// the build has none of that name.
const Kernels* find_kernels(const char* isa);

}  // namespace fastmaze
