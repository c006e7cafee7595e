// Cards by their suits, dealt from shuffled decks: see fastmaze/reference/card_games.py.
#pragma once

#include <cstdint>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

constexpr uint32_t kSuits = 4, kDeck = 52;

// The suit of card `number` of those left, which are sorted by suit; a sum of comparisons, for a
// table would be a memory access.
static inline uint32_t suit_of(uint32_t number, uint32_t left0, uint32_t left1, uint32_t left2) {
    const uint32_t past0 = number >= left0, past1 = number >= left0 + left1,
                   past2 = number >= left0 + left1 + left2;
    return past0 + past1 + past2;
}

// Random number 0 of a moment, scaled to 0 ... n - 1, where no loop has drawn it already.
static inline uint32_t card_of_moment(const Env& env, int32_t t, uint32_t n) {
    const uint32_t word = random_block(env, static_cast<uint32_t>(t), 1).word[0];
    return static_cast<uint32_t>(uint64_t{word} * n >> 32);
}

}  // namespace fastmaze::FASTMAZE_NAMESPACE
