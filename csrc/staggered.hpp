// Staggered starts, so that the episodes of a population do not all end on the same step.
#pragma once

#include <cstdint>

namespace fastmaze {

// Clock at which an env starts when starts are staggered: multiples of the golden ratio modulo 1
// fill [0, T) evenly for any number of envs.
static inline int32_t staggered_start(uint32_t env_index, int32_t episode_length) {
    const uint64_t fraction = static_cast<uint32_t>(env_index * 0x9E3779B9u);
    return static_cast<int32_t>((fraction * static_cast<uint64_t>(episode_length)) >> 32);
}

}  // namespace fastmaze
