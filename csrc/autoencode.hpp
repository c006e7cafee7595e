// Autoencode (Morad et al. 2023): watch decks being dealt, then name their suits backwards.
// The rules in readable form are in fastmaze/reference/card_games.py.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "deck.hpp"
#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class Autoencode {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = false;
    static constexpr int kMomentDraws = 1;
    static constexpr uint32_t kWords = 10;  // of sixteen cards

    struct State {
        uint32_t suits[kWords];  // of the cards dealt so far, two bits each
        uint32_t left[kSuits];   // cards left of each suit
        uint32_t right;          // suits named correctly
    };

    explicit Autoencode(const Options& options)
        : cards_(static_cast<int32_t>(kDeck) * options.integer("decks", 1, 3)),
          reward_(static_cast<float>(1.0 / cards_)) {}

    int32_t length() const { return 2 * cards_ - 1; }
    int num_actions() const { return kSuits; }
    int obs_size() const { return 2 + kSuits; }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        state = State{};
        for (uint32_t& left : state.left) left = static_cast<uint32_t>(cards_) / kSuits;
        for (int32_t t = 0; t <= env.t && t < cards_; ++t) {
            deal(t, card_of_moment(env, t, left_before(t)), state);
        }
    }

    Move step(const Env& env, int action, State& state) const {
        if (env.t < cards_) {
            deal(env.t, env.below(0, left_before(env.t)), state);
            return {0.0f, false};
        }
        const uint32_t asked = suit(state, 2 * cards_ - 1 - env.t);
        const bool right = static_cast<uint32_t>(action) == asked;
        state.right += right;
        return {right ? reward_ : -reward_, false};
    }

    void observe(const Env& env, const State& state, float* obs) const {
        const uint32_t shown = env.t < cards_ ? suit(state, env.t) : 0;
        std::memcpy(obs, kLook[env.t < cards_ - 1][shown].data(), sizeof kLook[0][0]);
    }

    Episode result(const Env& env, const State& state) const {
        const int32_t named = named_by(env), right = static_cast<int32_t>(state.right);
        return {static_cast<double>(2 * right - named) / cards_, right == named, false};
    }

    bool possible(const Env& env, const State& state) const {
        const int32_t known = env.t + 1 < cards_ ? env.t + 1 : cards_;
        uint32_t left[kSuits];
        for (uint32_t& cards : left) cards = static_cast<uint32_t>(cards_) / kSuits;
        for (int32_t i = 0; i < int32_t{16 * kWords}; ++i) {
            const uint32_t s = suit(state, i);
            if (i < known ? left[s]-- == 0 : s != 0) return false;
        }
        for (uint32_t s = 0; s < kSuits; ++s) {
            if (left[s] != state.left[s]) return false;
        }
        return state.right <= static_cast<uint32_t>(named_by(env));
    }

  private:
    // An observation by whether the agent watches, and the suit.
    static constexpr auto kLook = [] {
        std::array<std::array<std::array<float, 2 + kSuits>, kSuits>, 2> look{};
        for (uint32_t watching = 0; watching < 2; ++watching) {
            for (uint32_t s = 0; s < kSuits; ++s) {
                look[watching][s][watching] = look[watching][s][2 + s] = 1.0f;
            }
        }
        return look;
    }();

    // Steps of this episode that have named a suit.
    int32_t named_by(const Env& env) const {
        const int32_t from = env.start > cards_ - 1 ? env.start : cards_ - 1;
        return env.t > from ? env.t - from : 0;
    }

    // Cards before the one of moment t is dealt.
    uint32_t left_before(int32_t t) const { return static_cast<uint32_t>(cards_ - t); }

    static uint32_t suit(const State& state, int32_t card) {
        const auto i = static_cast<uint32_t>(card);
        return state.suits[i / 16] >> 2 * (i % 16) & 3;
    }

    static void deal(int32_t card, uint32_t number, State& state) {
        const uint32_t s = suit_of(number, state.left[0], state.left[1], state.left[2]);
        --state.left[s];
        const auto i = static_cast<uint32_t>(card);
        state.suits[i / 16] |= s << 2 * (i % 16);
    }

    int32_t cards_;
    float reward_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
