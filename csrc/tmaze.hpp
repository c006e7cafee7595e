// The T-Maze's transition and observation for one env, written once as inline functions without
// dependencies: the batched loop (tmaze_kernels.cpp) and anyone who embeds the maze share them.
// The rules in readable form, with a drawing, are in fastmaze/reference/tmaze.py.
//
// Nothing here branches: every choice is a select, so that a loop over envs becomes vector code.
// The functions are static, so that each build of the loop for an instruction set has its own copy
// and the linker cannot hand the AVX-512 one to a machine without it.
#pragma once

#include <cstdint>

namespace fastmaze {

// What an observation shows.
enum class View : uint8_t {
    kAmbiguous,  // [at the junction?, cue or y]
    kPosition,   // [x, y, cue]
    kGoal,       // [x, y, goal once the oracle was visited]
};
constexpr int kNumViews = 3;

// What a step that does not end the episode pays.
enum class Rule : uint8_t {
    kPace,            // penalty for being behind the optimal pace
    kPaceAndDistract,  // the same, plus a reward for being at the oracle
    kAction,          // penalty for every action but 0 after the first o steps
};
constexpr int kNumRules = 3;

struct TMazeOptions {
    int32_t junction;        // x of the junction, o + L
    int32_t oracle_length;   // o
    int32_t episode_length;  // T
    float goal_reward;
    float step_reward[4];  // by (penalised) + 2 * (distracted)
    double penalty;        // the same amounts unrounded, for the episode's return
    double distract_reward;
    double goal_reward_exact;
};

// One env's state that changes at each step. `flags` holds y + 1 in bits 0-1, goal is +1 in bit 2,
// and in bits 3-4 the cue: 0 never seen, 1 seen before, 2 being seen now.
struct TMazeLane {
    int32_t x, t, flags, penalties, distractions;
};

constexpr int32_t kGoalBit = 4;
constexpr int32_t kCueShift = 3;

static inline int32_t y_of(int32_t flags) { return (flags & 3) - 1; }
static inline int32_t goal_of(int32_t flags) { return ((flags & kGoalBit) >> 1) - 1; }
static inline int32_t cue_of(int32_t flags) { return flags >> kCueShift; }
static inline int32_t min_of(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max_of(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t clamp_to(int32_t v, int32_t low, int32_t high) {
    return min_of(max_of(v, low), high);
}

// Flags of an env that stands at `x` at the start of an episode.
static inline int32_t fresh_flags(int32_t x, int32_t goal) {
    return 1 | (goal > 0 ? kGoalBit : 0) | ((x == 0 ? 2 : 0) << kCueShift);
}

// One step: moves the lane and returns the reward. Actions outside 0..3 stand still.
template <Rule kRule>
static inline float advance(const TMazeOptions& options, int32_t action, TMazeLane& lane) {
    const int32_t y = y_of(lane.flags);
    const int32_t dx = (action == 0) - (action == 2);
    const int32_t dy = (action == 1) - (action == 3);

    // The corridor is the row y == 0, the arms the column x == junction; both clamp at their ends.
    const int32_t moved_x = y == 0 ? clamp_to(lane.x + dx, 0, options.junction) : lane.x;
    const int32_t moved_y = lane.x == options.junction ? clamp_to(y + dy, -1, 1) : y;
    lane.x = moved_x;
    lane.t += 1;

    // The last step pays for the goal only, every other step by its rule only.
    const int32_t done = lane.t >= options.episode_length;
    const int32_t penalised = kRule == Rule::kAction
                                  ? (action != 0) & (lane.t > options.oracle_length)
                                  : lane.x < lane.t - options.oracle_length;
    const float at_goal = moved_y == goal_of(lane.flags) ? options.goal_reward : 0.0f;
    float running = penalised ? options.step_reward[1] : options.step_reward[0];
    lane.penalties += penalised & ~done & 1;
    if constexpr (kRule == Rule::kPaceAndDistract) {
        const int32_t distracted = lane.x == 0;
        const float with = penalised ? options.step_reward[3] : options.step_reward[2];
        running = distracted ? with : running;
        lane.distractions += distracted & ~done & 1;
    }

    // The first visit of the oracle shows the cue for one step.
    const int32_t cue = cue_of(lane.flags);
    const int32_t visiting = cue == 0 ? 2 : 1;
    const int32_t seen = lane.x == 0 ? visiting : min_of(cue, 1);
    lane.flags = (moved_y + 1) | (lane.flags & kGoalBit) | (seen << kCueShift);
    return done ? at_goal : running;
}

// The observation, a pure function of the lane: writes 2 or 3 entries, one more with the time.
template <View kView, bool kTime>
static inline void observe(const TMazeOptions& options, const TMazeLane& lane, float* obs) {
    const int32_t y = y_of(lane.flags), goal = goal_of(lane.flags), cue = cue_of(lane.flags);
    if constexpr (kView == View::kAmbiguous) {
        const int32_t at_junction = lane.x == options.junction;
        const int32_t shown = cue == 2 ? goal : 0;
        obs[0] = static_cast<float>(at_junction);
        obs[1] = static_cast<float>(at_junction ? y : shown);
        if constexpr (kTime) obs[2] = static_cast<float>(lane.t);
    } else {
        const int32_t threshold = kView == View::kGoal ? 1 : 2;
        obs[0] = static_cast<float>(lane.x);
        obs[1] = static_cast<float>(y);
        obs[2] = static_cast<float>(cue >= threshold ? goal : 0);
        if constexpr (kTime) obs[3] = static_cast<float>(lane.t);
    }
}

template <View kView, bool kTime>
constexpr int obs_dim = (kView == View::kAmbiguous ? 2 : 3) + (kTime ? 1 : 0);

}  // namespace fastmaze
