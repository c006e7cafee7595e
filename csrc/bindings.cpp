// The boundary: checks arrays, releases the GIL, calls the core; nothing else.
#include <pthread.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <initializer_list>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "philox.hpp"
#include "plain_tasks.hpp"
#include "tmaze_batch.hpp"

namespace py = pybind11;
using namespace fastmaze;

namespace {

enum class Access { kRead, kWrite };

// A shape of a few dimensions, without memory from the heap: a step makes some.
struct Shape {
    ssize_t dims[8] = {};
    size_t ndim = 0;

    Shape(std::initializer_list<ssize_t> lead) {
        for (const ssize_t dim : lead) dims[ndim++] = dim;
    }
    Shape operator+(const Shape& rest) const {
        Shape all = *this;
        for (size_t i = 0; i < rest.ndim; ++i) all.dims[all.ndim++] = rest.dims[i];
        return all;
    }
};

std::string shape_text(const ssize_t* shape, size_t ndim) {
    std::string text = "(";
    for (size_t i = 0; i < ndim; ++i) text += std::to_string(shape[i]) + (i + 1 < ndim ? ", " : "");
    return text + (ndim == 1 ? ",)" : ")");
}

// An array argument by its name, as NumPy's C structures show it.
class Argument {
  public:
    Argument(const py::object& object, const char* name) : name_(name) {
        if (!py::isinstance<py::array>(object)) {
            throw py::type_error(std::string(name) + ": expected a numpy array, got " +
                                 std::string(py::str(py::type::of(object).attr("__name__"))));
        }
        object_ = object.ptr();
        PyObject* descr = py::detail::array_proxy(object_)->descr;
        kind_ = py::detail::array_descriptor_proxy(descr)->kind;
        byteorder_ = py::detail::array_descriptor_proxy(descr)->byteorder;
        item_ = py::reinterpret_borrow<py::array>(object).itemsize();
    }

    bool is(char kind, ssize_t itemsize) const {
        return kind_ == kind && item_ == itemsize && byteorder_ != '>';
    }

    // Refuses unless dtype, shape and flags are right; returns the data.
    template <class T>
    T* data(bool right_type, const char* dtype, const Shape& shape, Access access) const {
        const auto array = py::reinterpret_borrow<py::array>(object_);
        if (!right_type) {
            throw py::type_error(std::string(name_) + ": expected dtype " + dtype + ", got " +
                                 std::string(py::str(array.dtype())));
        }
        bool same = static_cast<size_t>(array.ndim()) == shape.ndim;
        for (size_t i = 0; same && i < shape.ndim; ++i) {
            same = array.shape(static_cast<ssize_t>(i)) == shape.dims[i];
        }
        if (!same) {
            throw py::value_error(std::string(name_) + ": expected shape " +
                                  shape_text(shape.dims, shape.ndim) + ", got " +
                                  shape_text(array.shape(), static_cast<size_t>(array.ndim())));
        }
        const int flags = array.flags();
        if (!(flags & py::array::c_style) ||
            !(flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
            throw py::value_error(std::string(name_) +
                                  ": expected a C-contiguous, aligned array (see "
                                  "numpy.ascontiguousarray)");
        }
        if (access == Access::kWrite && !(flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_)) {
            throw py::value_error(std::string(name_) + ": expected a writable array, got a "
                                                       "read-only one");
        }
        return static_cast<T*>(const_cast<void*>(array.data()));
    }

    float* floats(const Shape& shape) const {
        return data<float>(is('f', 4), "float32", shape, Access::kWrite);
    }
    uint8_t* flags(const Shape& shape, Access access) const {
        return data<uint8_t>(is('b', 1), "bool", shape, access);
    }
    void* observations(bool bytes, const Shape& shape) const {
        return bytes ? data<void>(is('u', 1), "uint8", shape, Access::kWrite) : floats(shape);
    }
    Actions actions(const Shape& shape) const {
        const ActionType type = is('i', 8)   ? ActionType::kInt64
                                : is('i', 4) ? ActionType::kInt32
                                             : ActionType::kByte;
        const bool right = type != ActionType::kByte || is('i', 1) || is('u', 1);
        return {data<void>(right, "int64, int32, uint8 or int8", shape, Access::kRead), type};
    }

  private:
    const char* name_;
    PyObject* object_;
    char kind_, byteorder_;
    ssize_t item_;
};

// Refuses arrays that share memory: writing one would change another while it is read.
struct Extent {
    const char* name;
    const void* begin;
    size_t bytes;
};

void refuse_overlap(std::initializer_list<Extent> extents) {
    for (const Extent* a = extents.begin(); a != extents.end(); ++a) {
        for (const Extent* b = extents.begin(); b != a; ++b) {
            const auto* first = static_cast<const char*>(a->begin);
            const auto* second = static_cast<const char*>(b->begin);
            if (first != nullptr && second != nullptr && first < second + b->bytes &&
                second < first + a->bytes) {
                throw py::value_error(std::string(b->name) + " and " + a->name +
                                      ": expected separate arrays, got shared memory");
            }
        }
    }
}

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

class PyTMazeBatch final : public PyBatch {
  public:
    explicit PyTMazeBatch(const BatchConfig& config)
        : PyBatch(std::make_unique<TMazeBatch>(config),
                  Layout{{(config.view == View::kAmbiguous ? 2 : 3) + config.add_timestep},
                         false, true, 0}) {}

    py::array_t<int32_t> positions() {
        const Use batch(*this);
        py::array_t<int32_t> out({static_cast<ssize_t>(num_envs_), ssize_t{4}});
        static_cast<TMazeBatch&>(*batch).positions(out.mutable_data());
        return out;
    }
};

const Kernels& kernels_named(const std::string& isa) {
    const Kernels* kernels = find_kernels(isa.c_str());
    if (kernels == nullptr) {
        throw py::value_error("isa: expected auto, baseline, avx2 or avx512, as far as this "
                              "machine and build have it, got " + isa);
    }
    return *kernels;
}

template <class T>
T in_range(const char* name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) {
        throw py::value_error(std::string(name) + ": expected an integer from " +
                              std::to_string(low) + " to " + std::to_string(high) + ", got " +
                              std::to_string(value));
    }
    return static_cast<T>(value);
}

std::unique_ptr<PyTMazeBatch> make_tmaze_batch(int64_t num_envs, int64_t junction, int64_t oracle_length,
                                    int64_t episode_length, double goal_reward, double penalty,
                                    double distract_reward, int64_t view, bool add_timestep,
                                    int64_t rule, int64_t mode, int64_t num_threads,
                                    int64_t least_per_thread, const std::string& isa) {
    constexpr int64_t kLongest = (1 << 24) - 1;
    BatchConfig config{};
    config.num_envs = in_range<int64_t>("num_envs", num_envs, 1, int64_t{1} << 32);
    config.options.junction = in_range<int32_t>("junction", junction, 1, kLongest);
    config.options.oracle_length =
        in_range<int32_t>("oracle_length", oracle_length, 0, junction - 1);
    config.options.episode_length =
        in_range<int32_t>("episode_length", episode_length, 1, kLongest);
    config.options.goal_reward = static_cast<float>(goal_reward);
    config.options.goal_reward_exact = goal_reward;
    config.options.penalty = penalty;
    config.options.distract_reward = distract_reward;
    config.options.step_reward[0] = 0.0f;
    config.options.step_reward[1] = static_cast<float>(penalty);
    config.options.step_reward[2] = static_cast<float>(distract_reward);
    config.options.step_reward[3] = static_cast<float>(penalty + distract_reward);
    config.view = static_cast<View>(in_range<uint8_t>("view", view, 0, kNumViews - 1));
    config.rule = static_cast<Rule>(in_range<uint8_t>("rule", rule, 0, kNumRules - 1));
    config.mode = static_cast<Autoreset>(in_range<uint8_t>("mode", mode, 0, 2));
    config.add_timestep = add_timestep;
    config.num_threads = in_range<int>("num_threads", num_threads, 1, 1024);
    config.least_per_thread =
        in_range<int64_t>("least_per_thread", least_per_thread, 1, int64_t{1} << 32);
    config.kernels = &kernels_named(isa);
    return std::make_unique<PyTMazeBatch>(config);
}

// A batch of a plain task by its name in plain_tasks.cpp.
std::unique_ptr<PyBatch> make_plain_batch(const std::string& task,
                                          const std::map<std::string, double>& options,
                                          const std::vector<ssize_t>& obs_shape, bool bytes,
                                          ssize_t context_bytes, int64_t state_bytes,
                                          int64_t num_envs, int64_t mode, int64_t num_threads,
                                          int64_t least_per_thread) {
    PlainConfig config{};
    config.num_envs = in_range<int64_t>("num_envs", num_envs, 1, int64_t{1} << 32);
    config.mode = static_cast<Autoreset>(in_range<uint8_t>("mode", mode, 0, 2));
    config.num_threads = in_range<int>("num_threads", num_threads, 1, 1024);
    config.least_per_thread =
        in_range<int64_t>("least_per_thread", least_per_thread, 1, int64_t{1} << 32);
    const PlainTask* entry = find_plain_task(task);
    if (entry == nullptr) throw py::value_error("task: the C++ core has none called " + task);
    PyBatch::Layout layout{{}, bytes, false, context_bytes};
    int64_t size = bytes ? 1 : int64_t{sizeof(float)};
    if (obs_shape.size() > 4) throw py::value_error("obs_shape: expected at most 4 dimensions");
    for (const ssize_t dim : obs_shape) {
        layout.obs = layout.obs + Shape{dim};
        size *= dim;
    }
    std::unique_ptr<Batch> batch = entry->make(Options(options), config);
    // What the spec in Python says must be what the core works with.
    if (batch->obs_bytes() != size || entry->bytes != bytes ||
        entry->context_bytes != context_bytes || batch->state_bytes() != num_envs * state_bytes) {
        throw py::value_error("task: the C++ core of " + task + " has observations of " +
                              std::to_string(batch->obs_bytes()) + " bytes, contexts of " +
                              std::to_string(entry->context_bytes) + " and a state of " +
                              std::to_string(batch->state_bytes() / num_envs) +
                              " per env; the spec says otherwise");
    }
    return std::make_unique<PyBatch>(std::move(batch), layout);
}

template <class Class>
void define_calls(Class& batch, const char* context_name) {
    using py::arg;
    batch
        .def("reset", &PyBatch::reset, arg("obs"), arg("mask") = py::none(),
             arg(context_name) = py::none(), arg("stagger") = false, arg("keys") = py::none(),
             arg("indices") = py::none(), arg("seed_mask") = py::none())
        .def("step", &PyBatch::step, arg("actions"), arg("obs"), arg("reward"), arg("terminated"),
             arg("truncated"), arg("final_obs") = py::none())
        .def("unroll", &PyBatch::unroll, arg("actions"), arg("obs"), arg("reward"),
             arg("terminated"), arg("truncated"), arg("final_obs") = py::none())
        .def("observe", &PyBatch::observe, arg("obs"))
        .def("get_state", &PyBatch::get_state)
        .def("set_state", &PyBatch::set_state, arg("state"))
        .def("statistics", [](const py::object& self) {
            return PyBatch::statistics(self, self.cast<typename Class::type&>());
        })
        .def("close", &PyBatch::close);
}

py::tuple philox_words(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                       uint32_t k1) {
    const PhiloxCounter words = philox4x32({{c0, c1, c2, c3}}, k0, k1);
    return py::make_tuple(words.word[0], words.word[1], words.word[2], words.word[3]);
}

py::list usable_isas() {
    py::list names;
    for (const char* isa : {"baseline", "avx2", "avx512"}) {
        if (find_kernels(isa) != nullptr) names.append(isa);
    }
    return names;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "FastMaze's C++ core; use it through fastmaze.make_vec.";
    pthread_atfork(nullptr, nullptr, [] { ThreadPool::after_fork_in_child(); });

    // Core errors: a bad value is a ValueError, a call at the wrong time one of our own classes.
    py::register_local_exception_translator([](std::exception_ptr error) {
        const auto raise = [](const char* name, const char* text) {
            const auto errors = py::module_::import("fastmaze.envs.backends.errors");
            PyErr_SetString(errors.attr(name).ptr(), text);
        };
        try {
            if (error) std::rethrow_exception(error);
        } catch (const std::invalid_argument& e) {
            PyErr_SetString(PyExc_ValueError, e.what());
        } catch (const std::length_error& e) {
            PyErr_SetString(PyExc_MemoryError, e.what());
        } catch (const std::logic_error& e) {
            raise("NotReady", e.what());
        } catch (const Busy& e) {
            raise("Busy", e.what());
        } catch (const Closed& e) {
            raise("Closed", e.what());
        } catch (const std::system_error& e) {
            PyErr_Format(PyExc_OSError, "num_threads: cannot start that many threads (%s)",
                         e.what());
        }
    });

    using py::arg;
    module.def("usable_isas", &usable_isas, "Instruction sets that this build and machine have.");
    module.def("isa", [] { return std::string(find_kernels("auto")->isa); },
               "The instruction set in use: baseline, avx2 or avx512.");
    module.def("philox4x32", &philox_words, arg("c0"), arg("c1"), arg("c2"), arg("c3"), arg("k0"),
               arg("k1"), "Four random words, for tests.");
    py::class_<PyTMazeBatch> tmaze(module, "TMazeBatch");
    tmaze
        .def(py::init(&make_tmaze_batch), py::kw_only(), arg("num_envs"), arg("junction"),
             arg("oracle_length"), arg("episode_length"), arg("goal_reward"), arg("penalty"),
             arg("distract_reward"), arg("view"), arg("add_timestep"), arg("rule"), arg("mode"),
             arg("num_threads"), arg("least_per_thread") = 4096, arg("isa") = "auto")
        .def("positions", &PyTMazeBatch::positions);
    define_calls(tmaze, "goals");
    py::class_<PyBatch> plain(module, "PlainBatch");
    plain.def(py::init(&make_plain_batch), py::kw_only(), arg("task"), arg("options"),
              arg("obs_shape"), arg("bytes"), arg("context_bytes"), arg("state_bytes"),
              arg("num_envs"), arg("mode"), arg("num_threads"), arg("least_per_thread") = 4096);
    define_calls(plain, "context");
}
