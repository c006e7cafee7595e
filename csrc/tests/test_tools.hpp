// What the core's test program is written with.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                      \
        }                                                                      \
    } while (0)

template <class Call>
bool throws(const Call& call) {
    try {
        call();
    } catch (const std::exception&) {
        return true;
    }
    return false;
}

inline int64_t uniform(int64_t low, int64_t high) {
    static std::mt19937_64 generator(12345);
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
}

// In plain_test.cpp.
void test_plain_tasks(const char* isa);

// In lstm_test.cpp.
void test_lstm(const char* isa);
