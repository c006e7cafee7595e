// The loops over many envs of a plain task, written once for all tasks, built once for each
// instruction set. A step is three passes over a block of envs: random numbers, where the task
// wants some; the transition, without branches, so that it becomes vector code for tasks that have
// none themselves; and the ends of episodes, which are rare.
#pragma once

#include <cstring>
#include <type_traits>

#include "plain_core.hpp"
#include "plain_task.hpp"
#include "staggered.hpp"

// The iterations of the loop that follows touch nothing in common.
#if defined(__clang__)
#define FASTMAZE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define FASTMAZE_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace fastmaze::FASTMAZE_NAMESPACE {

// Calls visit(k, member) for the kMembers members of a struct.
template <int kMembers, class State, class Visit>
static inline void each_member(State& state, const Visit& visit) {
    static_assert(kMembers >= 1 && kMembers <= 8, "kMembers: from 1 to 8");
    if constexpr (kMembers == 1) {
        auto& [a] = state;
        visit(0, a);
    } else if constexpr (kMembers == 2) {
        auto& [a, b] = state;
        visit(0, a), visit(1, b);
    } else if constexpr (kMembers == 3) {
        auto& [a, b, c] = state;
        visit(0, a), visit(1, b), visit(2, c);
    } else if constexpr (kMembers == 4) {
        auto& [a, b, c, d] = state;
        visit(0, a), visit(1, b), visit(2, c), visit(3, d);
    } else if constexpr (kMembers == 5) {
        auto& [a, b, c, d, e] = state;
        visit(0, a), visit(1, b), visit(2, c), visit(3, d), visit(4, e);
    } else if constexpr (kMembers == 6) {
        auto& [a, b, c, d, e, f] = state;
        visit(0, a), visit(1, b), visit(2, c), visit(3, d), visit(4, e), visit(5, f);
    } else if constexpr (kMembers == 7) {
        auto& [a, b, c, d, e, f, g] = state;
        visit(0, a), visit(1, b), visit(2, c), visit(3, d), visit(4, e), visit(5, f), visit(6, g);
    } else {
        auto& [a, b, c, d, e, f, g, h] = state;
        visit(0, a), visit(1, b), visit(2, c), visit(3, d), visit(4, e), visit(5, f), visit(6, g),
            visit(7, h);
    }
}

template <class Task>
class PlainLoops final : public PlainCore {
    using Obs = typename Task::Obs;
    using State = typename Task::State;
    static_assert(std::is_trivially_copyable_v<State>);
    static_assert(std::has_unique_object_representations_v<State>, "State must have no padding");

    static constexpr int members() {
        if constexpr (requires { Task::kMembers; }) {
            static_assert(sizeof(State) == 4 * Task::kMembers, "kMembers: of 32 bits each");
            return Task::kMembers;
        }
        return 0;
    }
    static constexpr int moment_draws() {
        if constexpr (requires { Task::kMomentDraws; }) return Task::kMomentDraws;
        return 0;
    }
    static constexpr int kMembers = members(), kMomentDraws = moment_draws();
    static constexpr bool kHasRest =
        requires(const Task& task, Env env, Obs* obs) { task.observe_rest(env, obs); };

  public:
    explicit PlainLoops(const Options& options) : task_(options) {}

    PlainShape shape() const override {
        return {sizeof(Obs) == 1, Task::kEndsEarly, task_.num_actions(), task_.obs_size(),
                task_.length(), Task::kContextBytes, int64_t{sizeof(State)}};
    }

    bool is_context(const uint8_t* context) const override { return task_.is_context(context); }

    bool possible(const PlainLanes& lanes, int64_t i) const override {
        Env env = env_of(lanes, i);
        env.over = lanes.over[i] != 0;
        return task_.possible(env, load(lanes, i));
    }

    bool narrow(Actions actions, int64_t offset, uint8_t* bytes, int64_t n) const override {
        switch (actions.type) {
            case ActionType::kInt64:
                return narrow_from(static_cast<const uint64_t*>(actions.data) + offset, bytes, n);
            case ActionType::kInt32:
                return narrow_from(static_cast<const uint32_t*>(actions.data) + offset, bytes, n);
            case ActionType::kByte: break;
        }
        return narrow_from(static_cast<const uint8_t*>(actions.data) + offset, bytes, n);
    }

    void begin(const PlainLanes& lanes, int64_t i, const uint8_t* context,
               bool stagger) const override {
        ++lanes.episode[i];  // kNeverReset + 1 is 0
        const int32_t start = stagger ? staggered_start(lanes.index[i], task_.length()) : 0;
        lanes.start[i] = lanes.t[i] = start;
        lanes.over[i] = 0;
        State state = load(lanes, i);
        task_.begin(env_of(lanes, i), context, state);
        store(lanes, i, state);
    }

    void observe(const PlainLanes& lanes, void* obs, int64_t begin, int64_t end) const override {
        for (int64_t i = begin; i < end; ++i) observe_one(lanes, i, row(obs, i));
    }

    int64_t step(const PlainStepping& stepping, const uint8_t* actions, const StepOutputs& out,
                 int64_t at, int64_t begin, int64_t end) const override {
        std::memset(out.truncated + at, 0, static_cast<size_t>(end - begin));
        int64_t finished = 0;
        for (int64_t block = begin; block < end; block += kBlock) {
            finished += step_block(stepping, actions + (block - begin), out, at + (block - begin),
                                   block, block + block_size(block, end));
        }
        return finished;
    }

    void pack(const PlainLanes& lanes, uint8_t* rows) const override {
        for (int64_t i = 0; i < lanes.num_envs; ++i, rows += sizeof(State)) {
            const State state = load(lanes, i);
            std::memcpy(rows, &state, sizeof(State));
        }
    }

    void unpack(const uint8_t* rows, const PlainLanes& lanes) const override {
        for (int64_t i = 0; i < lanes.num_envs; ++i, rows += sizeof(State)) {
            State state;
            std::memcpy(&state, rows, sizeof(State));
            store(lanes, i, state);
        }
    }

  private:
    Obs* row(void* obs, int64_t i) const {
        return static_cast<Obs*>(obs) + i * int64_t{task_.obs_size()};
    }

    static uint32_t* member(const PlainLanes& lanes, int k) {
        return reinterpret_cast<uint32_t*>(lanes.task) + k * lanes.num_envs;
    }

    static State load(const PlainLanes& lanes, int64_t i) {
        if constexpr (kMembers == 0) {
            return reinterpret_cast<const State*>(lanes.task)[i];
        } else {
            State state;
            each_member<kMembers>(state, [&](int k, auto& value) {
                value = static_cast<std::remove_reference_t<decltype(value)>>(member(lanes, k)[i]);
            });
            return state;
        }
    }

    static void store(const PlainLanes& lanes, int64_t i, const State& state) {
        if constexpr (kMembers == 0) {
            reinterpret_cast<State*>(lanes.task)[i] = state;
        } else {
            each_member<kMembers>(state, [&](int k, auto& value) {
                member(lanes, k)[i] = static_cast<uint32_t>(value);
            });
        }
    }

    static Env env_of(const PlainLanes& lanes, int64_t i) {
        Env env{lanes.key[i], lanes.index[i], lanes.episode[i], lanes.start[i], lanes.t[i], {}};
        if constexpr (kMomentDraws > 0) {
            const PhiloxCounter words = random_block(env, static_cast<uint32_t>(env.t), 1);
            for (int j = 0; j < kMomentDraws; ++j) env.moment[j] = words.word[j];
        }
        return env;
    }

    void observe_one(const PlainLanes& lanes, int64_t i, Obs* obs) const {
        const Env env = env_of(lanes, i);
        task_.observe(env, load(lanes, i), obs);
        if constexpr (kHasRest) task_.observe_rest(env, obs);
    }

    // Checks by what all actions have in common: nothing here depends on one of them.
    template <class Action>
    bool narrow_from(const Action* __restrict actions, uint8_t* __restrict bytes,
                     int64_t n) const {
        Action seen = 0;
        uint8_t largest = 0;
        for (int64_t i = 0; i < n; ++i) {
            const auto byte = static_cast<uint8_t>(actions[i]);
            seen |= actions[i];
            largest = byte > largest ? byte : largest;
            bytes[i] = byte;
        }
        return static_cast<uint64_t>(seen) <= 0xFF && largest < task_.num_actions();
    }

    // At most kBlock envs. Those whose episode was over before this step (mode NextStep) ignore
    // their action and start the next one; the runs of others between them are stepped together.
    int64_t step_block(const PlainStepping& stepping, const uint8_t* actions,
                       const StepOutputs& out, int64_t at, int64_t begin, int64_t end) const {
        const PlainLanes& lanes = stepping.lanes;
        int64_t finished = 0;
        for (int64_t i = begin; i < end;) {
            const int64_t stop = stepping.mode == Autoreset::kNextStep
                                     ? first_set(lanes.over, i, end)
                                     : end;
            if (stop > i) {
                const bool ends = move_run(lanes, actions + (i - begin), out, at + (i - begin), i,
                                           stop - i);
                if (ends) finished += finish_run(stepping, out, at + (i - begin), i, stop);
            }
            for (i = stop; i < end && lanes.over[i]; ++i) {
                const int64_t to = at + (i - begin);
                this->begin(lanes, i, nullptr, false);
                out.reward[to] = 0.0f;
                out.terminated[to] = 0;
                observe_one(lanes, i, row(out.obs, to));
            }
        }
        return finished;
    }

    // Random words of a block of envs, those of an env at the same place of each row.
    struct Moments {
        uint32_t word[kMomentDraws > 0 ? kMomentDraws : 1][kMomentDraws > 0 ? kBlock : 1];
    };

    // The random words of the moments that n envs are about to reach.
    static void draw_moments(const uint64_t* __restrict key, const uint32_t* __restrict index,
                             const uint32_t* __restrict episode, const int32_t* __restrict t,
                             int64_t n, Moments& moments) {
        FASTMAZE_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) {
            const uint32_t now = static_cast<uint32_t>(t[i]) + 1;
            const PhiloxCounter words =
                philox4x32({{index[i], episode[i], now, 1}}, static_cast<uint32_t>(key[i]),
                           static_cast<uint32_t>(key[i] >> 32));
            for (int j = 0; j < kMomentDraws; ++j) moments.word[j][i] = words.word[j];
        }
    }

    // Moves and observes n envs from `first` on; returns whether an episode ended. All that it calls
    // is inlined, or no loop could become vector code.
    [[gnu::flatten]] bool move_run(const PlainLanes& lanes, const uint8_t* __restrict actions,
                  const StepOutputs& out, int64_t at, int64_t first, int64_t n) const {
        // Local copies tell the compiler that no byte written below changes them; a task of many
        // tables is not copied.
        using Local = std::conditional_t<(sizeof(Task) <= 256), const Task, const Task&>;
        Local task = task_;
        const uint64_t* __restrict key = lanes.key + first;
        const uint32_t* __restrict index = lanes.index + first;
        const uint32_t* __restrict episode = lanes.episode + first;
        const int32_t* __restrict start = lanes.start + first;
        int32_t* __restrict t = lanes.t + first;
        float* __restrict reward = out.reward + at;
        uint8_t* __restrict terminated = out.terminated + at;
        const int32_t length = task.length();
        const int64_t obs_size = task.obs_size();
        Obs* __restrict obs = row(out.obs, at);

        Moments moments;
        if constexpr (kMomentDraws > 0) draw_moments(key, index, episode, t, n, moments);

        uint32_t* words[kMembers > 0 ? kMembers : 1];
        for (int k = 0; k < kMembers; ++k) words[k] = member(lanes, k) + first;
        State* const states = reinterpret_cast<State*>(lanes.task) + (kMembers > 0 ? 0 : first);
        int32_t ends = 0;
        FASTMAZE_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) {
            Env env{key[i], index[i], episode[i], start[i], t[i] + 1, {}};
            for (int j = 0; j < kMomentDraws; ++j) env.moment[j] = moments.word[j][i];
            const auto advance = [&](State& state) {
                const Move move = task.step(env, actions[i], state);
                task.observe(env, state, obs + i * obs_size);
                return move;
            };
            Move move;
            if constexpr (kMembers > 0) {
                State state;
                each_member<kMembers>(state, [&](int k, auto& value) {
                    value = static_cast<std::remove_reference_t<decltype(value)>>(words[k][i]);
                });
                move = advance(state);
                each_member<kMembers>(state, [&](int k, auto& value) {
                    words[k][i] = static_cast<uint32_t>(value);
                });
            } else {
                move = advance(states[i]);
            }
            const int32_t done = (Task::kEndsEarly & move.ended) | (env.t >= length);
            t[i] = env.t;
            reward[i] = move.reward;
            terminated[i] = static_cast<uint8_t>(done);
            ends |= done;
        }
        if constexpr (kHasRest) observe_rests(t, n, moments, obs);
        return ends != 0;
    }

    // What n envs show of the moment alone.
    void observe_rests(const int32_t* __restrict t, int64_t n, const Moments& moments,
                       Obs* __restrict obs) const {
        const int64_t obs_size = task_.obs_size();
        for (int64_t i = 0; i < n; ++i) {
            Env env{0, 0, 0, 0, t[i], {}};
            for (int j = 0; j < kMomentDraws; ++j) env.moment[j] = moments.word[j][i];
            task_.observe_rest(env, obs + i * obs_size);
        }
    }

    // Keeps the statistics of the episodes that have just ended; SameStep: starts the next ones.
    int64_t finish_run(const PlainStepping& stepping, const StepOutputs& out, int64_t at,
                       int64_t begin, int64_t end) const {
        const PlainLanes& lanes = stepping.lanes;
        const PlainRecords& records = stepping.records;
        const int64_t stop = at + (end - begin);
        int64_t finished = 0;
        for (int64_t to = first_set(out.terminated, at, stop); to < stop;
             to = first_set(out.terminated, to + 1, stop)) {
            const int64_t i = begin + (to - at);
            const Env env = env_of(lanes, i);
            const Episode episode = task_.result(env, load(lanes, i));
            records.episode_return[i] = episode.episode_return;
            records.length[i] = env.t - env.start;
            records.success[i] = episode.success;
            records.flag[i] = episode.flag;
            lanes.over[i] = 1;
            ++finished;
            if (stepping.mode != Autoreset::kSameStep) continue;
            Obs* obs = row(out.obs, to);
            if (out.final_obs != nullptr) {
                std::memcpy(row(out.final_obs, to), obs,
                            sizeof(Obs) * static_cast<size_t>(task_.obs_size()));
            }
            this->begin(lanes, i, nullptr, false);
            observe_one(lanes, i, obs);
        }
        return finished;
    }

    // First flag of [begin, end) that is set, or end; eight at a time, for most are not.
    static int64_t first_set(const uint8_t* flags, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint64_t eight;
            while (i + 8 <= end && (std::memcpy(&eight, flags + i, 8), eight == 0)) i += 8;
            if (i < end && flags[i]) return i;
        }
        return end;
    }

    Task task_;
};

// Makes the first of the classes that suits the options; the last one suits all.
template <class Task, class... Others>
PlainCore* make_core(const Options& options) {
    if constexpr (sizeof...(Others) > 0) {
        if (!Task::suits(options)) return make_core<Others...>(options);
    }
    return new PlainLoops<Task>(options);
}

}  // namespace fastmaze::FASTMAZE_NAMESPACE
