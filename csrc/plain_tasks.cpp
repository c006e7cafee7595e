// Every plain task, a line each. Compiled once per instruction set.
#include "plain_loops.hpp"

#include "autoencode.hpp"
#include "corridor_maze.hpp"
#include "delayed_catch.hpp"
#include "heaven_hell.hpp"
#include "memory_cards.hpp"
#include "memory_length.hpp"
#include "minigrid_memory.hpp"
#include "pixel_world.hpp"
#include "repeat_first.hpp"
#include "tmaze_long.hpp"
#include "umbrella_length.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

const PlainTasks& plain_tasks() {
    static constexpr PlainTask kTasks[] = {
        {"MemoryLength", make_core<MemoryLength<true>, MemoryLength<false>>},
        {"PixelWorld", make_core<PixelWorld>},
        {"UmbrellaLength", make_core<UmbrellaLength<true>, UmbrellaLength<false>>},
        {"RepeatFirst", make_core<RepeatFirst>},
        {"Autoencode", make_core<Autoencode>},
        {"CorridorMaze", make_core<CorridorMaze<true, false>, CorridorMaze<true, true>,
                                   CorridorMaze<false, false>, CorridorMaze<false, true>>},
        {"TMazeLong", make_core<TMazeLong<false>, TMazeLong<true>>},
        {"HeavenHell", make_core<HeavenHell>},
        {"MemoryCards", make_core<MemoryCards<5>, MemoryCards<0>>},
        {"DelayedCatch", make_core<DelayedCatch>},
        {"MiniGridMemory", make_core<MiniGridMemory>},
    };
    static constexpr PlainTasks kAll{fastmaze_isa_name(FASTMAZE_ISA), kTasks,
                                     kTasks + sizeof kTasks / sizeof kTasks[0]};
    return kAll;
}

}  // namespace fastmaze::FASTMAZE_NAMESPACE
