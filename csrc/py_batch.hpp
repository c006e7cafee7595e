// A batch as Python sees it: one caller at a time, the GIL released while it works.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <utility>

#include "arguments.hpp"
#include "thread_pool.hpp"

namespace fastmaze {

// A call at the wrong time, each with a Python class of its own in fastmaze.envs.backends.errors.
struct Busy : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct Closed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The batch as Python sees it: one caller at a time, until it is closed.
class PyBatch {
  public:
    // What of a batch's arrays differs from task to task.
    struct Layout {
        Shape obs;          // of one observation
        bool bytes;         // observations are uint8, else float32
        bool goals;         // the context is int8 [num_envs], called goals
        ssize_t context;    // else uint8 [num_envs, context]; 0 where there is none
    };

    PyBatch(std::unique_ptr<Batch> batch, const Layout& layout)
        : num_envs_(batch->num_envs()), layout_(layout), batch_(std::move(batch)) {}
    virtual ~PyBatch() = default;

    // Holds the batch for one call; a second thread is refused, not let into the same arrays.
    class Use {
      public:
        explicit Use(PyBatch& owner) : owner_(owner) {
            if (owner.busy_.exchange(true, std::memory_order_acquire)) {
                throw Busy(owner.forks_ == ThreadPool::fork_count()
                               ? "the env is in use by another thread"
                               : "the process was forked in the middle of a call of this env: "
                                 "close it and make a new one");
            }
            owner.forks_ = ThreadPool::fork_count();
            if (!owner.batch_) {
                owner.busy_.store(false, std::memory_order_release);
                throw Closed("the env is closed");
            }
        }
        ~Use() { owner_.busy_.store(false, std::memory_order_release); }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;
        Batch* operator->() const { return owner_.batch_.get(); }
        Batch& operator*() const { return *owner_.batch_; }

      private:
        PyBatch& owner_;
    };

    void reset(const py::object& obs, const py::object& mask, const py::object& context,
               bool stagger, const py::object& keys, const py::object& indices,
               const py::object& seed_mask) {
        const Use batch(*this);
        const auto n = static_cast<size_t>(num_envs_);
        void* o = observations(obs, "obs", {num_envs_});
        Reset request{};
        request.mask = optional_flags(mask, "mask");
        request.seed_mask = optional_flags(seed_mask, "seed_mask");
        request.stagger = stagger;
        const char* context_name = layout_.goals ? "goals" : "context";
        if (!context.is_none()) {
            const Argument given(context, context_name);
            if (layout_.goals) {
                request.context =
                    given.data<int8_t>(given.is('i', 1), "int8", {num_envs_}, Access::kRead);
            } else if (layout_.context == 0) {
                throw py::value_error("context: expected None, for this task takes none");
            } else {
                request.context = given.data<uint8_t>(
                    given.is('u', 1), "uint8", {num_envs_, layout_.context}, Access::kRead);
            }
        }
        if (keys.is_none() != indices.is_none()) {
            throw py::value_error("keys and indices: expected both or none");
        }
        if (!keys.is_none()) {
            const Argument key(keys, "keys"), index(indices, "indices");
            request.keys =
                key.data<uint64_t>(key.is('u', 8), "uint64", {num_envs_}, Access::kRead);
            request.indices =
                index.data<uint32_t>(index.is('u', 4), "uint32", {num_envs_}, Access::kRead);
        }
        refuse_overlap({{"obs", o, n * static_cast<size_t>(batch->obs_bytes())},
                        {"mask", request.mask, n},
                        {context_name, request.context,
                         n * (layout_.goals ? 1 : static_cast<size_t>(layout_.context))},
                        {"keys", request.keys, n * sizeof(uint64_t)},
                        {"indices", request.indices, n * sizeof(uint32_t)},
                        {"seed_mask", request.seed_mask, n}});
        const py::gil_scoped_release release;
        batch->reset(o, request);
    }

    int64_t step(const py::object& actions, const py::object& obs, const py::object& reward,
                 const py::object& terminated, const py::object& truncated,
                 const py::object& final_obs) {
        const Use batch(*this);
        const ssize_t n = num_envs_;
        const Actions a = Argument(actions, "actions").actions({n});
        const StepOutputs out{
            observations(obs, "obs", {n}), Argument(reward, "reward").floats({n}),
            Argument(terminated, "terminated").flags({n}, Access::kWrite),
            Argument(truncated, "truncated").flags({n}, Access::kWrite),
            final_obs.is_none() ? nullptr : observations(final_obs, "final_obs", {n})};
        refuse_shared(a, out, n, batch->obs_bytes());
        const py::gil_scoped_release release;
        return batch->step(a, out);
    }

    void unroll(const py::object& actions, const py::object& obs, const py::object& reward,
                const py::object& terminated, const py::object& truncated,
                const py::object& final_obs) {
        const Use batch(*this);
        if (!py::isinstance<py::array>(actions) ||
            py::reinterpret_borrow<py::array>(actions).ndim() != 2) {
            throw py::value_error("actions: expected a numpy array of shape (steps, " +
                                  std::to_string(num_envs_) + ")");
        }
        const ssize_t s = py::reinterpret_borrow<py::array>(actions).shape(0);
        const ssize_t n = num_envs_;
        const Actions a = Argument(actions, "actions").actions({s, n});
        const StepOutputs out{
            observations(obs, "obs", {s, n}), Argument(reward, "reward").floats({s, n}),
            Argument(terminated, "terminated").flags({s, n}, Access::kWrite),
            Argument(truncated, "truncated").flags({s, n}, Access::kWrite),
            final_obs.is_none() ? nullptr : observations(final_obs, "final_obs", {s, n})};
        refuse_shared(a, out, s * n, batch->obs_bytes());
        const py::gil_scoped_release release;
        batch->unroll(a, s, out);
    }

    void observe(const py::object& obs) {
        const Use batch(*this);
        batch->observe(observations(obs, "obs", {num_envs_}));
    }

    py::array_t<uint8_t> get_state() {
        const Use batch(*this);
        py::array_t<uint8_t> bytes(batch->state_bytes());
        batch->get_state(bytes.mutable_data());
        return bytes;
    }

    void set_state(const py::object& state) {
        const Use batch(*this);
        const Argument bytes(state, "state");
        batch->set_state(bytes.data<uint8_t>(bytes.is('u', 1), "uint8", {batch->state_bytes()},
                                             Access::kRead));
    }

    // Views of the last finished episodes, kept alive by `self`, rewritten in place by steps.
    static py::tuple statistics(const py::object& self, PyBatch& owner) {
        const Use batch(owner);
        const EpisodeStatistics& s = batch->statistics();
        const auto view = [&](const py::dtype& dtype, const void* data) {
            py::array array(dtype, {static_cast<ssize_t>(owner.num_envs_)}, {}, data, self);
            array.attr("setflags")(py::arg("write") = false);
            return array;
        };
        return py::make_tuple(view(py::dtype::of<double>(), s.episode_return.data()),
                              view(py::dtype::of<int64_t>(), s.length.data()),
                              view(py::dtype::of<bool>(), s.success.data()),
                              view(py::dtype::of<bool>(), s.cue_seen.data()));
    }

    // Ends the threads and frees the state. The statistics stay for whoever holds views of them.
    void close() {
        if (busy_.load() && forks_ != ThreadPool::fork_count()) {
            // A child forked in the middle of a call: the state is torn and the threads are gone.
            (void)batch_.release();
            busy_.store(false);
            return;
        }
        const Use batch(*this);
        batch->release();
        closed_ = std::move(batch_);
    }

  protected:
    ssize_t num_envs_;

  private:
    Layout layout_;

    const uint8_t* optional_flags(const py::object& flags, const char* name) const {
        return flags.is_none() ? nullptr : Argument(flags, name).flags({num_envs_}, Access::kRead);
    }

    void* observations(const py::object& obs, const char* name, const Shape& lead) const {
        return Argument(obs, name).observations(layout_.bytes, lead + layout_.obs);
    }

    static void refuse_shared(Actions a, const StepOutputs& out, ssize_t rows, int64_t bytes) {
        const auto n = static_cast<size_t>(rows), row = static_cast<size_t>(bytes);
        const size_t action =
            a.type == ActionType::kInt64 ? 8 : (a.type == ActionType::kInt32 ? 4 : 1);
        refuse_overlap({{"actions", a.data, n * action},
                        {"obs", out.obs, n * row},
                        {"reward", out.reward, n * sizeof(float)},
                        {"terminated", out.terminated, n},
                        {"truncated", out.truncated, n},
                        {"final_obs", out.final_obs, n * row}});
    }

    std::unique_ptr<Batch> batch_, closed_;
    std::atomic<bool> busy_{false};
    std::atomic<uint64_t> forks_{0};  // forks of this process when the latest call began
};

}  // namespace fastmaze
