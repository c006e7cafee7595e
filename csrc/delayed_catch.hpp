// Delayed Catch (Raposo et al. 2021): catch ball after ball, be paid for all of them at the end.
// The rules in readable form are in fastmaze/reference/delayed_catch.py.
#pragma once

#include <cstdint>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class DelayedCatch {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = false;
    static constexpr int kBoard = 7, kCells = kBoard * kBoard;

    struct State {
        uint32_t later;   // where the next runs start, as digits
        uint32_t caught;
        uint32_t ball;    // column
        uint32_t paddle;  // column
    };

    explicit DelayedCatch(const Options& options)
        : length_(kBoard * options.integer("runs", 1, (kLongestEpisode + 1) / kBoard) - 1),
          random_paddle_(options.integer("random_paddle", 0, 1) != 0),
          starts_(random_paddle_ ? 4 * (kBoard - 1) : kBoard) {}

    int32_t length() const { return length_; }
    int num_actions() const { return 3; }
    int obs_size() const { return kCells; }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        state.caught = 0;
        state.later = draw(env);
        const uint32_t first = run_of(env.t) % kRunsPerDraw;
        for (uint32_t i = 0; i < first; ++i) state.later /= starts_;
        start_run(state);
    }

    Move step(const Env& env, int action, State& state) const {
        const uint32_t row = row_of(env.t);
        if (row == 0) {
            if (run_of(env.t) % kRunsPerDraw == 0) state.later = draw(env);
            start_run(state);
        } else {
            const int to = static_cast<int>(state.paddle) + action - 1;
            state.paddle = static_cast<uint32_t>(to < 0 ? 0 : to >= kBoard ? kBoard - 1 : to);
            state.caught += (row == kBoard - 1) & (state.ball == state.paddle);
        }
        return {env.t == length_ ? static_cast<float>(state.caught) : 0.0f, false};
    }

    void observe(const Env& env, const State& state, float* obs) const {
        for (int i = 0; i < kCells; ++i) obs[i] = empty_;
        obs[row_of(env.t) * kBoard + state.ball] = 1.0f;
        obs[(kBoard - 1) * kBoard + state.paddle] = 1.0f;
    }

    Episode result(const Env&, const State& state) const {
        const auto runs = static_cast<uint32_t>((length_ + 1) / kBoard);
        return {static_cast<double>(state.caught), state.caught == runs, false};
    }

    bool possible(const Env& env, const State& state) const {
        uint32_t most = 1;
        for (uint32_t i = run_of(env.t) % kRunsPerDraw; i < kRunsPerDraw - 1; ++i) most *= starts_;
        // A ball comes down whenever the clock is one step before the next run.
        const auto down = static_cast<uint32_t>((env.t + 1) / kBoard - (env.start + 1) / kBoard);
        return state.later < most && state.ball < static_cast<uint32_t>(kBoard - random_paddle_) &&
               state.paddle < static_cast<uint32_t>(kBoard) && state.caught <= down;
    }

  private:
    static constexpr uint32_t kRunsPerDraw = 4;  // runs whose starts come from one random number

    static uint32_t row_of(int32_t t) { return static_cast<uint32_t>(t) % kBoard; }
    static uint32_t run_of(int32_t t) { return static_cast<uint32_t>(t) / kBoard; }

    uint32_t draw(const Env& env) const {
        return Draws(env).below(run_of(env.t) / kRunsPerDraw,
                                starts_ * starts_ * starts_ * starts_);
    }

    void start_run(State& state) const {
        const uint32_t which = state.later % starts_;
        state.later /= starts_;
        state.ball = random_paddle_ ? which % (kBoard - 1) : which;
        state.paddle = random_paddle_ ? 1 + which / (kBoard - 1) : kBoard / 2;
    }

    int32_t length_;
    bool random_paddle_;
    uint32_t starts_;     // ways in which a run can start
    float empty_ = 0.0f;  // no constant: those are cleared by instructions that are slow at this size
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
