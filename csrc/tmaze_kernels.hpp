// The T-Maze's hot loops as tables of function pointers, one table for each instruction set.
#pragma once

#include <cstdint>

#include "isa.hpp"
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

}  // namespace fastmaze
