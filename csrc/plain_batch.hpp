// A batch of any plain task: owns the state, checks calls, splits the work over threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "batch.hpp"
#include "plain_core.hpp"
#include "thread_pool.hpp"

namespace fastmaze {

struct PlainConfig {
    int64_t num_envs;
    Autoreset mode;
    int num_threads;
    int64_t least_per_thread;  // fewest envs that a thread of its own is worth
};

// `Reset::context` is uint8_t [num_envs, context_bytes]; rows that begin with 0 are drawn.
class PlainBatch final : public Batch {
  public:
    PlainBatch(std::unique_ptr<const PlainCore> core, const PlainConfig& config);

    int64_t num_envs() const override { return config_.num_envs; }
    int64_t obs_bytes() const override { return shape_.obs_bytes(); }
    const PlainShape& shape() const { return shape_; }
    const EpisodeStatistics& statistics() const override { return statistics_; }

    void reset(void* obs, const Reset& request) override;
    int64_t step(Actions actions, const StepOutputs& out) override;
    void unroll(Actions actions, int64_t steps, const StepOutputs& out) override;
    void observe(void* obs) const override;
    int64_t state_bytes() const override;
    void get_state(uint8_t* bytes) const override;
    void set_state(const uint8_t* bytes) override;
    void release() override;

  private:
    // The whole state; fastmaze/envs/backends/state.py knows the order of a saved one, too.
    struct Arrays {
        std::vector<uint64_t> key;
        std::vector<uint32_t> index, episode;
        std::vector<int32_t> start, t;
        std::vector<uint8_t> over;
        std::vector<uint8_t> task;  // in the order of the task's loops; saved as rows
    };

    template <class Self, class Visit>
    static void visit_common(Self& arrays, const Visit& visit);

    Arrays make_arrays() const;
    PlainLanes lanes_of(Arrays& arrays) const;
    void point_lanes();
    int parts() const { return pool_.num_parts(config_.num_envs, config_.least_per_thread); }
    void check_ready(int64_t steps) const;
    void count_waiting();
    bool possible(const PlainLanes& loaded, int64_t i) const;
    [[noreturn]] void refuse_actions() const;

    PlainConfig config_;
    std::unique_ptr<const PlainCore> core_;
    PlainShape shape_;
    Arrays arrays_;
    PlainStepping stepping_;
    EpisodeStatistics statistics_;
    std::vector<uint8_t> narrowed_;
    ThreadPool pool_;
    int64_t never_reset_;  // envs without an episode
    int64_t over_ = 0;     // envs whose episode is over; used in mode Disabled
};

}  // namespace fastmaze
