// The module: makes batches from checked numbers, and gives the core's errors their Python classes.
#include <pthread.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "lstm_bindings.hpp"
#include "philox.hpp"
#include "plain_batch.hpp"
#include "py_batch.hpp"
#include "tmaze_batch.hpp"

using namespace fastmaze;

namespace {

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

// What `find` gives for this instruction set; refuses where there is none.
template <class Table>
const Table& built_for(const std::string& isa, const Table* (*find)(const char*)) {
    const Table* table = find(isa.c_str());
    if (table == nullptr) {
        throw py::value_error("isa: expected auto, baseline, avx2 or avx512, as far as this "
                              "machine and build have it, got " + isa);
    }
    return *table;
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
    config.kernels = &built_for(isa, find_kernels);
    return std::make_unique<PyTMazeBatch>(config);
}

// The loops of a plain task by its name in plain_tasks.cpp.
std::unique_ptr<const PlainCore> make_core(const std::string& isa, const std::string& task,
                                           const Options& options) {
    for (const PlainTask& entry : built_for(isa, find_plain_tasks)) {
        if (task == entry.name) return std::unique_ptr<const PlainCore>(entry.make(options));
    }
    throw py::value_error("task: the C++ core has none called " + task);
}

std::unique_ptr<PyBatch> make_plain_batch(const std::string& task,
                                          const std::map<std::string, double>& options,
                                          const std::vector<ssize_t>& obs_shape, bool bytes,
                                          ssize_t context_bytes, int64_t state_bytes,
                                          int64_t num_envs, int64_t mode, int64_t num_threads,
                                          int64_t least_per_thread, const std::string& isa) {
    PlainConfig config{};
    config.num_envs = in_range<int64_t>("num_envs", num_envs, 1, int64_t{1} << 32);
    config.mode = static_cast<Autoreset>(in_range<uint8_t>("mode", mode, 0, 2));
    config.num_threads = in_range<int>("num_threads", num_threads, 1, 1024);
    config.least_per_thread =
        in_range<int64_t>("least_per_thread", least_per_thread, 1, int64_t{1} << 32);
    std::unique_ptr<const PlainCore> core = make_core(isa, task, Options(options));
    const PlainShape shape = core->shape();
    PyBatch::Layout layout{{}, bytes, false, context_bytes};
    int64_t size = bytes ? 1 : int64_t{sizeof(float)};
    if (obs_shape.size() > 4) throw py::value_error("obs_shape: expected at most 4 dimensions");
    for (const ssize_t dim : obs_shape) {
        layout.obs = layout.obs + Shape{dim};
        size *= dim;
    }
    // What the spec in Python says must be what the core works with.
    auto batch = std::make_unique<PlainBatch>(std::move(core), config);
    if (shape.obs_bytes() != size || shape.bytes != bytes ||
        shape.context_bytes != context_bytes || batch->state_bytes() != num_envs * state_bytes) {
        throw py::value_error("task: the C++ core of " + task + " has observations of " +
                              std::to_string(shape.obs_bytes()) + " bytes, contexts of " +
                              std::to_string(shape.context_bytes) + " and a state of " +
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
              arg("num_envs"), arg("mode"), arg("num_threads"), arg("least_per_thread") = 4096,
              arg("isa") = "auto");
    define_calls(plain, "context");
    define_lstm(module);
}
