// Umbrella Length (Osband et al. 2020): the first action is paid for at the end, amid noise.
// The rules in readable form are in fastmaze/reference/umbrella_length.py.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

// kFew: at most 31 distractors, whose bits and the reward's are one random word.
template <bool kFew>
class UmbrellaLength {
  public:
    using Obs = float;
    static constexpr int64_t kContextBytes = 0;
    static constexpr bool kEndsEarly = false;

    struct State {
        uint32_t need, has;  // an umbrella
        int32_t earned;      // sum of the rewards
    };
    static constexpr int kMembers = 3;
    static constexpr int kMomentDraws = kFew ? 1 : 4;

    static bool suits(const Options& options) {
        return options.integer("distractors", 0, 127) < 32;
    }

    explicit UmbrellaLength(const Options& options)
        : length_(options.integer("length", 1, kLongestEpisode)),
          distractors_(options.integer("distractors", 0, 127)) {}

    int32_t length() const { return length_; }
    int num_actions() const { return 2; }
    int obs_size() const { return 3 + distractors_; }
    bool is_context(const uint8_t*) const { return false; }

    void begin(const Env& env, const uint8_t*, State& state) const {
        Draws draws(env);
        state = {draws.below(0, 2), draws.below(1, 2), 0};
    }

    Move step(const Env& env, int action, State& state) const {
        state.has = env.t == 1 ? static_cast<uint32_t>(action) : state.has;
        const uint32_t random = env.moment[0] & 1, agree = state.has == state.need;
        const uint32_t good = env.t == length_ ? agree : random;
        const int32_t reward = static_cast<int32_t>(2 * good) - 1;
        state.earned += reward;
        return {static_cast<float>(reward), false};
    }

    void observe(const Env& env, const State& state, float* obs) const {
        obs[0] = state.need ? 1.0f : 0.0f;
        obs[1] = state.has ? 1.0f : 0.0f;
        obs[2] = static_cast<float>(1.0 - static_cast<double>(env.t) / length_);
    }

    void observe_rest(const Env& env, float* obs) const {
        // Four bits at a time, the reward's bit left out.
        uint64_t bits = env.moment[0] >> 1, more = 0;
        if constexpr (!kFew) {
            bits |= uint64_t{env.moment[1]} << 31 | uint64_t{env.moment[2]} << 63;
            more = env.moment[2] >> 1 | uint64_t{env.moment[3]} << 31;
        }
        float* noise = obs + 3;
        float* const end = noise + distractors_;
        for (; noise + 4 <= end; noise += 4) {
            std::memcpy(noise, kFour[bits & 15].data(), sizeof kFour[0]);
            bits = bits >> 4 | more << 60;
            more >>= 4;
        }
        for (; noise < end; ++noise, bits >>= 1) *noise = bits & 1 ? 1.0f : 0.0f;
    }

    Episode result(const Env&, const State& state) const {
        return {static_cast<double>(state.earned), state.has == state.need, false};
    }

    bool possible(const Env& env, const State& state) const {
        const int64_t steps = env.t - env.start, earned = state.earned;
        return state.need <= 1 && state.has <= 1 && earned >= -steps && earned <= steps &&
               (earned + steps) % 2 == 0;
    }

  private:
    static constexpr auto kFour = [] {
        std::array<std::array<float, 4>, 16> four{};
        for (int bits = 0; bits < 16; ++bits) {
            for (int i = 0; i < 4; ++i) four[bits][i] = bits >> i & 1 ? 1.0f : 0.0f;
        }
        return four;
    }();

    int32_t length_;
    int distractors_;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
