// What a plain task is made of. A plain task is a small transition over one env; the loops and the
// batch around it do the rest. docs/adding-a-task.md shows a whole one.
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
// all const; the functions for one env are inline and do not throw. It may add
//   kMembers                                number of State's members, each of 32 bits: they are
//                                           kept as an array each, so that loops become vector code
//   kMomentDraws                            1 to 4 random numbers for every moment: see Env::below
//   observe_rest(env, obs)                  entries that depend on env.t and env.moment alone, in a
//                                           loop of their own, so that they do not stop the other
//   static suits(const Options&)            where several classes share a task: whether this one
//                                           is made for these options
#pragma once

#include <cstdint>

#include "isa.hpp"
#include "options.hpp"
#include "philox.hpp"

namespace fastmaze {

constexpr int32_t kLongestEpisode = (1 << 24) - 1;

namespace FASTMAZE_NAMESPACE {

// One env's clock and random stream. `t` counts the steps since the episode began; a staggered
// start begins at `start` instead of 0.
struct Env {
    uint64_t key;
    uint32_t index, episode;
    int32_t start, t;
    uint32_t moment[4];  // random words of this episode and t, as many as kMomentDraws
    bool over = false;   // for `possible`: whether the episode has ended

    // Random number j of this moment, scaled to 0 ... n - 1.
    uint32_t below(int j, uint32_t n) const {
        return static_cast<uint32_t>(uint64_t{moment[j]} * n >> 32);
    }
};

// What a step pays, and whether the episode ends before its time.
struct Move {
    float reward;
    bool ended;
};

// What a finished episode amounts to. The return is counted, not summed step by step: exact, and
// the same in every backend.
struct Episode {
    double episode_return;
    bool success;
    bool flag;
};

// Philox block `block` of an episode; kind 0 is for draws by number, 1 for draws by moment.
static inline PhiloxCounter random_block(const Env& env, uint32_t block, uint32_t kind) {
    return philox4x32({{env.index, env.episode, block, kind}}, static_cast<uint32_t>(env.key),
                      static_cast<uint32_t>(env.key >> 32));
}

// The random numbers of one episode: number k is word k % 4 of Philox block k / 4.
class Draws {
  public:
    explicit Draws(const Env& env) : env_(env) {}

    // Random number k, scaled to 0 ... n - 1.
    uint32_t below(uint32_t k, uint32_t n) {
        if (k / 4 != block_) {
            block_ = k / 4;
            words_ = random_block(env_, block_, 0);
        }
        return static_cast<uint32_t>(uint64_t{words_.word[k % 4]} * n >> 32);
    }

  private:
    const Env& env_;
    uint32_t block_ = 0xFFFFFFFFu;
    PhiloxCounter words_{};
};

}  // namespace FASTMAZE_NAMESPACE
}  // namespace fastmaze
