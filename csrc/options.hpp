// The numbers that a plain task is made from, by name; every one is checked when it is taken.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace fastmaze {

class Options {
  public:
    explicit Options(std::map<std::string, double> values) : values_(std::move(values)) {}

    // Each throws std::invalid_argument, by the option's name, where there is no such number.
    double number(const char* name) const;
    int32_t integer(const char* name, int32_t low, int32_t high) const;

    // For what concerns several options.
    [[noreturn]] static void refuse(const char* message);

  private:
    std::map<std::string, double> values_;
};

}  // namespace fastmaze
