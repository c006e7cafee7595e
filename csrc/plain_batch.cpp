#include "plain_batch.hpp"

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace fastmaze {

PlainCore::~PlainCore() = default;

// Calls `visit` on each array but the task's own, in the order of the saved state.
template <class Self, class Visit>
void PlainBatch::visit_common(Self& arrays, const Visit& visit) {
    visit(arrays.key);
    visit(arrays.index);
    visit(arrays.episode);
    visit(arrays.start);
    visit(arrays.t);
    visit(arrays.over);
}

PlainBatch::PlainBatch(std::unique_ptr<const PlainCore> core, const PlainConfig& config)
    : config_(config),
      core_(std::move(core)),
      shape_(core_->shape()),
      arrays_(make_arrays()),
      pool_(config.num_threads),
      never_reset_(config.num_envs) {
    const auto n = static_cast<size_t>(config.num_envs);
    arrays_.episode.assign(n, kNeverReset);
    arrays_.over.assign(n, 1);
    statistics_.resize(n);
    narrowed_.resize(n);
    point_lanes();
}

PlainBatch::Arrays PlainBatch::make_arrays() const {
    Arrays arrays;
    const auto n = static_cast<size_t>(config_.num_envs);
    visit_common(arrays, [n](auto& array) { array.resize(n); });
    arrays.task.resize(n * static_cast<size_t>(shape_.state_bytes));
    return arrays;
}

PlainLanes PlainBatch::lanes_of(Arrays& arrays) const {
    return {arrays.key.data(), arrays.index.data(), arrays.episode.data(), arrays.start.data(),
            arrays.t.data(), arrays.over.data(), arrays.task.data(), config_.num_envs};
}

void PlainBatch::point_lanes() {
    stepping_ = {config_.mode, lanes_of(arrays_),
                 {statistics_.episode_return.data(), statistics_.length.data(),
                  statistics_.success.data(), statistics_.cue_seen.data()}};
}

void PlainBatch::release() {
    pool_.stop();
    arrays_ = Arrays{};
    narrowed_ = std::vector<uint8_t>();
}

void PlainBatch::reset(void* obs, const Reset& request) {
    const auto* contexts = static_cast<const uint8_t*>(request.context);
    const auto context_of = [&](int64_t i) -> const uint8_t* {
        const uint8_t* context =
            contexts == nullptr ? nullptr : contexts + i * shape_.context_bytes;
        return context != nullptr && context[0] != 0 ? context : nullptr;
    };
    for (int64_t i = 0; contexts != nullptr && i < config_.num_envs; ++i) {
        const uint8_t* context = context_of(i);
        if (selected(request.mask, i) && context != nullptr && !core_->is_context(context)) {
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
            if (!selected(request.mask, i)) continue;
            if (request.keys != nullptr && selected(request.seed_mask, i)) {
                arrays_.key[i] = request.keys[i];
                arrays_.index[i] = request.indices[i];
                arrays_.episode[i] = kNeverReset;  // the next episode is number 0
            }
            core_->begin(stepping_.lanes, i, context_of(i), request.stagger);
        }
        core_->observe(stepping_.lanes, obs, begin, end);
    });
    count_waiting();
}

int64_t PlainBatch::step(Actions actions, const StepOutputs& out) {
    check_ready(1);
    pool_.prepare(parts());
    // All actions are checked before any env moves: a bad one changes nothing.
    std::atomic<bool> valid{true};
    pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
        if (!core_->narrow(actions, begin, narrowed_.data() + begin, end - begin)) {
            valid.store(false, std::memory_order_relaxed);
        }
    });
    if (!valid.load(std::memory_order_relaxed)) refuse_actions();

    std::atomic<int64_t> finished{0};
    pool_.run(parts(), config_.num_envs, kGrain, [&](int64_t begin, int64_t end) {
        const int64_t count =
            core_->step(stepping_, narrowed_.data() + begin, out, begin, begin, end);
        finished.fetch_add(count, std::memory_order_relaxed);
    });
    const int64_t count = finished.load(std::memory_order_relaxed);
    if (config_.mode == Autoreset::kDisabled) over_ = count;
    return count;
}

void PlainBatch::unroll(Actions actions, int64_t steps, const StepOutputs& out) {
    check_ready(steps);
    const int64_t num_envs = config_.num_envs;
    // A thread is worth its cost from fewer envs on when it takes many steps with each.
    const int check_parts = pool_.num_parts(steps * num_envs, config_.least_per_thread);
    const int64_t step_parts = num_envs / kGrain < check_parts ? num_envs / kGrain : check_parts;
    pool_.prepare(check_parts);
    std::atomic<bool> valid{true};
    pool_.run(check_parts, steps * num_envs, kGrain, [&](int64_t begin, int64_t end) {
        uint8_t bytes[kBlock] = {};
        for (int64_t i = begin; i < end; i += kBlock) {
            if (!core_->narrow(actions, i, bytes, block_size(i, end))) {
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
            const int64_t n = block_size(block, end);
            for (int64_t s = 0; s < steps; ++s) {
                const int64_t at = s * num_envs + block;
                core_->narrow(actions, at, bytes, n);
                core_->step(stepping_, bytes, out, at, block, block + n);
            }
        }
    });
    if (config_.mode == Autoreset::kDisabled) count_waiting();
}

void PlainBatch::observe(void* obs) const {
    if (never_reset_ > 0) throw std::logic_error("observe: call reset first");
    core_->observe(stepping_.lanes, obs, 0, config_.num_envs);
}

int64_t PlainBatch::state_bytes() const {
    int64_t bytes = shape_.state_bytes;
    visit_common(arrays_, [&](const auto& array) { bytes += int64_t{sizeof(array[0])}; });
    return bytes * config_.num_envs;
}

void PlainBatch::get_state(uint8_t* bytes) const {
    visit_common(arrays_, [&](const auto& array) {
        const size_t size = array.size() * sizeof(array[0]);
        std::memcpy(bytes, array.data(), size);
        bytes += size;
    });
    core_->pack(stepping_.lanes, bytes);
}

void PlainBatch::set_state(const uint8_t* bytes) {
    Arrays loaded = make_arrays();
    visit_common(loaded, [&](auto& array) {
        const size_t size = array.size() * sizeof(array[0]);
        std::memcpy(array.data(), bytes, size);
        bytes += size;
    });
    const PlainLanes lanes = lanes_of(loaded);
    core_->unpack(bytes, lanes);
    for (int64_t i = 0; i < config_.num_envs; ++i) {
        if (!possible(lanes, i)) {
            throw std::invalid_argument("state: env " + std::to_string(i) +
                                        " holds values that no episode of this task can reach");
        }
    }
    arrays_ = std::move(loaded);
    point_lanes();
    count_waiting();
}

// The same conditions as SpecificationEnv.load and ReferenceBackend.set_state in Python.
bool PlainBatch::possible(const PlainLanes& loaded, int64_t i) const {
    const int32_t start = loaded.start[i], t = loaded.t[i], length = shape_.length;
    const bool over = loaded.over[i] == 1;
    if (loaded.over[i] > 1 || start < 0 || t < start || t > length) return false;
    if (loaded.episode[i] == kNeverReset) return over;
    if (start >= length || (t >= length && !over)) return false;
    if (over && (t == start || config_.mode == Autoreset::kSameStep)) return false;
    if (over && !shape_.ends_early && t != length) return false;
    return core_->possible(loaded, i);
}

void PlainBatch::refuse_actions() const {
    throw std::invalid_argument("actions: expected every action to be from 0 to " +
                                std::to_string(shape_.num_actions - 1));
}

void PlainBatch::check_ready(int64_t steps) const {
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
    if (shape_.ends_early) {
        throw std::logic_error(
            "unroll: with autoreset Disabled, expected one step, for episodes of this task "
            "may end at any step, got " + std::to_string(steps));
    }
    for (int64_t i = 0; i < config_.num_envs; ++i) {
        const int32_t left = shape_.length - arrays_.t[i];
        if (steps > left) {
            throw std::logic_error("unroll: with autoreset Disabled, expected at most " +
                                   std::to_string(left) + " steps, until the episode of env " +
                                   std::to_string(i) + " is over, got " + std::to_string(steps));
        }
    }
}

void PlainBatch::count_waiting() {
    never_reset_ = over_ = 0;
    for (int64_t i = 0; i < config_.num_envs; ++i) {
        const bool waiting = arrays_.episode[i] == kNeverReset;
        never_reset_ += waiting;
        over_ += !waiting && arrays_.over[i];
    }
}

}  // namespace fastmaze
