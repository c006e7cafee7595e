// Every plain task, a line each.
#include "plain_tasks.hpp"

#include "memory_length.hpp"
#include "pixel_world.hpp"

namespace fastmaze {
namespace {

template <class Task>
constexpr PlainTask entry(const char* name) {
    return {name, sizeof(typename Task::Obs) == 1, Task::kContextBytes,
            [](const Options& options, const PlainConfig& config) -> std::unique_ptr<Batch> {
                return std::make_unique<PlainBatch<Task>>(options, config);
            }};
}

constexpr PlainTask kTasks[] = {
    entry<MemoryLength>("MemoryLength"),
    entry<PixelWorld>("PixelWorld"),
};

}  // namespace

const PlainTask* find_plain_task(const std::string& name) {
    for (const PlainTask& task : kTasks) {
        if (name == task.name) return &task;
    }
    return nullptr;
}

}  // namespace fastmaze
