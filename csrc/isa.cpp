// Picks the hot loops for the machine that the program runs on.
#include <cstring>

#include "tmaze_kernels.hpp"

namespace fastmaze {

#ifdef FASTMAZE_MULTIARCH
// The features of x86-64-v3 and x86-64-v4 that tell their processors apart: every one that has
// these has the rest (LZCNT, MOVBE, F16C, POPCNT) too.
static bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

static bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const Kernels* find_kernels(const char* isa) {
    const bool any = std::strcmp(isa, "auto") == 0;
#ifdef FASTMAZE_MULTIARCH
    if ((any || std::strcmp(isa, "avx512") == 0) && has_avx512()) return &isa_avx512::kernels();
    if ((any || std::strcmp(isa, "avx2") == 0) && has_avx2()) return &isa_avx2::kernels();
#endif
    if (any || std::strcmp(isa, "baseline") == 0) return &isa_baseline::kernels();
    return nullptr;
}

}  // namespace fastmaze
