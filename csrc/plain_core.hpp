// A plain task with its options, as the batch sees it: loops over ranges of envs, built for one
// instruction set (plain_loops.hpp). Nothing here throws but the making.
#pragma once

#include <cstdint>

#include "batch.hpp"
#include "isa.hpp"
#include "options.hpp"

namespace fastmaze {

// What a task is, with these options.
struct PlainShape {
    bool bytes;  // observations are uint8, else float32
    bool ends_early;
    int num_actions, obs_size;
    int32_t length;
    int64_t context_bytes, state_bytes;  // of one env

    int64_t obs_bytes() const { return int64_t{obs_size} * (bytes ? 1 : 4); }
};

// The state of all envs, an array a member. A task's own, `task`, is num_envs * state_bytes bytes,
// in an order that only its loops know.
struct PlainLanes {
    uint64_t* key;      // Philox key
    uint32_t* index;    // Philox counter word 0
    uint32_t* episode;  // Philox counter word 1; kNeverReset before a reset
    int32_t* start;
    int32_t* t;
    uint8_t* over;      // 1 from the end of an episode to the start of the next
    uint8_t* task;
    int64_t num_envs;
};

// The last finished episode of each env: EpisodeStatistics by its arrays.
struct PlainRecords {
    double* episode_return;
    int64_t* length;
    uint8_t* success;
    uint8_t* flag;
};

// What does not change from step to step.
struct PlainStepping {
    Autoreset mode;
    PlainLanes lanes;
    PlainRecords records;
};

class PlainCore {
  public:
    virtual ~PlainCore();

    virtual PlainShape shape() const = 0;
    virtual bool is_context(const uint8_t* context) const = 0;

    // Whether an episode can come to what env i holds; the clock is already known to be right.
    virtual bool possible(const PlainLanes& lanes, int64_t i) const = 0;

    // Checks n actions from `offset` on and copies them to bytes; returns whether all are right.
    virtual bool narrow(Actions actions, int64_t offset, uint8_t* bytes, int64_t n) const = 0;

    // Starts an episode of env i; `context` is null where everything is drawn.
    virtual void begin(const PlainLanes& lanes, int64_t i, const uint8_t* context,
                       bool stagger) const = 0;

    // Writes the present observations of envs [begin, end) to their rows of obs.
    virtual void observe(const PlainLanes& lanes, void* obs, int64_t begin, int64_t end) const = 0;

    // Steps envs [begin, end), whose outputs start at row `at`; returns how many finished.
    virtual int64_t step(const PlainStepping& stepping, const uint8_t* actions,
                         const StepOutputs& out, int64_t at, int64_t begin, int64_t end) const = 0;

    // The task's own state as one row after the other, as it is saved.
    virtual void pack(const PlainLanes& lanes, uint8_t* rows) const = 0;
    virtual void unpack(const uint8_t* rows, const PlainLanes& lanes) const = 0;
};

struct PlainTask {
    const char* name;
    PlainCore* (*make)(const Options& options);  // the caller owns it
};

// Every plain task, built for one instruction set.
struct PlainTasks {
    const char* isa;
    const PlainTask* begin_;
    const PlainTask* end_;

    const PlainTask* begin() const { return begin_; }
    const PlainTask* end() const { return end_; }
};

}  // namespace fastmaze
