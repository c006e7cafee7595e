// Memory Length (Osband et al. 2020): remember bits from the first step, name one at the last.
// The rules in readable form are in fastmaze/reference/memory_length.py.
#pragma once

#include <cstdint>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

// kUsual: one bit and the time, as constants, which makes the loop vector code.
template <bool kUsual>
class MemoryLength {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = false;

    struct State {
        uint32_t bits;   // to remember
        uint32_t query;  // which one is asked for
        uint32_t right;  // 1 once the last action has named it
    };
    static constexpr int kMembers = 3;

    static bool suits(const Options& options) {
        return options.integer("bits", 1, 30) == 1 && options.integer("show_time", 0, 1) == 1;
    }

    explicit MemoryLength(const Options& options)
        : steps_(options.integer("length", 1, kLongestEpisode - 1)),
          bits_(options.integer("bits", 1, 30)),
          show_time_(options.integer("show_time", 0, 1)) {}

    int32_t length() const { return steps_ + 1; }
    int num_actions() const { return 2; }
    int obs_size() const { return show_time() + 1 + bits(); }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        Draws draws(env);
        const auto count = static_cast<uint32_t>(bits());
        state = {draws.below(0, 1u << count), draws.below(1, count), 0};
    }

    Move step(const Env& env, int action, State& state) const {
        const uint32_t asked = kUsual ? state.bits : state.bits >> state.query & 1;
        const bool last = env.t >= length(), right = static_cast<uint32_t>(action) == asked;
        state.right = last & right;
        const float reward = right ? 1.0f : -1.0f;
        return {last ? reward : 0.0f, false};
    }

    void observe(const Env& env, const State& state, float* obs) const {
        // The reset and the first step both show moment 0.
        const int32_t moment = env.t > 0 ? env.t - 1 : 0;
        if (show_time()) *obs++ = static_cast<float>(1.0 - static_cast<double>(moment) / steps_);
        *obs++ = moment == steps_ - 1 ? static_cast<float>(state.query) : 0.0f;
        for (int i = 0; i < bits(); ++i) {
            const float bit = state.bits >> i & 1 ? 1.0f : -1.0f;
            obs[i] = moment == 0 ? bit : 0.0f;
        }
    }

    Episode result(const Env&, const State& state) const {
        return {state.right ? 1.0 : -1.0, state.right == 1, false};
    }

    bool possible(const Env& env, const State& state) const {
        return state.bits >> bits() == 0 && state.query < static_cast<uint32_t>(bits()) &&
               state.right <= (env.t == length() ? 1u : 0u);
    }

  private:
    int bits() const { return kUsual ? 1 : bits_; }
    int show_time() const { return kUsual ? 1 : show_time_; }

    int32_t steps_;
    int bits_, show_time_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
