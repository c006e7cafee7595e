// Picks the hot loops for the machine that the program runs on.
#include "isa.hpp"

#include <cstring>

namespace fastmaze {
namespace {

struct Isa {
    const char* name;
    bool (*here)();
    const Kernels& (*kernels)();
    const PlainTasks& (*plain_tasks)();
    const LstmKernels& (*lstm_kernels)();
};

#ifdef FASTMAZE_MULTIARCH
// The features of x86-64-v3 and x86-64-v4 that tell their processors apart: every one that has
// these has the rest (LZCNT, MOVBE, F16C, POPCNT) too.
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// The best one first.
const Isa kIsas[] = {
#ifdef FASTMAZE_MULTIARCH
    {"avx512", has_avx512, isa_avx512::kernels, isa_avx512::plain_tasks,
     isa_avx512::lstm_kernels},
    {"avx2", has_avx2, isa_avx2::kernels, isa_avx2::plain_tasks,
     isa_avx2::lstm_kernels},
#endif
    {"baseline", [] { return true; }, isa_baseline::kernels, isa_baseline::plain_tasks,
     isa_baseline::lstm_kernels},
};

const Isa* find(const char* name) {
    const bool any = std::strcmp(name, "auto") == 0;
    for (const Isa& isa : kIsas) {
        if ((any || std::strcmp(name, isa.name) == 0) && isa.here()) return &isa;
    }
    return nullptr;
}

}  // namespace

const Kernels* find_kernels(const char* isa) {
    const Isa* found = find(isa);
    return found == nullptr ? nullptr : &found->kernels();
}

const PlainTasks* find_plain_tasks(const char* isa) {
    const Isa* found = find(isa);
    return found == nullptr ? nullptr : &found->plain_tasks();
}

const LstmKernels* find_lstm_kernels(const char* isa) {
    const Isa* found = find(isa);
    return found == nullptr ? nullptr : &found->lstm_kernels();
}

}  // namespace fastmaze
