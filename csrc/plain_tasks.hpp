// The plain tasks by name, for the bindings.
#pragma once

#include <memory>
#include <string>

#include "plain_batch.hpp"

namespace fastmaze {

struct PlainTask {
    const char* name;
    bool bytes;  // observations are uint8, else float32
    int64_t context_bytes;
    std::unique_ptr<Batch> (*make)(const Options& options, const PlainConfig& config);
};

// The task of this name, or null.
const PlainTask* find_plain_task(const std::string& name);

}  // namespace fastmaze
