// Repeat First (Morad et al. 2023): name the suit of the first card at every step.
// The rules in readable form are in fastmaze/reference/card_games.py.
#pragma once

#include <cstdint>

#include "deck.hpp"
#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class RepeatFirst {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = false;

    struct State {
        uint32_t first, shown;         // suits of the first and of the last card dealt
        uint32_t left0, left1, left2;  // cards left of each suit; the last follows from the clock
        uint32_t right;                // steps that named the first suit
    };
    static constexpr int kMembers = 6;
    static constexpr int kMomentDraws = 1;

    explicit RepeatFirst(const Options& options)
        : cards_(kDeck * static_cast<uint32_t>(
                             options.integer("decks", 1, kLongestEpisode / int32_t{kDeck}))),
          reward_(static_cast<float>(1.0 / length())) {}

    int32_t length() const { return static_cast<int32_t>(cards_) - 1; }
    int num_actions() const { return kSuits; }
    int obs_size() const { return kSuits; }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        const uint32_t each = cards_ / kSuits;
        state = {0, 0, each, each, each, 0};
        for (int32_t t = 0; t <= env.t; ++t) {
            deal(card_of_moment(env, t, left_before(t)), state);
            if (t == 0) state.first = state.shown;
        }
    }

    Move step(const Env& env, int action, State& state) const {
        const bool right = static_cast<uint32_t>(action) == state.first;
        state.right += right;
        deal(env.below(0, left_before(env.t)), state);
        return {right ? reward_ : -reward_, false};
    }

    void observe(const Env&, const State& state, float* obs) const {
        for (uint32_t suit = 0; suit < kSuits; ++suit) obs[suit] = state.shown == suit;
    }

    Episode result(const Env& env, const State& state) const {
        const int32_t steps = env.t - env.start, right = static_cast<int32_t>(state.right);
        return {static_cast<double>(2 * right - steps) / length(), right == steps, false};
    }

    bool possible(const Env& env, const State& state) const {
        if (state.first >= kSuits || state.shown >= kSuits) return false;
        const int64_t each = cards_ / kSuits, remaining = int64_t{left_before(env.t)} - 1;
        int64_t left[kSuits] = {state.left0, state.left1, state.left2, 0};
        left[3] = remaining - left[0] - left[1] - left[2];
        int64_t dealt[kSuits];
        for (uint32_t suit = 0; suit < kSuits; ++suit) {
            if (left[suit] < 0) return false;
            dealt[suit] = each - left[suit];
        }
        --dealt[state.first];
        dealt[state.shown] -= env.t > 0;  // another card than the first
        for (const int64_t cards : dealt) {
            if (cards < 0) return false;
        }
        return (env.t > 0 || state.shown == state.first) &&
               state.right <= static_cast<uint32_t>(env.t - env.start);
    }

  private:
    // Cards before the one of moment t is dealt.
    uint32_t left_before(int32_t t) const { return cards_ - static_cast<uint32_t>(t); }

    void deal(uint32_t number, State& state) const {
        state.shown = suit_of(number, state.left0, state.left1, state.left2);
        state.left0 -= state.shown == 0;
        state.left1 -= state.shown == 1;
        state.left2 -= state.shown == 2;
    }

    uint32_t cards_;
    float reward_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
