// T-Maze Long (Beck et al. 2020): a corridor that moves the agent by itself.
// The rules in readable form are in fastmaze/reference/tmaze_long.py.
#pragma once

#include <cstdint>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

template <bool kNoise>
class TMazeLong {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = false;

    struct State {
        uint32_t cue;    // 1 for up
        uint32_t right;  // 1 once the last action has turned where it pointed
    };
    static constexpr int kMembers = 2;
    static constexpr int kMomentDraws = kNoise;

    static bool suits(const Options& options) {
        return options.integer("noise", 0, 1) == int32_t{kNoise};
    }

    explicit TMazeLong(const Options& options)
        : length_(options.integer("length", 1, kLongestEpisode)) {}

    int32_t length() const { return length_; }
    int num_actions() const { return 4; }
    int obs_size() const { return 3 + kNoise; }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        state = {Draws(env).below(0, 2), 0};
    }

    Move step(const Env& env, int action, State& state) const {
        const uint32_t up = (static_cast<uint32_t>(action) & 1) ^ 1;  // left and up turn up
        const bool last = env.t == length_, right = up == state.cue;
        state.right = last & right;
        const float reward = right ? 4.0f : -3.0f;
        return {last ? reward : 0.0f, false};
    }

    void observe(const Env& env, const State& state, float* obs) const {
        const int32_t cell = env.t < length_ ? env.t : length_ - 1;
        const bool start = cell == 0;
        obs[0] = start ? 1.0f : 0.0f;
        const float cue = state.cue ? 1.0f : -1.0f;
        obs[1] = start ? cue : 0.0f;
        obs[2] = !start & (cell == length_ - 1) ? 1.0f : 0.0f;
        if constexpr (kNoise) obs[3] = env.moment[0] >> 31 ? 1.0f : -1.0f;
    }

    Episode result(const Env&, const State& state) const {
        return {state.right ? 4.0 : -3.0, state.right == 1, false};
    }

    bool possible(const Env& env, const State& state) const {
        return state.cue <= 1 && state.right <= (env.t == length_ ? 1u : 0u);
    }

  private:
    int32_t length_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
