#include "options.hpp"

#include <stdexcept>

namespace fastmaze {

double Options::number(const char* name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) {
        throw std::invalid_argument(std::string(name) + ": expected a number, got none");
    }
    return found->second;
}

int32_t Options::integer(const char* name, int32_t low, int32_t high) const {
    const double value = number(name);
    if (!(value >= low && value <= high && value == static_cast<int32_t>(value))) {
        throw std::invalid_argument(std::string(name) + ": expected an integer from " +
                                    std::to_string(low) + " to " + std::to_string(high) +
                                    ", got " + std::to_string(value));
    }
    return static_cast<int32_t>(value);
}

void Options::refuse(const char* message) { throw std::invalid_argument(message); }

}  // namespace fastmaze
