// What a plain task is made of. A plain task is a struct with a small transition over one env; the
// batch around it (plain_batch.hpp) does the rest. docs/adding-a-task.md shows a whole one.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "philox.hpp"

namespace fastmaze {

constexpr int32_t kLongestEpisode = (1 << 24) - 1;

// One env's clock and random stream. `t` counts the steps since the episode began; a staggered
// start begins at `start` instead of 0.
struct Env {
    uint64_t key;
    uint32_t index, episode;
    int32_t start, t;
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

// The random numbers of one episode: number k is word k % 4 of Philox block k / 4.
class Draws {
  public:
    explicit Draws(const Env& env) : env_(env) {}

    // Random number k, scaled to 0 ... n - 1.
    uint32_t below(uint32_t k, uint32_t n) {
        if (k / 4 != block_) {
            block_ = k / 4;
            words_ = philox4x32({{env_.index, env_.episode, block_, 0}},
                                static_cast<uint32_t>(env_.key),
                                static_cast<uint32_t>(env_.key >> 32));
        }
        return static_cast<uint32_t>(uint64_t{words_.word[k % 4]} * n >> 32);
    }

  private:
    const Env& env_;
    uint32_t block_ = 0xFFFFFFFFu;
    PhiloxCounter words_{};
};

// The numbers that a task is made from, by name; every one is checked when it is taken.
class Options {
  public:
    explicit Options(std::map<std::string, double> values) : values_(std::move(values)) {}

    double number(const char* name) const {
        const auto found = values_.find(name);
        if (found == values_.end()) {
            throw std::invalid_argument(std::string(name) + ": expected a number, got none");
        }
        return found->second;
    }

    int32_t integer(const char* name, int32_t low, int32_t high) const {
        const double value = number(name);
        if (!(value >= low && value <= high && value == static_cast<int32_t>(value))) {
            throw std::invalid_argument(std::string(name) + ": expected an integer from " +
                                        std::to_string(low) + " to " + std::to_string(high) +
                                        ", got " + std::to_string(value));
        }
        return static_cast<int32_t>(value);
    }

  private:
    std::map<std::string, double> values_;
};

}  // namespace fastmaze
