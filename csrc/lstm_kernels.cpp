// The LSTM's loops. Compiled once per instruction set, with fused multiply-adds where there are any.
//
// A product of rows with the recurrent weight goes through it in panels of a few vectors' width,
// packed so that a panel is read in order and stays in a near cache while all rows pass; the
// sums of a block of rows stay in registers. What the rows are is looked up: a history's row is
// multiplied where its parent's state lies, nothing is gathered first.
#include "lstm_kernels.hpp"

#include <cstring>

namespace fastmaze::FASTMAZE_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kBlock = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kBlock = 6;
#else
constexpr int kLanes = 4, kBlock = 4;
#endif
constexpr int kVectors = 2;
constexpr int kPanel = kLanes * kVectors;

typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
void store(float* to, Vector vector) { *reinterpret_cast<Vector*>(to) = vector; }

// sums[i] += rows[i] x panel, for kRows rows of `depth` floats.
template <int kRows>
void multiply(const float* const* rows, int64_t depth, const float* panel,
              Vector (&sums)[kRows][kVectors]) {
    for (int64_t k = 0; k < depth; ++k, panel += kPanel) {
        Vector column[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) column[v] = load(panel + v * kLanes);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[i][v] += rows[i][k] * column[v];
        }
    }
}

// Calls block<kRows>(first row) until all rows are done, for blocks as large as there are.
template <int kRows, class Block>
void in_blocks(int64_t begin, int64_t end, const Block& block) {
    for (; end - begin >= kRows; begin += kRows) block.template operator()<kRows>(begin);
    if constexpr (kRows > 1) in_blocks<kRows / 2>(begin, end, block);
}

// exp(x) = scale + scale * excess, of which scale is a power of two, and scale * excess keeps its
// precision where exp(x) is near 1.
struct Exponential {
    float scale, excess;
};

// To a few units in the last place, from x = n log 2 + r and the series of exp(r) - 1.
inline Exponential exponential(float x) {
    x = x > 87.0f ? 87.0f : x;  // a NaN stays one
    x = x < -87.0f ? -87.0f : x;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: sums with it have no fraction
    const float n = (x * 1.44269504f + kRound) - kRound;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float series = 1.0f / 5040;
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    const int32_t power = (static_cast<int32_t>(n) + 127) << 23;
    return {__builtin_bit_cast(float, power), series * r};
}

inline float sigmoid(float x) {
    const Exponential e = exponential(-x);
    return 1.0f / (1.0f + (e.scale + e.scale * e.excess));
}

// By exp(-2x) - 1, so that small values keep their precision: a young memory's cells are small.
inline float hyperbolic_tangent(float x) {
    const Exponential e = exponential(-2.0f * x);
    const float less_one = e.scale * e.excess + (e.scale - 1.0f);
    return -less_one / (2.0f + less_one);
}

int64_t packed_size(int64_t depth, int64_t columns) {
    return (columns + kPanel - 1) / kPanel * kPanel * depth;
}

void pack(const float* matrix, int64_t depth, int64_t columns, int64_t row, int64_t column,
          float* packed) {
    for (int64_t first = 0; first < columns; first += kPanel) {
        const int64_t there = columns - first < kPanel ? columns - first : kPanel;
        for (int64_t k = 0; k < depth; ++k, packed += kPanel) {
            for (int64_t n = 0; n < there; ++n) {
                packed[n] = matrix[k * row + (first + n) * column];
            }
            for (int64_t n = there; n < kPanel; ++n) packed[n] = 0.0f;
        }
    }
}

// gates = inputs + state before x weight, before activation.
struct GateSums {
    const LstmForward& layer;
    int64_t first;  // column of the panel
    const float* panel;

    template <int kRows>
    void operator()(int64_t row) const {
        const int64_t width = layer.width, columns = 4 * width;
        const bool whole = columns - first >= kPanel;
        const size_t there = sizeof(float) * static_cast<size_t>(whole ? kPanel : columns - first);
        const float* states[kRows];
        Vector sums[kRows][kVectors];
        for (int i = 0; i < kRows; ++i) {
            const int32_t parent = layer.parent[row + i];
            states[i] = parent < 0 ? layer.zeros : layer.hidden_before + parent * width;
            const int64_t input = layer.index == nullptr ? row + i : layer.index[row + i];
            const float* from = layer.inputs + input * columns + first;
            float part[kPanel] = {};
            if (!whole) {
                std::memcpy(part, from, there);
                from = part;
            }
            for (int v = 0; v < kVectors; ++v) sums[i][v] = load(from + v * kLanes);
        }
        multiply<kRows>(states, width, panel, sums);
        for (int i = 0; i < kRows; ++i) {
            float* to = layer.gates + (row + i) * columns + first;
            float part[kPanel];
            float* into = whole ? to : part;
            for (int v = 0; v < kVectors; ++v) store(into + v * kLanes, sums[i][v]);
            if (!whole) std::memcpy(to, part, there);
        }
    }
};

// The gates' activations, and the new state of one row.
void activate(int64_t width, float* __restrict gates, const float* __restrict before,
              float* __restrict cell, float* __restrict hidden) {
    float* __restrict in = gates;
    float* __restrict forget = gates + width;
    float* __restrict candidate = gates + 2 * width;
    float* __restrict out = gates + 3 * width;
    for (int64_t j = 0; j < width; ++j) {
        in[j] = sigmoid(in[j]);
        forget[j] = sigmoid(forget[j]);
        candidate[j] = hyperbolic_tangent(candidate[j]);
        out[j] = sigmoid(out[j]);
        cell[j] = forget[j] * before[j] + in[j] * candidate[j];
        hidden[j] = out[j] * hyperbolic_tangent(cell[j]);
    }
}

void forward(const LstmForward& layer, int64_t begin, int64_t end) {
    const int64_t width = layer.width;
    const float* panel = layer.weight;
    for (int64_t first = 0; first < 4 * width; first += kPanel, panel += kPanel * width) {
        in_blocks<kBlock>(begin, end, GateSums{layer, first, panel});
    }
    for (int64_t row = begin; row < end; ++row) {
        const int32_t parent = layer.parent[row];
        activate(width, layer.gates + row * 4 * width,
                 parent < 0 ? layer.zeros : layer.cell_before + parent * width,
                 layer.cell + row * width, layer.hidden + row * width);
    }
}

// One row's gradients before activation, from those of its state; kPass: the cell's own is passed
// on to the cell before.
template <bool kPass>
void differentiate(int64_t width, float* __restrict gates, const float* __restrict cell,
                   const float* __restrict before, const float* __restrict d_hidden,
                   const float* __restrict d_cell, float* __restrict d_before) {
    float* __restrict in = gates;
    float* __restrict forget = gates + width;
    float* __restrict candidate = gates + 2 * width;
    float* __restrict out = gates + 3 * width;
    for (int64_t j = 0; j < width; ++j) {
        const float i = in[j], f = forget[j], g = candidate[j], o = out[j];
        const float squashed = hyperbolic_tangent(cell[j]);
        const float d = d_cell[j] + d_hidden[j] * o * (1.0f - squashed * squashed);
        in[j] = d * g * i * (1.0f - i);
        forget[j] = d * before[j] * f * (1.0f - f);
        candidate[j] = d * i * (1.0f - g * g);
        out[j] = d_hidden[j] * squashed * o * (1.0f - o);
        if constexpr (kPass) d_before[j] += d * f;
    }
}

void add(int64_t count, const float* __restrict from, float* __restrict to) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// Gradients of the states before: gates' gradients x weight, added to the parents'.
struct StateSums {
    const LstmBackward& layer;
    int64_t first;
    const float* panel;

    template <int kRows>
    void operator()(int64_t row) const {
        const int64_t width = layer.width;
        const int64_t there = width - first < kPanel ? width - first : kPanel;
        const float* rows[kRows];
        Vector sums[kRows][kVectors] = {};
        for (int i = 0; i < kRows; ++i) rows[i] = layer.gates + (row + i) * 4 * width;
        multiply<kRows>(rows, 4 * width, panel, sums);
        for (int i = 0; i < kRows; ++i) {  // one after the other: rows may share a parent
            const int32_t parent = layer.parent[row + i];
            if (parent < 0) continue;
            float part[kPanel];
            for (int v = 0; v < kVectors; ++v) store(part + v * kLanes, sums[i][v]);
            add(there, part, layer.d_hidden + parent * width + first);
        }
    }
};

void backward(const LstmBackward& layer, int64_t begin, int64_t end) {
    const int64_t width = layer.width;
    bool any_parent = false;
    for (int64_t row = begin; row < end; ++row) {
        const int64_t parent = layer.parent[row], at = row * width;
        float* gates = layer.gates + 4 * at;
        if (parent < 0) {
            differentiate<false>(width, gates, layer.cell + at, layer.zeros, layer.d_hidden + at,
                                 layer.d_cell + at, nullptr);
        } else {
            any_parent = true;
            differentiate<true>(width, gates, layer.cell + at, layer.cell + parent * width,
                                layer.d_hidden + at, layer.d_cell + at,
                                layer.d_cell + parent * width);
        }
        if (layer.d_inputs != nullptr) {
            add(4 * width, gates, layer.d_inputs + layer.index[row] * 4 * width);
        }
    }
    if (!any_parent) return;
    const float* panel = layer.weight;
    for (int64_t first = 0; first < width; first += kPanel, panel += kPanel * 4 * width) {
        in_blocks<kBlock>(begin, end, StateSums{layer, first, panel});
    }
}

const LstmKernels kTable = {packed_size, pack, forward, backward};

}  // namespace

const LstmKernels& lstm_kernels() { return kTable; }

}  // namespace fastmaze::FASTMAZE_NAMESPACE
