// A batch of T-Mazes: owns the state, ends and starts episodes, splits the work over threads.
#pragma once

#include <cstdint>
#include <vector>

#include "batch.hpp"
#include "thread_pool.hpp"
#include "tmaze_kernels.hpp"

namespace fastmaze {

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

// `Reset::context` is int8_t [num_envs]: the goal, -1 or +1, or 0 to draw it.
class TMazeBatch final : public Batch {
  public:
    explicit TMazeBatch(const BatchConfig& config);

    int64_t num_envs() const override { return config_.num_envs; }
    int64_t obs_bytes() const override { return obs_dim_ * int64_t{sizeof(float)}; }
    int obs_dim() const { return obs_dim_; }
    const BatchConfig& config() const { return config_; }
    const EpisodeStatistics& statistics() const override { return statistics_; }

    void reset(void* obs, const Reset& request) override;
    int64_t step(Actions actions, const StepOutputs& out) override;
    void unroll(Actions actions, int64_t steps, const StepOutputs& out) override;
    void observe(void* obs) const override;
    int64_t state_bytes() const override;
    void get_state(uint8_t* bytes) const override;
    void set_state(const uint8_t* bytes) override;

    // (x, y, t, goal) of each env, int32 [num_envs, 4].
    void positions(int32_t* out) const;

    void release() override;

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

    // Where a block's step writes.
    struct Rows {
        float* obs;
        float* reward;
        uint8_t* terminated;
        uint8_t* truncated;
        float* final_obs;
    };

    void point_lanes();
    int parts() const { return pool_.num_parts(config_.num_envs, config_.least_per_thread); }
    void check_ready(int64_t steps) const;
    void count_waiting();
    int64_t step_block(const uint8_t* actions, const StepOutputs& out, int64_t at, int64_t n,
                       int64_t env);
    int64_t finish_block(const Rows& block, int64_t n, int64_t env);
    void restart_episodes(const Rows& block, const int64_t* envs, int64_t n, int64_t env);
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
