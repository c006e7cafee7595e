// Memory Cards (Esslinger et al. 2022): find the partner of the card that shows.
// The rules in readable form are in fastmaze/reference/memory_cards.py.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

// kPairs: the number of pairs as a constant, which unrolls all loops; 0 for any number.
template <int kPairs>
class MemoryCards {
  public:
    static constexpr int kMaxPairs = 16;

    using Obs = float;
    static constexpr int64_t kContextBytes = 2 * kMaxPairs;
    static constexpr bool kEndsEarly = true;
    static constexpr int kMomentDraws = 1;  // which card shows

    struct State {
        uint32_t gone;   // bit i is 1 once card i was found
        uint32_t shown;
        uint32_t wrong;  // choices of a card that was not the partner
        uint8_t deal[2 * kMaxPairs];  // the number on each card; 0 where there is none
    };

    static bool suits(const Options& options) {
        return options.integer("pairs", 1, kMaxPairs) == kPairs;
    }

    explicit MemoryCards(const Options& options)
        : pairs_(options.integer("pairs", 1, kMaxPairs)),
          length_(options.integer("episode_length", 1, kLongestEpisode)) {}

    int32_t length() const { return length_; }
    int num_actions() const { return cards(); }
    int obs_size() const { return cards(); }
    bool is_context(const uint8_t* deal) const { return is_deal(deal); }

    void begin(const Env& env, const uint8_t* context, State& state) const {
        state = State{};
        Draws draws(env);
        for (int i = 0; i < cards(); ++i) {
            state.deal[i] = context != nullptr ? context[i] : static_cast<uint8_t>(1 + i / 2);
        }
        for (int i = 0; context == nullptr && i < cards() - 1; ++i) {
            const auto k = static_cast<uint32_t>(i), left = static_cast<uint32_t>(cards() - i);
            std::swap(state.deal[i], state.deal[k + draws.below(k, left)]);
        }
        show(env, state);
    }

    Move step(const Env& env, int action, State& state) const {
        const auto chosen = static_cast<uint32_t>(action);
        const bool found =
            (chosen != state.shown) & (state.deal[chosen] == state.deal[state.shown]);
        const uint32_t both = 1u << chosen | 1u << state.shown;
        state.gone |= found ? both : 0u;
        state.wrong += !found;
        show(env, state);
        return {found ? 0.0f : -1.0f, state.gone == all()};
    }

    void observe(const Env&, const State& state, float* obs) const {
        const float found = static_cast<float>(pairs() + 1);
        for (int i = 0; i < cards(); ++i) obs[i] = state.gone >> i & 1 ? found : 0.0f;
        if (state.gone != all()) obs[state.shown] = static_cast<float>(state.deal[state.shown]);
    }

    Episode result(const Env&, const State& state) const {
        return {static_cast<double>(-int64_t{state.wrong}), state.gone == all(), false};
    }

    bool possible(const Env& env, const State& state) const {
        if (!is_deal(state.deal) || (state.gone & ~all()) != 0) return false;
        if (state.shown >= static_cast<uint32_t>(cards())) return false;
        // Pairs go together, and every step either finds one or is wrong.
        for (int i = 0; i < cards(); ++i) {
            for (int j = 0; j < i; ++j) {
                const bool partners = state.deal[i] == state.deal[j];
                if (partners && (state.gone >> i & 1) != (state.gone >> j & 1)) return false;
            }
        }
        const auto steps = static_cast<uint32_t>(env.t - env.start);
        const auto found = static_cast<uint32_t>(std::popcount(state.gone)) / 2;
        if (state.wrong > steps || state.wrong + found != steps) return false;
        if (state.gone == all()) return state.shown == 0 && env.over;
        return (state.gone >> state.shown & 1) == 0 && (!env.over || env.t == length_);
    }

  private:
    int pairs() const { return kPairs > 0 ? kPairs : pairs_; }
    int cards() const { return 2 * pairs(); }
    uint32_t all() const { return static_cast<uint32_t>((uint64_t{1} << cards()) - 1); }

    // Draws one of the cards that are left.
    void show(const Env& env, State& state) const {
        const uint32_t left = ~state.gone & all();
        const auto count = static_cast<uint32_t>(std::popcount(left));
        const uint32_t number = env.below(0, count);
        // The card with so many before it; all are looked at, for a guess would often be wrong.
        uint32_t shown = 0, before = 0;
        for (uint32_t i = 0; i < static_cast<uint32_t>(cards()); ++i) {
            const uint32_t is_left = left >> i & 1;
            shown = is_left & (before == number) ? i : shown;
            before += is_left;
        }
        state.shown = shown;
    }

    bool is_deal(const uint8_t* deal) const {
        uint64_t counts = 0;  // two bits for each number
        for (int i = 0; i < 2 * kMaxPairs; ++i) {
            if (i >= cards()) {
                if (deal[i] != 0) return false;
                continue;
            }
            if (deal[i] < 1 || deal[i] > pairs()) return false;
            const int at = 2 * (deal[i] - 1);
            if ((counts >> at & 3) == 2) return false;
            counts += uint64_t{1} << at;
        }
        return true;  // as many cards as twice the numbers, none of them three times
    }

    int pairs_;
    int32_t length_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
