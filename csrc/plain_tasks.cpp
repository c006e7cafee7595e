// Every plain task, a line each. Compiled once per instruction set.
#include "plain_loops.hpp"

#include "memory_length.hpp"
#include "pixel_world.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

const PlainTasks& plain_tasks() {
    static constexpr PlainTask kTasks[] = {
        {"MemoryLength", make_core<MemoryLength<true>, MemoryLength<false>>},
        {"PixelWorld", make_core<PixelWorld>},
    };
    static constexpr PlainTasks kAll{fastmaze_isa_name(FASTMAZE_ISA), kTasks,
                                     kTasks + sizeof kTasks / sizeof kTasks[0]};
    return kAll;
}

}  // namespace fastmaze::FASTMAZE_NAMESPACE
