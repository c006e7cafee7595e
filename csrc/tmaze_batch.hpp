// A batch of T-Mazes: owns the state, ends and starts episodes, splits the work over threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "thread_pool.hpp"
#include "tmaze_kernels.hpp"

namespace fastmaze {

// When a finished env is reset, as in Gymnasium's AutoresetMode.
enum class Autoreset : uint8_t { kNextStep, kSameStep, kDisabled };

enum class ActionType : uint8_t { kInt64, kInt32, kByte };

// Actions as they come: `data` points to num_envs (or steps * num_envs) integers.
struct Actions {
    const void* data;
    ActionType type;
};

// Where a step writes; `final_obs` may be null and is used in mode SameStep only.
struct StepOutputs {
    float* obs;
    float* reward;
    uint8_t* terminated;
    uint8_t* truncated;
    float* final_obs;
};

// The last finished episode of each env.
struct EpisodeStatistics {
    std::vector<double> episode_return;
    std::vector<int64_t> length;
    std::vector<uint8_t> success;
    std::vector<uint8_t> cue_seen;
};

// Which envs start an episode, and how. Every pointer may be null.
struct Reset {
    const uint8_t* mask;       // envs to reset; null for all
    const int8_t* goals;       // -1 or +1, or 0 to draw the goal; null to draw all
    bool stagger;              // start the clocks at staggered_start
    const uint64_t* keys;      // new random streams, with `indices`; null to go on with the old
    const uint32_t* indices;
    const uint8_t* seed_mask;  // of the envs to reset, those that get one; null for all
};

struct BatchConfig {
    TMazeOptions options;
    View view;
    bool add_timestep;
    Rule rule;
    int64_t num_envs;
    Autoreset mode;
    int num_threads;
    int64_t least_per_thread;  // fewest envs that a thread of its own is worth
    const Kernels* kernels;
};

// Every call checks first and changes nothing when it throws: std::invalid_argument for a bad
// value, std::logic_error for a call at the wrong time.
class TMazeBatch {
  public:
    explicit TMazeBatch(const BatchConfig& config);

    int64_t num_envs() const { return config_.num_envs; }
    int obs_dim() const { return obs_dim_; }
    const BatchConfig& config() const { return config_; }
    const EpisodeStatistics& statistics() const { return statistics_; }

    // Starts episodes; writes the observations of all envs.
    void reset(float* obs, const Reset& request);

    // Steps every env once; returns how many finished an episode.
    int64_t step(Actions actions, const StepOutputs& out);

    // Steps every env `steps` times; arrays have a leading axis of that size.
    void unroll(Actions actions, int64_t steps, const StepOutputs& out);

    void observe(float* obs) const;

    // The state as bytes: the arrays of `Arrays` one after another, without padding.
    int64_t state_bytes() const;
    void get_state(uint8_t* bytes) const;
    void set_state(const uint8_t* bytes);

    // (x, y, t, goal) of each env, int32 [num_envs, 4].
    void positions(int32_t* out) const;

    // Ends the threads and frees everything but the statistics; no call may follow.
    void release();

  private:
    // The whole state, structure of arrays. numba_.py and state.py know this order, too.
    struct Arrays {
        std::vector<uint64_t> key;            // Philox key
        std::vector<uint32_t> index;          // Philox counter word 0
        std::vector<uint32_t> episode;        // Philox counter word 1; kNeverReset before a reset
        std::vector<int32_t> start;           // clock at the start of the episode
        std::vector<int32_t> x, t, flags, penalties, distractions;  // TMazeLane
    };

    template <class Self, class Visit>
    static void visit(Self& arrays, const Visit& visit);

    void point_lanes();
    int parts() const { return pool_.num_parts(config_.num_envs, config_.least_per_thread); }
    void check_ready(int64_t steps) const;
    void count_waiting();
    int64_t step_block(const uint8_t* actions, const StepOutputs& out, int64_t at, int64_t n,
                       int64_t env);
    int64_t finish_block(const StepOutputs& block, int64_t n, int64_t env);
    void restart_episodes(const StepOutputs& block, const int64_t* envs, int64_t n, int64_t env);
    void record(int64_t env);
    void begin_episodes(const int64_t* envs, int64_t n, const int8_t* goals, bool stagger);

    BatchConfig config_;
    int obs_dim_;
    Kernels::Step step_;
    Kernels::Observe observe_;
    Arrays arrays_;
    TMazeLanes lanes_;
    EpisodeStatistics statistics_;
    std::vector<uint8_t> narrowed_;
    ThreadPool pool_;
    int64_t never_reset_;  // envs without an episode
    int64_t over_;         // envs whose episode is over, in mode Disabled
};

}  // namespace fastmaze
