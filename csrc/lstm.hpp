// A layer of an LSTM over histories, on threads.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "lstm_kernels.hpp"
#include "thread_pool.hpp"

namespace fastmaze {

// Histories, each a row: `bounds` [steps, groups + 1] says which rows a step has, and which of them
// a group has. Parents are of the step before and of the same group, so groups need nothing of each
// other.
struct LstmRows {
    int64_t steps, groups;
    const int32_t* bounds;

    int64_t begin(int64_t step, int64_t group) const { return bounds[step * (groups + 1) + group]; }
    int64_t end(int64_t step, int64_t group) const { return begin(step, group + 1); }
};

class LstmLayer {
  public:
    // Copies the recurrent weight, [4F, F], row-major.
    LstmLayer(const float* weight, int64_t width, int num_threads, const LstmKernels& kernels)
        : width_(width), kernels_(kernels), threads_(num_threads), num_threads_(num_threads),
          zeros_(static_cast<size_t>(width)),
          ahead_(lines(kernels.packed_size(width, 4 * width))),
          back_(lines(kernels.packed_size(4 * width, width))) {
        kernels.pack(weight, width, 4 * width, 1, width, ahead_[0].lane);
        kernels.pack(weight, 4 * width, width, width, 1, back_[0].lane);
    }

    int64_t width() const { return width_; }

    // Fills in what the layer itself knows, and goes through all rows.
    void forward(LstmForward layer, const LstmRows& rows) {
        layer.width = width_;
        layer.weight = ahead_[0].lane;
        layer.zeros = zeros_.data();
        in_groups(rows, [&](int64_t group) {
            for (int64_t step = 0; step < rows.steps; ++step) {
                kernels_.forward(layer, rows.begin(step, group), rows.end(step, group));
            }
        });
    }

    // As forward; d_inputs is [groups, M, 4F], one for each group.
    void backward(LstmBackward layer, const LstmRows& rows, int64_t num_inputs) {
        layer.width = width_;
        layer.weight = back_[0].lane;
        layer.zeros = zeros_.data();
        in_groups(rows, [&](int64_t group) {
            LstmBackward own = layer;
            if (own.d_inputs != nullptr) own.d_inputs += group * num_inputs * 4 * width_;
            for (int64_t step = rows.steps; step-- > 0;) {
                kernels_.backward(own, rows.begin(step, group), rows.end(step, group));
            }
        });
    }

  private:
    // A cache line: what vectors are loaded from lies on its bounds.
    struct alignas(64) Line {
        float lane[16];
    };

    static size_t lines(int64_t floats) { return static_cast<size_t>((floats + 15) / 16); }

    template <class Task>
    void in_groups(const LstmRows& rows, const Task& task) {
        const std::lock_guard<std::mutex> alone(mutex_);
        const int parts =
            static_cast<int>(rows.groups < num_threads_ ? rows.groups : num_threads_);
        threads_.run(parts, rows.groups, 1, [&](int64_t begin, int64_t end) {
            for (int64_t group = begin; group < end; ++group) task(group);
        });
    }

    int64_t width_;
    const LstmKernels& kernels_;
    ThreadPool threads_;
    int num_threads_;
    std::mutex mutex_;
    std::vector<float> zeros_;
    std::vector<Line> ahead_, back_;
};

}  // namespace fastmaze
