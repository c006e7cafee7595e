// The core's own test, without Python, made to run under the sanitizers (see CMakePresets.json):
// random batches, modes, threads, resets and states, each against a plain loop over single envs. This
// file has the T-Maze; plain_test.cpp every other task, lstm_test.cpp the LSTM.
#include <cstdio>
#include <cstring>
#include <vector>

#include "philox.hpp"
#include "test_tools.hpp"
#include "tmaze_batch.hpp"

using namespace fastmaze;

namespace {

BatchConfig random_config(int64_t num_envs, const char* isa) {
    BatchConfig config{};
    config.options.oracle_length = static_cast<int32_t>(uniform(0, 2));
    config.options.junction = config.options.oracle_length + static_cast<int32_t>(uniform(1, 9));
    config.options.episode_length = static_cast<int32_t>(uniform(1, 20));
    config.options.goal_reward = 1.0f;
    config.options.goal_reward_exact = 1.0;
    config.options.penalty = -0.25;
    config.options.distract_reward = 0.125;
    const float rewards[4] = {0.0f, -0.25f, 0.125f, -0.125f};
    std::memcpy(config.options.step_reward, rewards, sizeof rewards);
    config.view = static_cast<View>(uniform(0, kNumViews - 1));
    config.add_timestep = uniform(0, 1) == 1;
    config.rule = static_cast<Rule>(uniform(0, kNumRules - 1));
    config.num_envs = num_envs;
    config.mode = static_cast<Autoreset>(uniform(0, 2));
    config.num_threads = static_cast<int>(uniform(1, 4));
    config.least_per_thread = uniform(0, 1) ? 64 : 4096;
    config.kernels = find_kernels(isa);
    return config;
}

// Arrays of exactly the size that a batch may touch, on the heap, so that a sanitizer sees a step
// past their ends.
struct Outputs {
    std::vector<float> obs, reward, final_obs;
    std::vector<uint8_t> terminated, truncated;

    Outputs(int64_t rows, int dim)
        : obs(rows * dim), reward(rows), final_obs(rows * dim), terminated(rows),
          truncated(rows, 1) {}
    StepOutputs view() {
        return {obs.data(), reward.data(), terminated.data(), truncated.data(), final_obs.data()};
    }
};

// Seeds all envs with key 99 and starts their first episodes.
void seeded_reset(TMazeBatch& batch, float* obs, bool stagger) {
    std::vector<uint64_t> keys(batch.num_envs(), 99);
    std::vector<uint32_t> indices(batch.num_envs());
    for (size_t i = 0; i < indices.size(); ++i) indices[i] = static_cast<uint32_t>(i);
    batch.reset(obs, {nullptr, nullptr, stagger, keys.data(), indices.data(), nullptr});
}

// The same env, one call of the shared transition at a time.
float step_one(const BatchConfig& config, int32_t action, TMazeLane& lane) {
    switch (config.rule) {
        case Rule::kPace: return advance<Rule::kPace>(config.options, action, lane);
        case Rule::kPaceAndDistract:
            return advance<Rule::kPaceAndDistract>(config.options, action, lane);
        case Rule::kAction: break;
    }
    return advance<Rule::kAction>(config.options, action, lane);
}

void compare_with_single_envs(const char* isa) {
    const int64_t n = uniform(0, 3) == 0 ? uniform(8192, 13000) : uniform(1, 300);
    const BatchConfig config = random_config(n, isa);
    TMazeBatch batch(config);
    Outputs out(n, batch.obs_dim());
    std::vector<int64_t> actions(n);
    CHECK(throws([&] { batch.step({actions.data(), ActionType::kInt64}, out.view()); }));
    seeded_reset(batch, out.obs.data(), uniform(0, 1) == 1);

    std::vector<int32_t> position(4 * n);
    std::vector<TMazeLane> lanes(n);
    std::vector<uint32_t> episode(n, 0);
    const auto fresh = [&](int64_t i, int32_t t) {
        const uint32_t draw =
            philox4x32({{static_cast<uint32_t>(i), episode[i], 0, 0}}, 99, 0).word[0] & 1;
        const int32_t x = config.options.oracle_length;
        lanes[i] = {x, t, fresh_flags(x, draw ? 1 : -1), 0, 0};
    };
    batch.positions(position.data());
    for (int64_t i = 0; i < n; ++i) fresh(i, position[4 * i + 2]);

    for (int step = 0; step < 30; ++step) {
        for (auto& action : actions) action = uniform(0, 3);
        if (step % 7 == 3) {
            // One bad action: nothing may move.
            std::vector<uint8_t> before(batch.state_bytes()), after(batch.state_bytes());
            batch.get_state(before.data());
            auto bad = actions;
            bad[uniform(0, n - 1)] = uniform(0, 1) ? 4 : -1;
            CHECK(throws([&] { batch.step({bad.data(), ActionType::kInt64}, out.view()); }));
            batch.get_state(after.data());
            CHECK(before == after);
            batch.set_state(after.data());
        }
        const int32_t length = config.options.episode_length;
        if (config.mode == Autoreset::kDisabled) {
            std::vector<uint8_t> mask(n);
            bool any = false;
            for (int64_t i = 0; i < n; ++i) any |= mask[i] = lanes[i].t >= length;
            if (any) {
                CHECK(throws(
                    [&] { batch.step({actions.data(), ActionType::kInt64}, out.view()); }));
                batch.reset(out.obs.data(), {mask.data(), nullptr, false, nullptr, nullptr, nullptr});
                for (int64_t i = 0; i < n; ++i) {
                    if (mask[i]) ++episode[i], fresh(i, 0);
                }
            }
        }
        const int64_t finished = batch.step({actions.data(), ActionType::kInt64}, out.view());
        batch.positions(position.data());
        int64_t ended = 0;
        for (int64_t i = 0; i < n; ++i) {
            float reward = 0.0f;
            bool done = false;
            if (lanes[i].t >= length) {
                ++episode[i];
                fresh(i, 0);
            } else {
                reward = step_one(config, static_cast<int32_t>(actions[i]), lanes[i]);
                done = lanes[i].t >= length;
                if (done && config.mode == Autoreset::kSameStep) ++episode[i], fresh(i, 0);
            }
            ended += done;
            CHECK(out.reward[i] == reward);
            CHECK(out.terminated[i] == done);
            CHECK(out.truncated[i] == 0);
            CHECK(position[4 * i] == lanes[i].x && position[4 * i + 2] == lanes[i].t);
            CHECK(position[4 * i + 1] == y_of(lanes[i].flags));
            CHECK(position[4 * i + 3] == goal_of(lanes[i].flags));
        }
        CHECK(ended == finished);
    }
}

void compare_unroll_with_steps(const char* isa) {
    const int64_t n = uniform(0, 3) == 0 ? uniform(8192, 10000) : uniform(1, 3000);
    BatchConfig config = random_config(n, isa);
    if (config.mode == Autoreset::kDisabled) config.mode = Autoreset::kSameStep;
    TMazeBatch stepped(config);
    config.num_threads = 5 - config.num_threads;
    TMazeBatch unrolled(config);
    const int64_t steps = uniform(1, 25);
    const int dim = stepped.obs_dim();
    Outputs one(n, dim), many(steps * n, dim);
    for (TMazeBatch* batch : {&stepped, &unrolled}) {
        seeded_reset(*batch, one.obs.data(), true);
    }
    std::vector<uint8_t> actions(steps * n);
    for (auto& action : actions) action = static_cast<uint8_t>(uniform(0, 3));
    unrolled.unroll({actions.data(), ActionType::kByte}, steps, many.view());
    for (int64_t s = 0; s < steps; ++s) {
        stepped.step({actions.data() + s * n, ActionType::kByte}, one.view());
        CHECK(std::memcmp(one.obs.data(), &many.obs[s * n * dim], sizeof(float) * n * dim) == 0);
        CHECK(std::memcmp(one.reward.data(), &many.reward[s * n], sizeof(float) * n) == 0);
        CHECK(std::memcmp(one.terminated.data(), &many.terminated[s * n], n) == 0);
    }
    std::vector<uint8_t> a(stepped.state_bytes()), b(unrolled.state_bytes());
    stepped.get_state(a.data());
    unrolled.get_state(b.data());
    CHECK(a == b);
}

void refuse_random_states() {
    TMazeBatch batch(random_config(7, "auto"));
    Outputs out(7, batch.obs_dim());
    seeded_reset(batch, out.obs.data(), false);
    std::vector<uint8_t> good(batch.state_bytes()), noise(batch.state_bytes());
    batch.get_state(good.data());
    for (auto& byte : noise) byte = static_cast<uint8_t>(uniform(0, 255));
    CHECK(throws([&] { batch.set_state(noise.data()); }));
    batch.get_state(noise.data());
    CHECK(good == noise);
}

}  // namespace

int main() {
    for (const char* isa : {"baseline", "avx2", "avx512"}) {
        if (find_kernels(isa) == nullptr) continue;
        for (int round = 0; round < 60; ++round) {
            compare_with_single_envs(isa);
            compare_unroll_with_steps(isa);
            refuse_random_states();
        }
        test_plain_tasks(isa);
        test_lstm(isa);
        std::printf("%s: ok\n", isa);
    }
    return 0;
}
