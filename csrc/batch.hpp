// What every batch of envs offers to the bindings, whatever its task.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastmaze {

// When a finished env is reset, as in Gymnasium's AutoresetMode.
enum class Autoreset : uint8_t { kNextStep, kSameStep, kDisabled };

enum class ActionType : uint8_t { kInt64, kInt32, kByte };

// Actions as they come: `data` points to num_envs (or steps * num_envs) integers.
struct Actions {
    const void* data;
    ActionType type;
};

// Where a step writes; `final_obs` may be null and is used in mode SameStep only. Observations are
// rows of Batch::obs_bytes() bytes.
struct StepOutputs {
    void* obs;
    float* reward;
    uint8_t* terminated;
    uint8_t* truncated;
    void* final_obs;
};

// The last finished episode of each env.
struct EpisodeStatistics {
    std::vector<double> episode_return;
    std::vector<int64_t> length;
    std::vector<uint8_t> success;
    std::vector<uint8_t> cue_seen;  // or what else the task tells of its episodes

    void resize(std::size_t num_envs) {
        episode_return.resize(num_envs);
        length.resize(num_envs);
        success.resize(num_envs);
        cue_seen.resize(num_envs);
    }
};

// Which envs start an episode, and how. Every pointer may be null.
struct Reset {
    const uint8_t* mask;       // envs to reset; null for all
    const void* context;       // what not to draw: see each batch; null to draw all
    bool stagger;              // start the clocks at staggered_start
    const uint64_t* keys;      // new random streams, with `indices`; null to go on with the old
    const uint32_t* indices;
    const uint8_t* seed_mask;  // of the envs to reset, those that get one; null for all
};

constexpr uint32_t kNeverReset = 0xFFFFFFFFu;

// Every call checks first and changes nothing when it throws: std::invalid_argument for a bad
// value, std::logic_error for a call at the wrong time.
class Batch {
  public:
    virtual ~Batch() = default;

    virtual int64_t num_envs() const = 0;
    virtual int64_t obs_bytes() const = 0;
    virtual const EpisodeStatistics& statistics() const = 0;

    // Starts episodes; writes the observations of all envs.
    virtual void reset(void* obs, const Reset& request) = 0;

    // Steps every env once; returns how many finished an episode.
    virtual int64_t step(Actions actions, const StepOutputs& out) = 0;

    // Steps every env `steps` times; arrays have a leading axis of that size.
    virtual void unroll(Actions actions, int64_t steps, const StepOutputs& out) = 0;

    virtual void observe(void* obs) const = 0;

    // The state as bytes: arrays one after another, without padding.
    virtual int64_t state_bytes() const = 0;
    virtual void get_state(uint8_t* bytes) const = 0;
    virtual void set_state(const uint8_t* bytes) = 0;

    // Ends the threads and frees everything but the statistics; no call may follow.
    virtual void release() = 0;
};

// Envs per block: the block's arrays stay in the first-level cache while episodes end and start.
constexpr int64_t kBlock = 1024;
// Bounds of a thread's part are multiples of a cache line of bytes.
constexpr int64_t kGrain = 64;

inline int64_t block_size(int64_t begin, int64_t end) {
    return end - begin < kBlock ? end - begin : kBlock;
}

inline bool selected(const uint8_t* mask, int64_t env) {
    return mask == nullptr || mask[env] != 0;
}

}  // namespace fastmaze
