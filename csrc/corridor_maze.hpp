// The T-Mazes of Bakker 2001 and of Lambrechts et al. 2022: one maze seen through two codes.
// The rules in readable form are in fastmaze/reference/corridor_maze.py.
#pragma once

#include <cstdint>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

// kOneHot: four entries, else three bits. kChance: some actions are replaced.
template <bool kOneHot, bool kChance>
class CorridorMaze {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = true;
    static constexpr int32_t kChances = 1 << 30;

    struct State {
        int32_t cell;   // 0 to L, L + 1 above the junction, L + 2 below it
        int32_t goal;   // 1 if it is above
        int32_t fines;  // steps that cost 0.1
    };
    static constexpr int kMembers = 3;
    static constexpr int kMomentDraws = kChance ? 2 : 0;

    static bool suits(const Options& options) {
        return options.integer("one_hot", 0, 1) == int32_t{kOneHot} &&
               (options.integer("chances", 0, kChances) > 0) == kChance;
    }

    explicit CorridorMaze(const Options& options)
        : corridor_(options.integer("length", 1, kLongestEpisode - 2)),
          length_(options.integer("episode_length", 1, kLongestEpisode)),
          chances_(static_cast<uint32_t>(options.integer("chances", 0, kChances))) {}

    int32_t length() const { return length_; }
    int num_actions() const { return 4; }
    int obs_size() const { return kOneHot ? 4 : 3; }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        state = {0, static_cast<int32_t>(Draws(env).below(0, 2)), 0};
    }

    Move step(const Env& env, int given, State& state) const {
        int32_t action = given;
        if constexpr (kChance) {
            const bool replaced = env.below(0, kChances) < chances_;
            action = replaced ? static_cast<int32_t>(env.below(1, 4)) : action;
        }
        // Sums of numbers that are 0 or 1: of a choice the compiler may make a branch.
        const int32_t before = state.cell;
        const int32_t turns = action & 1, below = action >> 1;  // up is 1, down is 3
        const int32_t turned = turns & int32_t{before == corridor_};
        const int32_t along = (action == 0) - (action == 2);
        const int32_t to = before + along;
        const int32_t walked = to < 0 ? 0 : to > corridor_ ? corridor_ : to;
        state.cell = walked + turned * (1 + below);
        const int32_t right = turned & (state.goal ^ below);
        const int32_t fined = turned - right + int32_t{state.cell == before};
        state.fines += fined;
        return {static_cast<float>(right) * 4.0f + static_cast<float>(fined) * -0.1f, turned != 0};
    }

    void observe(const Env&, const State& state, float* obs) const {
        // Numbers, not truths: the compiler makes branches of the latter.
        const int32_t start = state.cell == 0, junction = state.cell >= corridor_;
        const int32_t up = start & state.goal, down = start & ~state.goal;
        const int32_t corridor = 1 - start - junction;
        if constexpr (kOneHot) {
            obs[0] = static_cast<float>(up);
            obs[1] = static_cast<float>(down);
            obs[2] = static_cast<float>(corridor);
            obs[3] = static_cast<float>(junction);
        } else {
            obs[0] = static_cast<float>(down + corridor);
            obs[1] = static_cast<float>(1 - corridor);
            obs[2] = static_cast<float>(up + corridor);
        }
    }

    Episode result(const Env&, const State& state) const {
        const bool right = at_goal(state);
        return {(right ? 4.0 : 0.0) + state.fines * -0.1, right, false};
    }

    bool possible(const Env& env, const State& state) const {
        const bool turned = state.cell > corridor_;
        return (turned ? env.over : !env.over || env.t == length_) && state.cell >= 0 && state.cell <= corridor_ + 2 && state.goal >= 0 && state.goal <= 1 &&
               state.fines >= 0 && state.fines <= env.t - env.start;
    }

  private:
    bool at_goal(const State& state) const { return state.cell == corridor_ + 2 - state.goal; }

    int32_t corridor_, length_;
    uint32_t chances_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
