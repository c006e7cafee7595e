#include "tmaze_batch.hpp"

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "staggered.hpp"

namespace fastmaze {
namespace {

// Envs whose episodes start together, with their draws vectorised.
constexpr int64_t kGroup = 64;

// Checks n actions from `offset` on and copies them to bytes.
bool narrow(const Kernels& kernels, Actions actions, int64_t offset, uint8_t* narrowed,
            int64_t n) {
    switch (actions.type) {
        case ActionType::kInt64:
            return kernels.narrow_int64(static_cast<const int64_t*>(actions.data) + offset,
                                        narrowed, n);
        case ActionType::kInt32:
            return kernels.narrow_int32(static_cast<const int32_t*>(actions.data) + offset,
                                        narrowed, n);
        case ActionType::kByte: break;
    }
    std::memcpy(narrowed, static_cast<const uint8_t*>(actions.data) + offset,
                static_cast<size_t>(n));
    return kernels.check_uint8(narrowed, n);
}

[[noreturn]] void refuse_actions() {
    throw std::invalid_argument("actions: expected every action to be 0, 1, 2 or 3");
}

}  // namespace

// Calls `visit` on each array in the order of the saved state.
template <class Self, class Visit>
void TMazeBatch::visit(Self& arrays, const Visit& visit) {
    visit(arrays.key);
    visit(arrays.index);
    visit(arrays.episode);
    visit(arrays.start);
    visit(arrays.x);
    visit(arrays.t);
    visit(arrays.flags);
    visit(arrays.penalties);
    visit(arrays.distractions);
}

TMazeBatch::TMazeBatch(const BatchConfig& config)
    : config_(config),
      obs_dim_((config.view == View::kAmbiguous ? 2 : 3) + (config.add_timestep ? 1 : 0)),
      step_(config.kernels->step[static_cast<int>(config.view)][config.add_timestep]
                                [static_cast<int>(config.rule)]),
      observe_(config.kernels->observe[static_cast<int>(config.view)][config.add_timestep]),
      pool_(config.num_threads),
      never_reset_(config.num_envs),
      over_(0) {
    const auto n = static_cast<size_t>(config.num_envs);
    visit(arrays_, [n](auto& array) { array.resize(n); });
    arrays_.episode.assign(n, kNeverReset);
    arrays_.x.assign(n, config.options.oracle_length);
    arrays_.t.assign(n, config.options.episode_length);
    arrays_.flags.assign(n, fresh_flags(config.options.oracle_length, -1));
    point_lanes();
    statistics_.resize(n);
    narrowed_.resize(n);
}

void TMazeBatch::point_lanes() {
    lanes_ = {arrays_.x.data(), arrays_.t.data(), arrays_.flags.data(), arrays_.penalties.data(),
              arrays_.distractions.data()};
}

void TMazeBatch::release() {
    pool_.stop();
    arrays_ = Arrays{};
    narrowed_ = std::vector<uint8_t>();
}

void TMazeBatch::reset(void* rows, const Reset& request) {
    float* obs = static_cast<float*>(rows);
    const int8_t* goals = static_cast<const int8_t*>(request.context);
    for (int64_t i = 0; goals != nullptr && i < config_.num_envs; ++i) {
        if (goals[i] < -1 || goals[i] > 1) {
            throw std::invalid_argument("goals: expected -1, 0 or +1, got " +
                                        std::to_string(goals[i]) + " for env " +
                                        std::to_string(i));
        }
    }
    for (int64_t i = 0; request.mask != nullptr && i < config_.num_envs; ++i) {
        if (request.mask[i] == 0 && arrays_.episode[i] == kNeverReset) {
            throw std::logic_error("mask: env " + std::to_string(i) +
                                   " was never reset and is not in the mask");
        }
    }
    pool_.prepare(parts());

    pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; group += kGroup) {
            int64_t envs[kGroup] = {}, count = 0;
            const int64_t group_end = group + kGroup < end ? group + kGroup : end;
            for (int64_t i = group; i < group_end; ++i) {
                if (!selected(request.mask, i)) continue;
                envs[count++] = i;
                if (request.keys != nullptr && selected(request.seed_mask, i)) {
                    arrays_.key[i] = request.keys[i];
                    arrays_.index[i] = request.indices[i];
                    arrays_.episode[i] = kNeverReset;  // the next episode is number 0
                }
            }
            begin_episodes(envs, count, goals, request.stagger);
        }
        observe_(config_.options, lanes_ + begin, obs + begin * obs_dim_, end - begin);
    });
    count_waiting();
}

int64_t TMazeBatch::step(Actions actions, const StepOutputs& out) {
    check_ready(1);
    pool_.prepare(parts());
    // All actions are checked before any env moves: a bad one changes nothing.
    std::atomic<bool> valid{true};
    pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
        if (!narrow(*config_.kernels, actions, begin, narrowed_.data() + begin, end - begin)) {
            valid.store(false, std::memory_order_relaxed);
        }
    });
    if (!valid.load(std::memory_order_relaxed)) refuse_actions();

    std::atomic<int64_t> finished{0};
    pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
        int64_t count = 0;
        for (int64_t block = begin; block < end; block += kBlock) {
            count += step_block(narrowed_.data() + block, out, block, block_size(block, end),
                                block);
        }
        finished.fetch_add(count, std::memory_order_relaxed);
    });
    const int64_t count = finished.load(std::memory_order_relaxed);
    if (config_.mode == Autoreset::kDisabled) over_ = count;
    return count;
}

void TMazeBatch::unroll(Actions actions, int64_t steps, const StepOutputs& out) {
    check_ready(steps);
    const int64_t num_envs = config_.num_envs;
    const int64_t least = config_.least_per_thread;
    // A thread is worth its cost from fewer envs on when it takes many steps with each.
    const int check_parts = pool_.num_parts(steps * num_envs, least);
    const int64_t step_parts = num_envs / kGrain < check_parts ? num_envs / kGrain : check_parts;
    pool_.prepare(check_parts);
    std::atomic<bool> valid{true};
    pool_.run(check_parts, steps * num_envs, kGrain, [&](int64_t begin, int64_t end) {
        uint8_t bytes[kBlock] = {};
        for (int64_t i = begin; i < end; i += kBlock) {
            if (!narrow(*config_.kernels, actions, i, bytes, block_size(i, end))) {
                valid.store(false, std::memory_order_relaxed);
                return;
            }
        }
    });
    if (!valid.load(std::memory_order_relaxed)) refuse_actions();

    // A block takes all its steps before the next block starts, so its state stays in the cache.
    pool_.run(static_cast<int>(step_parts), num_envs, kGrain, [&](int64_t begin, int64_t end) {
        uint8_t bytes[kBlock] = {};
        for (int64_t block = begin; block < end; block += kBlock) {
            const int64_t n = block_size(block, end);
            for (int64_t s = 0; s < steps; ++s) {
                const int64_t at = s * num_envs + block;
                narrow(*config_.kernels, actions, at, bytes, n);
                step_block(bytes, out, at, n, block);
            }
        }
    });
    if (config_.mode == Autoreset::kDisabled) count_waiting();
}

void TMazeBatch::observe(void* obs) const {
    if (never_reset_ > 0) throw std::logic_error("observe: call reset first");
    observe_(config_.options, lanes_, static_cast<float*>(obs), config_.num_envs);
}

// Steps envs [env, env + n), whose outputs start at row `at`; returns how many finished.
int64_t TMazeBatch::step_block(const uint8_t* actions, const StepOutputs& out, int64_t at,
                               int64_t n, int64_t env) {
    float* final_obs = static_cast<float*>(out.final_obs);
    const Rows block{static_cast<float*>(out.obs) + at * obs_dim_, out.reward + at,
                     out.terminated + at, out.truncated + at,
                     final_obs ? final_obs + at * obs_dim_ : nullptr};
    const int32_t last = step_(config_.options, lanes_ + env, actions, block.obs, block.reward,
                               block.terminated, n);
    std::memset(block.truncated, 0, static_cast<size_t>(n));
    return last < config_.options.episode_length ? 0 : finish_block(block, n, env);
}

// Ends and starts the episodes of a block in which some env's clock has run out.
int64_t TMazeBatch::finish_block(const Rows& block, int64_t n, int64_t env) {
    int64_t restart[kGroup] = {}, num_restarts = 0, finished = 0;
    const auto flush = [&] {
        restart_episodes(block, restart, num_restarts, env);
        num_restarts = 0;
    };
    for (int64_t i = 0; i < n; ++i) {
        // Eight flags at a time: with staggered starts most blocks hold just a few ends.
        uint64_t eight;
        if (i + 8 <= n && (std::memcpy(&eight, block.terminated + i, 8), eight == 0)) {
            i += 7;
            continue;
        }
        if (!block.terminated[i]) continue;
        if (num_restarts == kGroup) flush();
        if (arrays_.t[env + i] > config_.options.episode_length) {
            // The episode was over before this step (mode NextStep): the action is ignored.
            block.terminated[i] = 0;
            block.reward[i] = 0.0f;
            restart[num_restarts++] = env + i;
            continue;
        }
        ++finished;
        record(env + i);
        if (config_.mode == Autoreset::kSameStep) restart[num_restarts++] = env + i;
    }
    flush();
    return finished;
}

// Starts episodes in `n` envs of the block that begins at `env` and writes what they show.
void TMazeBatch::restart_episodes(const Rows& block, const int64_t* envs, int64_t n,
                                  int64_t env) {
    begin_episodes(envs, n, nullptr, false);
    for (int64_t k = 0; k < n; ++k) {
        float* row = block.obs + (envs[k] - env) * obs_dim_;
        if (config_.mode == Autoreset::kSameStep && block.final_obs != nullptr) {
            std::memcpy(block.final_obs + (row - block.obs), row, sizeof(float) * obs_dim_);
        }
        observe_(config_.options, lanes_ + envs[k], row, 1);
    }
}

// Keeps the statistics of the episode that this env has just finished.
void TMazeBatch::record(int64_t env) {
    const TMazeOptions& options = config_.options;
    const int32_t flags = arrays_.flags[env];
    const bool success = y_of(flags) == goal_of(flags);
    // Counted, not summed step by step: exact, and the same in every backend.
    const double penalties = arrays_.penalties[env] * options.penalty;
    const double distractions = arrays_.distractions[env] * options.distract_reward;
    statistics_.episode_return[env] =
        (penalties + distractions) + (success ? options.goal_reward_exact : 0.0);
    statistics_.length[env] = arrays_.t[env] - arrays_.start[env];
    statistics_.success[env] = success;
    statistics_.cue_seen[env] = cue_of(flags) != 0;
}

// Starts the next episode of `n` envs, at most a group of them.
void TMazeBatch::begin_episodes(const int64_t* envs, int64_t n, const int8_t* goals,
                                bool stagger) {
    if (n == 0) return;
    uint64_t key[kGroup] = {};
    uint32_t index[kGroup] = {}, episode[kGroup] = {};
    int32_t goal[kGroup] = {};
    for (int64_t k = 0; k < n; ++k) {
        const int64_t env = envs[k];
        key[k] = arrays_.key[env];
        index[k] = arrays_.index[env];
        episode[k] = ++arrays_.episode[env];  // kNeverReset + 1 is 0
    }
    config_.kernels->draw_goals(key, index, episode, goal, n);
    const int32_t x = config_.options.oracle_length;
    for (int64_t k = 0; k < n; ++k) {
        const int64_t env = envs[k];
        const int32_t y = goals != nullptr && goals[env] != 0 ? goals[env] : goal[k];
        const int32_t start =
            stagger ? staggered_start(index[k], config_.options.episode_length) : 0;
        arrays_.start[env] = arrays_.t[env] = start;
        arrays_.x[env] = x;
        arrays_.flags[env] = fresh_flags(x, y);
        arrays_.penalties[env] = arrays_.distractions[env] = 0;
    }
}

void TMazeBatch::check_ready(int64_t steps) const {
    if (never_reset_ > 0) {
        throw std::logic_error("step: call reset first (" + std::to_string(never_reset_) +
                               " envs were never reset since they were made or seeded)");
    }
    if (config_.mode != Autoreset::kDisabled) return;
    if (over_ > 0) {
        throw std::logic_error("step: the episodes of " + std::to_string(over_) +
                               " envs are over; with autoreset Disabled, reset them first");
    }
    if (steps == 1) return;
    for (int64_t i = 0; i < config_.num_envs; ++i) {
        if (arrays_.t[i] + steps > config_.options.episode_length) {
            throw std::logic_error(
                "unroll: with autoreset Disabled, expected at most " +
                std::to_string(config_.options.episode_length - arrays_.t[i]) +
                " steps, until the episode of env " + std::to_string(i) + " is over, got " +
                std::to_string(steps));
        }
    }
}

void TMazeBatch::count_waiting() {
    never_reset_ = over_ = 0;
    for (int64_t i = 0; i < config_.num_envs; ++i) {
        const bool waiting = arrays_.episode[i] == kNeverReset;
        never_reset_ += waiting;
        over_ += !waiting && arrays_.t[i] >= config_.options.episode_length;
    }
}

int64_t TMazeBatch::state_bytes() const {
    int64_t bytes = 0;
    visit(arrays_, [&](const auto& array) {
        bytes += static_cast<int64_t>(array.size() * sizeof(array[0]));
    });
    return bytes;
}

void TMazeBatch::get_state(uint8_t* bytes) const {
    visit(arrays_, [&](const auto& array) {
        const size_t size = array.size() * sizeof(array[0]);
        std::memcpy(bytes, array.data(), size);
        bytes += size;
    });
}

void TMazeBatch::set_state(const uint8_t* bytes) {
    Arrays loaded;
    const auto n = static_cast<size_t>(config_.num_envs);
    visit(loaded, [&](auto& array) {
        array.resize(n);
        std::memcpy(array.data(), bytes, n * sizeof(array[0]));
        bytes += n * sizeof(array[0]);
    });
    const TMazeOptions& options = config_.options;
    const int32_t length = options.episode_length;
    for (size_t i = 0; i < n; ++i) {
        const int32_t x = loaded.x[i], t = loaded.t[i], flags = loaded.flags[i];
        const bool waiting = loaded.episode[i] == kNeverReset;
        const int32_t latest =
            config_.mode == Autoreset::kSameStep && !waiting ? length - 1 : length;
        const int32_t cue = cue_of(flags);
        const int64_t steps = int64_t{t} - loaded.start[i];
        const bool good =
            x >= 0 && x <= options.junction && flags >= 0 && (flags & 3) != 3 &&
            (y_of(flags) == 0 || x == options.junction) && cue <= 2 &&
            (x == 0 ? cue != 0 : cue != 2) && loaded.start[i] >= 0 && steps >= 0 &&
            t <= latest && loaded.penalties[i] >= 0 && loaded.penalties[i] <= steps &&
            loaded.distractions[i] >= 0 && loaded.distractions[i] <= steps;
        if (!good) {
            throw std::invalid_argument("state: env " + std::to_string(i) +
                                        " holds values that no episode of this task can reach");
        }
    }
    arrays_ = std::move(loaded);
    point_lanes();
    count_waiting();
}

void TMazeBatch::positions(int32_t* out) const {
    for (int64_t i = 0; i < config_.num_envs; ++i) {
        out[4 * i + 0] = arrays_.x[i];
        out[4 * i + 1] = y_of(arrays_.flags[i]);
        out[4 * i + 2] = arrays_.t[i];
        out[4 * i + 3] = goal_of(arrays_.flags[i]);
    }
}

}  // namespace fastmaze
