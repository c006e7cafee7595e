// The LSTM's loops as a table of function pointers, one table for each instruction set.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace fastmaze {

// A layer over rows: histories, of which each has one step more than its parent. Arrays are
// row-major; gates lie in PyTorch's order: input, forget, cell, output.
struct LstmForward {
    int64_t width;                // F
    const float* weight;          // recurrent, [4F, F], packed for `forward`
    const float* inputs;          // [M, 4F], what a step's input adds to the gates, biases included
    const int32_t* index;         // [R], which input a row has; null: its own
    const int32_t* parent;        // [R], row of the state before; -1: zeros
    const float* hidden_before;   // [P, F], the states that parents are rows of
    const float* cell_before;     // [P, F]
    const float* zeros;           // [F]
    float* gates;                 // out: [R, 4F], activated
    float* cell;                  // out: [R, F]
    float* hidden;                // out: [R, F]
};

struct LstmBackward {
    int64_t width;
    const float* weight;      // recurrent, [4F, F], packed for `backward`
    const int32_t* index;     // [R], which input a row has; looked at with d_inputs
    const int32_t* parent;    // as above, of rows of `cell`
    const float* cell;        // [R, F]
    const float* zeros;       // [F]
    float* gates;             // [R, 4F]: activated; out: gradients before activation
    float* d_hidden;          // [R, F]: gradients of the outputs; out: what came from children too
    float* d_cell;            // [R, F]: zeros; out: gradients
    float* d_inputs;          // [M, 4F]: added to; null: not wanted
};

struct LstmKernels {
    // Floats that a packed matrix takes, [depth, columns].
    int64_t (*packed_size)(int64_t depth, int64_t columns);

    // Packs the matrix whose entry (k, n) is matrix[k * row + n * column], [depth, columns].
    void (*pack)(const float* matrix, int64_t depth, int64_t columns, int64_t row, int64_t column,
                 float* packed);

    // Rows from begin to end, all of whose parents are done.
    void (*forward)(const LstmForward& layer, int64_t begin, int64_t end);

    // Rows from begin to end, all of whose children are done.
    void (*backward)(const LstmBackward& layer, int64_t begin, int64_t end);
};

}  // namespace fastmaze
