// Philox-4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011): random words as a pure function of
// (key, counter). The readable version is fastmaze/reference/philox.py.
#pragma once

#include <cstdint>

namespace fastmaze {

struct PhiloxCounter {
    uint32_t word[4];
};

// Ten rounds on one counter. Plain 32-bit arithmetic, so a loop over it vectorises.
static inline PhiloxCounter philox4x32(PhiloxCounter counter, uint32_t key0, uint32_t key1) {
    uint32_t c0 = counter.word[0], c1 = counter.word[1];
    uint32_t c2 = counter.word[2], c3 = counter.word[3];
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = uint64_t{0xD2511F53u} * c0;
        const uint64_t product1 = uint64_t{0xCD9E8D57u} * c2;
        c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
        c1 = static_cast<uint32_t>(product1);
        c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
        c3 = static_cast<uint32_t>(product0);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

}  // namespace fastmaze
