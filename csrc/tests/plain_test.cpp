// Every plain task: a batch of many envs, of any instruction set, mode and number of threads, does
// what batches of one env each do in the baseline; unroll is many steps; states are refused.
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "plain_batch.hpp"
#include "test_tools.hpp"

using namespace fastmaze;

namespace {

using Bytes = std::vector<uint8_t>;

// Options of each task, drawn at random; a new task adds its own.
Options random_options(const std::string& task) {
    const auto any = [](int64_t low, int64_t high) {
        return static_cast<double>(uniform(low, high));
    };
    if (task == "MemoryLength") {
        return Options({{"length", any(1, 9)},
                        {"bits", any(0, 1) ? 1 : any(1, 30)},
                        {"show_time", any(0, 3) > 0}});
    }
    if (task == "PixelWorld") {
        return Options({{"kind", any(0, 3)},
                        {"explore_frames", any(1, 9)},
                        {"length", any(1, 20)},
                        {"reward_frames", any(1, 9)},
                        {"respawn_every", any(0, 6)},
                        {"num_apples", any(0, 22)},
                        {"fixed_colours", any(0, 1)},
                        {"apple_reward", 0.25},
                        {"final_reward", 5}});
    }
    if (task == "UmbrellaLength") {
        return Options({{"length", any(1, 20)}, {"distractors", any(0, 1) ? 20 : any(0, 127)}});
    }
    if (task == "RepeatFirst" || task == "Autoencode") return Options({{"decks", any(1, 3)}});
    if (task == "CorridorMaze") {
        return Options({{"length", any(1, 5)},
                        {"chances", any(0, 1) * any(0, 1 << 30)},
                        {"one_hot", any(0, 1)},
                        {"episode_length", any(1, 30)}});
    }
    if (task == "TMazeLong") return Options({{"length", any(1, 20)}, {"noise", any(0, 1)}});
    if (task == "HeavenHell") {
        return Options({{"size", any(1, 4)}, {"episode_length", any(1, 30)}});
    }
    if (task == "MemoryCards") {
        return Options({{"pairs", any(0, 1) ? 5 : any(1, 16)}, {"episode_length", any(1, 30)}});
    }
    if (task == "DelayedCatch") {
        return Options({{"runs", any(1, 9)}, {"random_paddle", any(0, 1)}});
    }
    if (task == "MiniGridMemory") {
        return Options({{"size", 2 * any(3, 9) + 1},
                        {"random_length", any(0, 1)},
                        {"episode_length", any(1, 60)}});
    }
    std::fprintf(stderr, "%s: no options in plain_test.cpp\n", task.c_str());
    std::exit(1);
}

std::unique_ptr<PlainBatch> make_batch(const char* isa, const std::string& task,
                                       const Options& options, const PlainConfig& config) {
    for (const PlainTask& entry : *find_plain_tasks(isa)) {
        if (task == entry.name) {
            return std::make_unique<PlainBatch>(
                std::unique_ptr<const PlainCore>(entry.make(options)), config);
        }
    }
    std::abort();
}

// Arrays of exactly the size that a batch may touch, on the heap, so that a sanitizer sees a step
// past their ends.
struct Outputs {
    Bytes obs, terminated, truncated, final_obs;
    std::vector<float> reward;

    Outputs(int64_t rows, int64_t obs_bytes)
        : obs(rows * obs_bytes), terminated(rows), truncated(rows, 1), final_obs(rows * obs_bytes),
          reward(rows) {}
    StepOutputs view() {
        return {obs.data(), reward.data(), terminated.data(), truncated.data(), final_obs.data()};
    }
};

void seeded_reset(PlainBatch& batch, uint8_t* obs, bool stagger, uint32_t first) {
    std::vector<uint64_t> keys(batch.num_envs(), 77);
    std::vector<uint32_t> indices(batch.num_envs());
    for (size_t i = 0; i < indices.size(); ++i) indices[i] = first + static_cast<uint32_t>(i);
    batch.reset(obs, {nullptr, nullptr, stagger, keys.data(), indices.data(), nullptr});
}

// The state of one env out of a saved batch, array by array.
Bytes state_of(const PlainBatch& batch, int64_t i) {
    Bytes all(batch.state_bytes()), one;
    batch.get_state(all.data());
    size_t at = 0;
    for (const size_t size : {size_t{8}, size_t{4}, size_t{4}, size_t{4}, size_t{4}, size_t{1},
                              static_cast<size_t>(batch.shape().state_bytes)}) {
        const uint8_t* entry = all.data() + at + static_cast<size_t>(i) * size;
        one.insert(one.end(), entry, entry + size);
        at += size * static_cast<size_t>(batch.num_envs());
    }
    return one;
}

void compare_with_single_envs(const char* isa, const std::string& task) {
    const Options options = random_options(task);
    const int64_t n = uniform(0, 9) == 0 ? uniform(1025, 1400) : uniform(1, 150);
    const PlainConfig config{n, static_cast<Autoreset>(uniform(0, 2)),
                             static_cast<int>(uniform(1, 4)), 64};
    const auto batch = make_batch(isa, task, options, config);
    const int64_t size = batch->obs_bytes();
    const int most = batch->shape().num_actions - 1;
    Outputs out(n, size), one(1, size);
    std::vector<int64_t> actions(n);
    CHECK(throws([&] { batch->step({actions.data(), ActionType::kInt64}, out.view()); }));
    const bool stagger = uniform(0, 1) == 1;
    seeded_reset(*batch, out.obs.data(), stagger, 0);

    // Some of the envs, each in a batch of its own.
    std::map<int64_t, std::unique_ptr<PlainBatch>> singles;
    for (int k = 0; k < 5; ++k) {
        const int64_t i = uniform(0, n - 1);
        auto& single = singles[i];
        single = make_batch("baseline", task, options, {1, config.mode, 1, 64});
        seeded_reset(*single, one.obs.data(), stagger, static_cast<uint32_t>(i));
        CHECK(std::memcmp(one.obs.data(), &out.obs[i * size], size) == 0);
    }
    Bytes over(n);
    for (int step = 0; step < 40; ++step) {
        if (config.mode == Autoreset::kDisabled) {
            bool any = false;
            for (const uint8_t ended : over) any |= ended;
            if (any) {
                CHECK(throws(
                    [&] { batch->step({actions.data(), ActionType::kInt64}, out.view()); }));
                batch->reset(out.obs.data(),
                             {over.data(), nullptr, false, nullptr, nullptr, nullptr});
                for (auto& [i, single] : singles) {
                    if (!over[i]) continue;
                    single->reset(one.obs.data(), {nullptr, nullptr, false, nullptr, nullptr, nullptr});
                }
            }
        }
        for (auto& action : actions) action = uniform(0, most);
        if (step % 7 == 3) {
            // One bad action: nothing may move. A state that was saved is taken back.
            Bytes before(batch->state_bytes()), after(batch->state_bytes());
            batch->get_state(before.data());
            auto bad = actions;
            const int64_t wrong[] = {most + 1, -1, 256, int64_t{1} << 40};
            bad[uniform(0, n - 1)] = wrong[uniform(0, 3)];
            CHECK(throws([&] { batch->step({bad.data(), ActionType::kInt64}, out.view()); }));
            batch->get_state(after.data());
            CHECK(before == after);
            batch->set_state(after.data());
        }
        const int64_t finished = batch->step({actions.data(), ActionType::kInt64}, out.view());
        over = out.terminated;
        int64_t ended = 0;
        for (const uint8_t flag : over) ended += flag;
        CHECK(ended == finished);
        for (auto& [i, single] : singles) {
            const int64_t single_ended =
                single->step({&actions[i], ActionType::kInt64}, one.view());
            CHECK(std::memcmp(one.obs.data(), &out.obs[i * size], size) == 0);
            CHECK(std::memcmp(&one.reward[0], &out.reward[i], sizeof(float)) == 0);
            CHECK(one.terminated[0] == out.terminated[i] && single_ended == over[i]);
            CHECK(out.truncated[i] == 0);
            CHECK(state_of(*single, 0) == state_of(*batch, i));
            if (!over[i]) continue;
            const EpisodeStatistics &a = single->statistics(), &b = batch->statistics();
            CHECK(a.episode_return[0] == b.episode_return[i] && a.length[0] == b.length[i]);
            CHECK(a.success[0] == b.success[i] && a.cue_seen[0] == b.cue_seen[i]);
            if (config.mode != Autoreset::kSameStep) continue;
            CHECK(std::memcmp(one.final_obs.data(), &out.final_obs[i * size], size) == 0);
        }
    }
}

void compare_unroll_with_steps(const char* isa, const std::string& task) {
    const Options options = random_options(task);
    const int64_t n = uniform(1, 300), steps = uniform(1, 25);
    const auto mode = static_cast<Autoreset>(uniform(0, 1));
    const int threads = static_cast<int>(uniform(1, 4));
    const auto stepped = make_batch(isa, task, options, {n, mode, threads, 64});
    const auto unrolled = make_batch(isa, task, options, {n, mode, 5 - threads, 64});
    const int64_t size = stepped->obs_bytes();
    Outputs one(n, size), many(steps * n, size);
    seeded_reset(*stepped, one.obs.data(), true, 0);
    seeded_reset(*unrolled, one.obs.data(), true, 0);
    Bytes actions(steps * n);
    for (auto& action : actions) {
        action = static_cast<uint8_t>(uniform(0, stepped->shape().num_actions - 1));
    }
    unrolled->unroll({actions.data(), ActionType::kByte}, steps, many.view());
    for (int64_t s = 0; s < steps; ++s) {
        stepped->step({actions.data() + s * n, ActionType::kByte}, one.view());
        CHECK(std::memcmp(one.obs.data(), &many.obs[s * n * size], n * size) == 0);
        CHECK(std::memcmp(one.reward.data(), &many.reward[s * n], sizeof(float) * n) == 0);
        CHECK(std::memcmp(one.terminated.data(), &many.terminated[s * n], n) == 0);
    }
    for (int64_t i = 0; i < n; i += 7) CHECK(state_of(*stepped, i) == state_of(*unrolled, i));
}

// Noise is refused and changes nothing; a byte changed is refused, or stepped on from without harm.
void attack_states(const char* isa, const std::string& task) {
    const auto batch = make_batch(isa, task, random_options(task),
                                  {7, Autoreset::kNextStep, 1, 64});
    Outputs out(7, batch->obs_bytes());
    Bytes actions(7);
    seeded_reset(*batch, out.obs.data(), true, 0);
    Bytes good(batch->state_bytes()), noise(batch->state_bytes());
    batch->get_state(good.data());
    for (auto& byte : noise) byte = static_cast<uint8_t>(uniform(0, 255));
    CHECK(throws([&] { batch->set_state(noise.data()); }));
    batch->get_state(noise.data());
    CHECK(good == noise);
    for (int k = 0; k < 40; ++k) {
        batch->get_state(noise.data());
        noise[uniform(0, static_cast<int64_t>(noise.size()) - 1)] =
            static_cast<uint8_t>(uniform(0, 1) ? uniform(0, 255) : uniform(0, 4));
        if (throws([&] { batch->set_state(noise.data()); })) continue;
        if (throws([&] { batch->observe(out.obs.data()); })) {  // an env was made as if never reset
            seeded_reset(*batch, out.obs.data(), true, 0);
        }
        for (auto& action : actions) {
            action = static_cast<uint8_t>(uniform(0, batch->shape().num_actions - 1));
        }
        batch->step({actions.data(), ActionType::kByte}, out.view());
    }
}

}  // namespace

void test_plain_tasks(const char* isa) {
    for (const PlainTask& task : *find_plain_tasks(isa)) {
        for (int round = 0; round < 30; ++round) {
            compare_with_single_envs(isa, task.name);
            compare_unroll_with_steps(isa, task.name);
            attack_states(isa, task.name);
        }
        std::printf("%s %s: ok\n", isa, task.name);
    }
}
