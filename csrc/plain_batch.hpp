// A batch of any plain task: autoreset, statistics, state, threads, written once for all of them.
//
// A plain task is a class with
//   Obs, State                              an observation's entry; a struct without padding
//   kContextBytes, kEndsEarly               constants
//   explicit Task(const Options&)           checks and keeps its numbers, fills its tables
//   length(), num_actions(), obs_size()
//   is_context(context)                     whether an episode may begin with these bytes
//   begin(env, context, state)              context is null where everything is drawn
//   step(env, action, state) -> Move        env.t is already the new time
//   observe(env, state, obs)
//   result(env, state) -> Episode           at the end
//   possible(env, state)                    whether an episode can come to this
// all const; the functions for one env are inline and do not throw.
#pragma once

#include <atomic>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "plain_task.hpp"
#include "staggered.hpp"
#include "thread_pool.hpp"

namespace fastmaze {

struct PlainConfig {
    int64_t num_envs;
    Autoreset mode;
    int num_threads;
    int64_t least_per_thread;  // fewest envs that a thread of its own is worth
};

// `Reset::context` is uint8_t [num_envs, kContextBytes]; rows that begin with 0 are drawn.
template <class Task>
class PlainBatch final : public Batch {
    using Obs = typename Task::Obs;
    using State = typename Task::State;
    static_assert(std::is_trivially_copyable_v<State>);
    static_assert(std::has_unique_object_representations_v<State>, "State must have no padding");

  public:
    PlainBatch(const Options& options, const PlainConfig& config)
        : config_(config),
          task_(options),
          pool_(config.num_threads),
          never_reset_(config.num_envs) {
        const auto n = static_cast<size_t>(config.num_envs);
        visit(arrays_, [n](auto& array) { array.resize(n); });
        arrays_.episode.assign(n, kNeverReset);
        arrays_.over.assign(n, 1);
        statistics_.resize(n);
        narrowed_.resize(n);
    }

    int64_t num_envs() const override { return config_.num_envs; }
    int64_t obs_bytes() const override { return task_.obs_size() * int64_t{sizeof(Obs)}; }
    const EpisodeStatistics& statistics() const override { return statistics_; }

    void reset(void* obs, const Reset& request) override {
        const auto* contexts = static_cast<const uint8_t*>(request.context);
        for (int64_t i = 0; contexts != nullptr && i < config_.num_envs; ++i) {
            const uint8_t* context = contexts + i * Task::kContextBytes;
            if (selected(request.mask, i) && context[0] != 0 && !task_.is_context(context)) {
                throw std::invalid_argument("context: no episode of this task can begin with "
                                            "what is given for env " + std::to_string(i));
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
            for (int64_t i = begin; i < end; ++i) {
                if (selected(request.mask, i)) {
                    if (request.keys != nullptr && selected(request.seed_mask, i)) {
                        arrays_.key[i] = request.keys[i];
                        arrays_.index[i] = request.indices[i];
                        arrays_.episode[i] = kNeverReset;  // the next episode is number 0
                    }
                    const uint8_t* context =
                        contexts == nullptr ? nullptr : contexts + i * Task::kContextBytes;
                    begin_episode(i, context != nullptr && context[0] != 0 ? context : nullptr,
                                  request.stagger);
                }
                observe_one(i, row(obs, i));
            }
        });
        count_waiting();
    }

    int64_t step(Actions actions, const StepOutputs& out) override {
        check_ready(1);
        pool_.prepare(parts());
        // All actions are checked before any env moves: a bad one changes nothing.
        std::atomic<bool> valid{true};
        pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
            if (!narrow(actions, begin, narrowed_.data() + begin, end - begin)) {
                valid.store(false, std::memory_order_relaxed);
            }
        });
        if (!valid.load(std::memory_order_relaxed)) refuse_actions();

        std::atomic<int64_t> finished{0};
        pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
            const int64_t count = step_range(narrowed_.data() + begin, out, begin, begin, end);
            finished.fetch_add(count, std::memory_order_relaxed);
        });
        const int64_t count = finished.load(std::memory_order_relaxed);
        if (config_.mode == Autoreset::kDisabled) over_ = count;
        return count;
    }

    void unroll(Actions actions, int64_t steps, const StepOutputs& out) override {
        check_ready(steps);
        const int64_t num_envs = config_.num_envs;
        const int check_parts = pool_.num_parts(steps * num_envs, config_.least_per_thread);
        const int64_t step_parts =
            num_envs / kGrain < check_parts ? num_envs / kGrain : check_parts;
        pool_.prepare(check_parts);
        std::atomic<bool> valid{true};
        pool_.run(check_parts, steps * num_envs, kGrain, [&](int64_t begin, int64_t end) {
            uint8_t bytes[kBlock] = {};
            for (int64_t i = begin; i < end; i += kBlock) {
                if (!narrow(actions, i, bytes, block_size(i, end))) {
                    valid.store(false, std::memory_order_relaxed);
                    return;
                }
            }
        });
        if (!valid.load(std::memory_order_relaxed)) refuse_actions();

        // A block takes all its steps before the next one starts, so its state stays in the cache.
        pool_.run(static_cast<int>(step_parts), num_envs, kGrain, [&](int64_t begin, int64_t end) {
            uint8_t bytes[kBlock] = {};
            for (int64_t block = begin; block < end; block += kBlock) {
                const int64_t block_end = block + block_size(block, end);
                for (int64_t s = 0; s < steps; ++s) {
                    const int64_t at = s * num_envs + block;
                    narrow(actions, at, bytes, block_end - block);
                    step_range(bytes, out, at, block, block_end);
                }
            }
        });
        if (config_.mode == Autoreset::kDisabled) count_waiting();
    }

    void observe(void* obs) const override {
        if (never_reset_ > 0) throw std::logic_error("observe: call reset first");
        for (int64_t i = 0; i < config_.num_envs; ++i) observe_one(i, row(obs, i));
    }

    int64_t state_bytes() const override {
        int64_t bytes = 0;
        visit(arrays_, [&](const auto& array) { bytes += int64_t(sizeof(array[0])); });
        return bytes * config_.num_envs;
    }

    void get_state(uint8_t* bytes) const override {
        visit(arrays_, [&](const auto& array) {
            const size_t size = array.size() * sizeof(array[0]);
            std::memcpy(bytes, array.data(), size);
            bytes += size;
        });
    }

    void set_state(const uint8_t* bytes) override {
        Arrays loaded;
        const auto n = static_cast<size_t>(config_.num_envs);
        visit(loaded, [&](auto& array) {
            array.resize(n);
            std::memcpy(array.data(), bytes, n * sizeof(array[0]));
            bytes += n * sizeof(array[0]);
        });
        for (size_t i = 0; i < n; ++i) {
            if (!possible(loaded, i)) {
                throw std::invalid_argument(
                    "state: env " + std::to_string(i) +
                    " holds values that no episode of this task can reach");
            }
        }
        arrays_ = std::move(loaded);
        count_waiting();
    }

    void release() override {
        pool_.stop();
        arrays_ = Arrays{};
        narrowed_ = std::vector<uint8_t>();
    }

  private:
    // The whole state; fastmaze/envs/backends/state.py knows this order, too.
    struct Arrays {
        std::vector<uint64_t> key;      // Philox key
        std::vector<uint32_t> index;    // Philox counter word 0
        std::vector<uint32_t> episode;  // Philox counter word 1; kNeverReset before a reset
        std::vector<int32_t> start, t;
        std::vector<uint8_t> over;      // 1 from the end of an episode to the start of the next
        std::vector<State> state;
    };

    template <class Self, class Visit>
    static void visit(Self& arrays, const Visit& visit) {
        visit(arrays.key);
        visit(arrays.index);
        visit(arrays.episode);
        visit(arrays.start);
        visit(arrays.t);
        visit(arrays.over);
        visit(arrays.state);
    }

    int parts() const { return pool_.num_parts(config_.num_envs, config_.least_per_thread); }

    Obs* row(void* obs, int64_t i) const {
        return static_cast<Obs*>(obs) + i * int64_t{task_.obs_size()};
    }

    static Env env_of(const Arrays& arrays, size_t i) {
        return {arrays.key[i], arrays.index[i], arrays.episode[i], arrays.start[i], arrays.t[i]};
    }

    void observe_one(int64_t i, Obs* obs) const {
        task_.observe(env_of(arrays_, static_cast<size_t>(i)), arrays_.state[i], obs);
    }

    void begin_episode(int64_t i, const uint8_t* context, bool stagger) {
        ++arrays_.episode[i];  // kNeverReset + 1 is 0
        const int32_t start = stagger ? staggered_start(arrays_.index[i], task_.length()) : 0;
        arrays_.start[i] = arrays_.t[i] = start;
        arrays_.over[i] = 0;
        task_.begin(env_of(arrays_, static_cast<size_t>(i)), context, arrays_.state[i]);
    }

    // Steps envs [begin, end), whose outputs start at row `at`; returns how many finished.
    int64_t step_range(const uint8_t* actions, const StepOutputs& out, int64_t at, int64_t begin,
                       int64_t end) {
        // Local copies tell the compiler that no byte written below changes them; a task of many
        // tables is not copied.
        using Local = std::conditional_t<(sizeof(Task) <= 256), const Task, const Task&>;
        Local task = task_;
        const uint64_t* __restrict key = arrays_.key.data();
        const uint32_t* __restrict index = arrays_.index.data();
        const uint32_t* episode = arrays_.episode.data();
        const int32_t* start = arrays_.start.data();
        const uint8_t* over = arrays_.over.data();
        int32_t* t = arrays_.t.data();
        State* states = arrays_.state.data();
        float* reward = out.reward;
        uint8_t* terminated = out.terminated;
        const int32_t length = task.length();
        const int64_t obs_size = task.obs_size();
        Obs* obs = row(out.obs, at);
        int64_t finished = 0;
        for (int64_t i = begin; i < end; ++i, ++at, obs += obs_size) {
            if (over[i]) [[unlikely]] {
                // The episode was over before this step (mode NextStep): the action is ignored.
                begin_episode(i, nullptr, false);
                reward[at] = 0.0f;
                terminated[at] = 0;
                observe_one(i, obs);
                continue;
            }
            const Env env{key[i], index[i], episode[i], start[i], ++t[i]};
            State& state = states[i];
            const Move move = task.step(env, actions[i - begin], state);
            const bool done = move.ended || env.t >= length;
            task.observe(env, state, obs);
            reward[at] = move.reward;
            terminated[at] = done;
            if (done) [[unlikely]] {
                ++finished;
                finish(i, env, out, at);
            }
        }
        std::memset(out.truncated + at - (end - begin), 0, static_cast<size_t>(end - begin));
        return finished;
    }

    // Keeps the statistics of the episode that env i has just finished; SameStep: starts the next.
    void finish(int64_t i, const Env& env, const StepOutputs& out, int64_t at) {
        const Episode episode = task_.result(env, arrays_.state[i]);
        statistics_.episode_return[i] = episode.episode_return;
        statistics_.length[i] = env.t - env.start;
        statistics_.success[i] = episode.success;
        statistics_.cue_seen[i] = episode.flag;
        arrays_.over[i] = 1;
        if (config_.mode != Autoreset::kSameStep) return;
        if (out.final_obs != nullptr) {
            std::memcpy(row(out.final_obs, at), row(out.obs, at),
                        static_cast<size_t>(obs_bytes()));
        }
        begin_episode(i, nullptr, false);
        observe_one(i, row(out.obs, at));
    }

    // Checks n actions from `offset` on and copies them to bytes.
    bool narrow(Actions actions, int64_t offset, uint8_t* narrowed, int64_t n) const {
        switch (actions.type) {
            case ActionType::kInt64:
                return narrow_from(static_cast<const int64_t*>(actions.data) + offset, narrowed, n);
            case ActionType::kInt32:
                return narrow_from(static_cast<const int32_t*>(actions.data) + offset, narrowed, n);
            case ActionType::kByte: break;
        }
        return narrow_from(static_cast<const uint8_t*>(actions.data) + offset, narrowed, n);
    }

    template <class Action>
    bool narrow_from(const Action* __restrict actions, uint8_t* __restrict narrowed,
                     int64_t n) const {
        using Unsigned = std::make_unsigned_t<Action>;
        const auto limit = static_cast<Unsigned>(task_.num_actions());
        bool bad = false;
        for (int64_t i = 0; i < n; ++i) {
            bad |= static_cast<Unsigned>(actions[i]) >= limit;
            narrowed[i] = static_cast<uint8_t>(actions[i]);
        }
        return !bad;
    }

    [[noreturn]] void refuse_actions() const {
        throw std::invalid_argument("actions: expected every action to be from 0 to " +
                                    std::to_string(task_.num_actions() - 1));
    }

    void check_ready(int64_t steps) const {
        if (never_reset_ > 0) {
            throw std::logic_error("step: call reset first (" + std::to_string(never_reset_) +
                                   " envs were never reset since they were made or seeded)");
        }
        if (config_.mode != Autoreset::kDisabled) return;
        if (over_ > 0) {
            throw std::logic_error("step: the episodes of " + std::to_string(over_) +
                                   " envs are over; with autoreset Disabled, reset them first");
        }
        if (steps <= 1) return;
        if (Task::kEndsEarly) {
            throw std::logic_error(
                "unroll: with autoreset Disabled, expected one step, for episodes of this task "
                "may end at any step, got " + std::to_string(steps));
        }
        for (int64_t i = 0; i < config_.num_envs; ++i) {
            const int32_t left = task_.length() - arrays_.t[i];
            if (steps > left) {
                throw std::logic_error("unroll: with autoreset Disabled, expected at most " +
                                       std::to_string(left) + " steps, until the episode of env " +
                                       std::to_string(i) + " is over, got " +
                                       std::to_string(steps));
            }
        }
    }

    void count_waiting() {
        never_reset_ = over_ = 0;
        for (int64_t i = 0; i < config_.num_envs; ++i) {
            const bool waiting = arrays_.episode[i] == kNeverReset;
            never_reset_ += waiting;
            over_ += !waiting && arrays_.over[i];
        }
    }

    // The same conditions as SpecificationEnv.load and ReferenceBackend.set_state in Python.
    bool possible(const Arrays& loaded, size_t i) const {
        const Env env = env_of(loaded, i);
        const int32_t length = task_.length();
        const bool over = loaded.over[i] == 1;
        if (loaded.over[i] > 1 || env.start < 0 || env.t < env.start || env.t > length) return false;
        if (env.episode == kNeverReset) return over;
        if (env.start >= length || (env.t >= length && !over)) return false;
        if (over && (env.t == env.start || config_.mode == Autoreset::kSameStep)) return false;
        if (over && !Task::kEndsEarly && env.t != length) return false;
        return task_.possible(env, loaded.state[i]);
    }

    PlainConfig config_;
    Task task_;
    Arrays arrays_;
    EpisodeStatistics statistics_;
    std::vector<uint8_t> narrowed_;
    ThreadPool pool_;
    int64_t never_reset_;  // envs without an episode
    int64_t over_ = 0;     // envs whose episode is over; used in mode Disabled
};

}  // namespace fastmaze
