// HeavenHell (Esslinger et al. 2022): ask the priest which arm is heaven, then go there.
// The rules in readable form are in fastmaze/reference/heaven_hell.py.
#pragma once

#include <cstdint>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class HeavenHell {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 1;
    static constexpr bool kEndsEarly = true;

    struct State {
        int32_t x, y;
        int32_t heaven;   // -1 west, +1 east
        int32_t outcome;  // what was paid
        uint32_t asked;   // 1 once the priest was visited
    };
    static constexpr int kMembers = 5;

    explicit HeavenHell(const Options& options)
        : size_(options.integer("size", 1, (kLongestEpisode - 3) / 4)),
          length_(options.integer("episode_length", 1, kLongestEpisode)) {}

    int32_t length() const { return length_; }
    int num_actions() const { return 4; }
    int obs_size() const { return 4; }
    bool is_context(const uint8_t* context) const { return context[0] <= 2; }

    void begin(const Env& env, const uint8_t* context, State& state) const {
        const int right = context != nullptr ? context[0] - 1
                                             : static_cast<int>(Draws(env).below(0, 2));
        state = {0, 0, 2 * right - 1, 0, 0};
    }

    Move step(const Env&, int action, State& state) const {
        // Numbers instead of bools: the compiler makes no vector code of bools of bools.
        const int32_t x = state.x, y = state.y;
        const int32_t side = (x == size_) - (x == -size_);
        const int32_t paid = side * state.heaven * (y == size_);
        const int32_t to_x = x + (action == 2) - (action == 3);
        const int32_t to_y = y + (action == 0) - (action == 1);
        const int32_t floor = is_floor(to_x, to_y);
        const int32_t goes_on = paid == 0;
        state.x = (floor ? to_x : x) * goes_on;  // after the end, the start again
        state.y = (floor ? to_y : y) * goes_on;
        state.outcome = paid;
        state.asked |= at_priest(state);
        return {static_cast<float>(paid), paid != 0};
    }

    void observe(const Env& env, const State& state, float* obs) const {
        obs[0] = static_cast<float>(state.x);
        obs[1] = static_cast<float>(state.y);
        obs[2] = static_cast<float>(state.heaven * static_cast<int32_t>(at_priest(state)));
        obs[3] = env.t == env.start ? 1.0f : 0.0f;
    }

    Episode result(const Env&, const State& state) const {
        return {static_cast<double>(state.outcome), state.outcome == 1, state.asked == 1};
    }

    bool possible(const Env& env, const State& state) const {
        const bool at_start = state.x == 0 && state.y == 0;
        // In this order: coordinates beyond the floor could overflow.
        return state.x >= -size_ && state.x <= size_ && state.y >= -1 && state.y <= size_ &&
               is_floor(state.x, state.y) && (state.heaven == -1 || state.heaven == 1) &&
               state.outcome >= -1 && state.outcome <= 1 && state.asked <= 1 &&
               (state.outcome != 0 ? at_start && env.over : !env.over || env.t == length_) &&
               (env.t > env.start || (at_start && state.asked == 0));
    }

  private:
    int32_t is_floor(int32_t x, int32_t y) const {
        const int32_t stem = (x == 0) & (y >= -1) & (y <= size_);
        const int32_t arms = (y == size_) & (x >= -size_) & (x <= size_);
        const int32_t below = (y == -1) & (x >= 0) & (x <= size_);
        return stem | arms | below;
    }

    uint32_t at_priest(const State& state) const { return (state.x == size_) & (state.y == -1); }

    int32_t size_, length_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
