// An LSTM's layer over random trees of histories, of every width, number of groups and instruction
// set, against one plain loop in double precision.
#include <cmath>
#include <cstdio>
#include <vector>

#include "lstm.hpp"
#include "test_tools.hpp"

using namespace fastmaze;

namespace {

std::vector<float> random_floats(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(uniform(-1000, 1000)) * 1e-3f;
    return values;
}

// Histories in steps and groups; every one goes on from some one of its group's step before.
struct Tree {
    std::vector<int32_t> parent, index, bounds;
    LstmRows rows{};
    int64_t size = 0, inputs = uniform(1, 5);

    Tree() {
        rows.steps = uniform(1, 6);
        rows.groups = uniform(1, 3);
        for (int64_t step = 0; step < rows.steps; ++step) {
            for (int64_t group = 0; group < rows.groups; ++group) {
                bounds.push_back(static_cast<int32_t>(size));
                const size_t before = bounds.size() - static_cast<size_t>(rows.groups) - 2;
                const bool first = step == 0;
                const bool none = !first && bounds[before] == bounds[before + 1];
                for (int64_t n = none ? 0 : uniform(first ? 1 : 0, 20); n > 0; --n, ++size) {
                    parent.push_back(static_cast<int32_t>(
                        first ? -1 : uniform(bounds[before], bounds[before + 1] - 1)));
                    index.push_back(static_cast<int32_t>(uniform(0, inputs - 1)));
                }
            }
            bounds.push_back(static_cast<int32_t>(size));
        }
        rows.bounds = bounds.data();
    }
};

double squash(double x) { return 1.0 / (1.0 + std::exp(-x)); }

void check_close(const std::vector<float>& got, const std::vector<double>& expected) {
    double largest = 1e-3;
    for (const double value : expected) largest = std::fmax(largest, std::fabs(value));
    for (size_t i = 0; i < expected.size(); ++i) {
        CHECK(std::fabs(got[i] - expected[i]) < 1e-5 * largest);
    }
}

void compare_with_a_plain_loop(const char* isa) {
    const Tree tree;
    const int64_t F = uniform(0, 1) ? uniform(1, 40) : 8 * uniform(1, 9), R = tree.size;
    const auto weight = random_floats(4 * F * F), inputs = random_floats(tree.inputs * 4 * F);
    const auto d_output = random_floats(R * F);

    std::vector<float> gates(R * 4 * F), cell(R * F), hidden(R * F);
    LstmLayer layer(weight.data(), F, static_cast<int>(uniform(1, 4)), *find_lstm_kernels(isa));
    LstmForward ahead{};
    ahead.inputs = inputs.data();
    ahead.index = tree.index.data();
    ahead.parent = tree.parent.data();
    ahead.hidden_before = hidden.data();
    ahead.cell_before = cell.data();
    ahead.gates = gates.data();
    ahead.cell = cell.data();
    ahead.hidden = hidden.data();
    layer.forward(ahead, tree.rows);

    // gate(row, number, j), activated.
    std::vector<double> act(R * 4 * F), c(R * F), h(R * F), zeros(F);
    for (int64_t row = 0; row < R; ++row) {
        const int64_t parent = tree.parent[row];
        const double* before = parent < 0 ? zeros.data() : &h[parent * F];
        for (int64_t j = 0; j < 4 * F; ++j) {
            double sum = inputs[tree.index[row] * 4 * F + j];
            for (int64_t k = 0; k < F; ++k) sum += weight[j * F + k] * before[k];
            act[row * 4 * F + j] = j / F == 2 ? std::tanh(sum) : squash(sum);
        }
        const double* a = &act[row * 4 * F];
        for (int64_t j = 0; j < F; ++j) {
            const double old = parent < 0 ? 0.0 : c[parent * F + j];
            c[row * F + j] = a[F + j] * old + a[j] * a[2 * F + j];
            h[row * F + j] = a[3 * F + j] * std::tanh(c[row * F + j]);
        }
    }
    check_close(gates, act);
    check_close(cell, c);
    check_close(hidden, h);

    std::vector<float> d_hidden = d_output, d_cell(R * F);
    std::vector<float> d_inputs(tree.rows.groups * tree.inputs * 4 * F);
    LstmBackward back{};
    back.index = tree.index.data();
    back.parent = tree.parent.data();
    back.cell = cell.data();
    back.gates = gates.data();
    back.d_hidden = d_hidden.data();
    back.d_cell = d_cell.data();
    back.d_inputs = d_inputs.data();
    layer.backward(back, tree.rows, tree.inputs);

    std::vector<double> dh(d_output.begin(), d_output.end()), dc(R * F), dg(R * 4 * F);
    std::vector<double> di(tree.inputs * 4 * F);
    for (int64_t row = R; row-- > 0;) {
        const int64_t parent = tree.parent[row];
        const double* a = &act[row * 4 * F];
        double* d = &dg[row * 4 * F];
        for (int64_t j = 0; j < F; ++j) {
            const double tanh_c = std::tanh(c[row * F + j]), out = dh[row * F + j];
            const double inner = dc[row * F + j] + out * a[3 * F + j] * (1 - tanh_c * tanh_c);
            const double old = parent < 0 ? 0.0 : c[parent * F + j];
            d[j] = inner * a[2 * F + j] * a[j] * (1 - a[j]);
            d[F + j] = inner * old * a[F + j] * (1 - a[F + j]);
            d[2 * F + j] = inner * a[j] * (1 - a[2 * F + j] * a[2 * F + j]);
            d[3 * F + j] = out * tanh_c * a[3 * F + j] * (1 - a[3 * F + j]);
            if (parent >= 0) dc[parent * F + j] += inner * a[F + j];
        }
        for (int64_t j = 0; j < 4 * F; ++j) {
            di[tree.index[row] * 4 * F + j] += d[j];
            for (int64_t k = 0; parent >= 0 && k < F; ++k) {
                dh[parent * F + k] += weight[j * F + k] * d[j];
            }
        }
    }
    check_close(gates, dg);
    check_close(d_hidden, dh);
    std::vector<float> summed(di.size());
    for (size_t i = 0; i < d_inputs.size(); ++i) summed[i % di.size()] += d_inputs[i];
    check_close(summed, di);
}

}  // namespace

void test_lstm(const char* isa) {
    for (int round = 0; round < 60; ++round) compare_with_a_plain_loop(isa);
    std::printf("%s LSTM: ok\n", isa);
}
