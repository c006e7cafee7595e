// The hot loops are built once for each instruction set, each time into a namespace of its own:
// one binary runs everywhere and uses the widest vectors it finds.
//
// A source that is compiled so gets FASTMAZE_ISA = baseline, avx2 or avx512 from CMake and puts
// everything into fastmaze::FASTMAZE_NAMESPACE, so that the linker cannot hand the AVX-512 copy of a
// function to a machine without it. For the same reason it leaves containers, strings and messages
// to sources that are compiled once; tests/native/test_vectorised.py looks for what leaks out.
#pragma once

#define fastmaze_paste(a, b) a##b
#define fastmaze_isa_namespace(isa) fastmaze_paste(isa_, isa)
#define fastmaze_quote(text) #text
#define fastmaze_isa_name(isa) fastmaze_quote(isa)

#ifdef FASTMAZE_ISA
#define FASTMAZE_NAMESPACE fastmaze_isa_namespace(FASTMAZE_ISA)
#endif

namespace fastmaze {

struct Kernels;      // tmaze_kernels.hpp
struct PlainTasks;   // plain_core.hpp
struct LstmKernels;  // lstm_kernels.hpp

namespace isa_baseline {
const Kernels& kernels();
const PlainTasks& plain_tasks();
const LstmKernels& lstm_kernels();
}
#ifdef FASTMAZE_MULTIARCH
namespace isa_avx2 {
const Kernels& kernels();
const PlainTasks& plain_tasks();
const LstmKernels& lstm_kernels();
}
namespace isa_avx512 {
const Kernels& kernels();
const PlainTasks& plain_tasks();
const LstmKernels& lstm_kernels();
}
#endif

// The loops for "baseline", "avx2" or "avx512", the best ones for "auto"; null where the machine
// or the build has none of that name.
const Kernels* find_kernels(const char* isa);
const PlainTasks* find_plain_tasks(const char* isa);
const LstmKernels* find_lstm_kernels(const char* isa);

}  // namespace fastmaze
