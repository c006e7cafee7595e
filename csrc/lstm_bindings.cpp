// Python's view of an LSTM's layer: arrays are checked, and every number that says where to read.
#include "lstm_bindings.hpp"

#include <memory>
#include <string>

#include "arguments.hpp"
#include "lstm.hpp"

namespace fastmaze {
namespace {

const float* readable(const py::object& object, const char* name, const Shape& shape) {
    const Argument argument(object, name);
    return argument.data<float>(argument.is('f', 4), "float32", shape, Access::kRead);
}

const int32_t* numbers(const py::object& object, const char* name, const Shape& shape) {
    const Argument argument(object, name);
    return argument.data<int32_t>(argument.is('i', 4), "int32", shape, Access::kRead);
}

float* writable(const py::object& object, const char* name, const Shape& shape) {
    return Argument(object, name).floats(shape);
}

// An array's first dimension, and its number of dimensions as a name of the argument says.
ssize_t length_of(const py::object& object, const char* name, ssize_t ndim) {
    if (!py::isinstance<py::array>(object)) (void)Argument(object, name);  // refuses
    const auto array = py::reinterpret_borrow<py::array>(object);
    if (array.ndim() != ndim) {
        throw py::value_error(std::string(name) + ": expected " + std::to_string(ndim) +
                              " dimensions, got " + std::to_string(array.ndim()));
    }
    return array.shape(0);
}

size_t bytes(ssize_t rows, ssize_t columns) {
    return sizeof(float) * static_cast<size_t>(rows * columns);
}

[[noreturn]] void refuse(const char* name, const char* expected, int64_t row, int64_t got) {
    throw py::value_error(std::string(name) + ": expected " + expected + ", got " +
                          std::to_string(got) + " at " + std::to_string(row));
}

void check_inputs(const int32_t* index, int64_t rows, int64_t inputs) {
    for (int64_t row = 0; index != nullptr && row < rows; ++row) {
        if (index[row] < 0 || index[row] >= inputs) refuse("index", "a row of inputs", row, index[row]);
    }
}

// Rows of [steps, groups], each group's after those of the one before.
LstmRows read_rows(const py::object& object, int64_t num_rows) {
    const ssize_t steps = length_of(object, "bounds", 2);
    const ssize_t groups = py::reinterpret_borrow<py::array>(object).shape(1) - 1;
    if (steps < 1 || groups < 1) throw py::value_error("bounds: expected a shape of at least (1, 2)");
    const LstmRows rows{steps, groups, numbers(object, "bounds", {steps, groups + 1})};
    int64_t done = 0;
    for (int64_t step = 0; step < steps; ++step) {
        if (rows.begin(step, 0) != done) refuse("bounds", "the last step's end", step, rows.begin(step, 0));
        for (int64_t group = 0; group < groups; ++group, done = rows.begin(step, group)) {
            if (rows.end(step, group) < done) refuse("bounds", "no row twice", step, rows.end(step, group));
        }
    }
    if (done != num_rows) refuse("bounds", "an end at the last row's", steps - 1, done);
    return rows;
}

// Parents are rows of the same group's step before, whose first step has none.
void check_parents(const int32_t* parent, const LstmRows& rows) {
    for (int64_t step = 0; step < rows.steps; ++step) {
        for (int64_t group = 0; group < rows.groups; ++group) {
            const int64_t low = step == 0 ? -1 : rows.begin(step - 1, group);
            const int64_t high = step == 0 ? -1 : rows.end(step - 1, group) - 1;
            for (int64_t row = rows.begin(step, group); row < rows.end(step, group); ++row) {
                if (parent[row] < low || parent[row] > high) {
                    refuse("parent", "a row of the step before", row, parent[row]);
                }
            }
        }
    }
}

class PyLstmLayer {
  public:
    PyLstmLayer(const py::object& weight, int64_t num_threads, const std::string& isa)
        : layer_(make(weight, num_threads, isa)) {}

    void forward(const py::object& inputs, const py::object& index, const py::object& parent,
                 const py::object& bounds, const py::object& gates, const py::object& cell,
                 const py::object& hidden, const py::object& cell_before,
                 const py::object& hidden_before) {
        const ssize_t num_rows = length_of(parent, "parent", 1);
        const ssize_t width = layer_->width(), columns = 4 * width;
        const ssize_t num_inputs = length_of(inputs, "inputs", 2);
        const LstmRows rows = read_rows(bounds, num_rows);
        LstmForward call{};
        call.inputs = readable(inputs, "inputs", {num_inputs, columns});
        if (!index.is_none()) call.index = numbers(index, "index", {num_rows});
        if (index.is_none() && num_inputs != num_rows) {
            refuse("inputs", "one for each row where there is no index", num_rows, num_inputs);
        }
        check_inputs(call.index, num_rows, num_inputs);
        call.parent = numbers(parent, "parent", {num_rows});
        call.gates = writable(gates, "gates", {num_rows, columns});
        call.cell = writable(cell, "cell", {num_rows, width});
        call.hidden = writable(hidden, "hidden", {num_rows, width});
        if (cell_before.is_none() != hidden_before.is_none()) {
            throw py::value_error("cell_before and hidden_before: expected both or neither");
        }
        const bool apart = !cell_before.is_none();
        const ssize_t before = apart ? length_of(cell_before, "cell_before", 2) : 0;
        if (!apart) {
            check_parents(call.parent, rows);
            call.cell_before = call.cell;
            call.hidden_before = call.hidden;
        } else {
            if (rows.steps != 1) refuse("bounds", "one step from a state before", 0, rows.steps);
            call.cell_before = readable(cell_before, "cell_before", {before, width});
            call.hidden_before = readable(hidden_before, "hidden_before", {before, width});
            for (ssize_t row = 0; row < num_rows; ++row) {
                if (call.parent[row] < -1 || call.parent[row] >= before) {
                    refuse("parent", "a row of cell_before", row, call.parent[row]);
                }
            }
        }
        refuse_overlap({{"gates", call.gates, bytes(num_rows, columns)},
                        {"cell", call.cell, bytes(num_rows, width)},
                        {"hidden", call.hidden, bytes(num_rows, width)},
                        {"inputs", call.inputs, bytes(num_inputs, columns)},
                        {"cell_before", apart ? call.cell_before : nullptr, bytes(before, width)}});
        refuse_overlap({{"gates", call.gates, bytes(num_rows, columns)},
                        {"cell", call.cell, bytes(num_rows, width)},
                        {"hidden", call.hidden, bytes(num_rows, width)},
                        {"hidden_before", apart ? call.hidden_before : nullptr,
                         bytes(before, width)}});
        const py::gil_scoped_release others_run;
        layer_->forward(call, rows);
    }

    void backward(const py::object& index, const py::object& parent, const py::object& bounds,
                  const py::object& cell, const py::object& gates, const py::object& d_hidden,
                  const py::object& d_cell, const py::object& d_inputs) {
        const ssize_t num_rows = length_of(parent, "parent", 1);
        const ssize_t width = layer_->width(), columns = 4 * width;
        const LstmRows rows = read_rows(bounds, num_rows);
        LstmBackward call{};
        call.parent = numbers(parent, "parent", {num_rows});
        check_parents(call.parent, rows);
        call.cell = readable(cell, "cell", {num_rows, width});
        call.gates = writable(gates, "gates", {num_rows, columns});
        call.d_hidden = writable(d_hidden, "d_hidden", {num_rows, width});
        call.d_cell = writable(d_cell, "d_cell", {num_rows, width});
        ssize_t num_inputs = 0;
        if (!d_inputs.is_none()) {
            (void)length_of(d_inputs, "d_inputs", 3);
            num_inputs = py::reinterpret_borrow<py::array>(d_inputs).shape(1);
            const ssize_t groups = static_cast<ssize_t>(rows.groups);
            call.d_inputs = writable(d_inputs, "d_inputs", {groups, num_inputs, columns});
            call.index = numbers(index, "index", {num_rows});
            check_inputs(call.index, num_rows, num_inputs);
        }
        refuse_overlap({{"cell", call.cell, bytes(num_rows, width)},
                        {"gates", call.gates, bytes(num_rows, columns)},
                        {"d_hidden", call.d_hidden, bytes(num_rows, width)},
                        {"d_cell", call.d_cell, bytes(num_rows, width)},
                        {"d_inputs", call.d_inputs,
                         bytes(static_cast<ssize_t>(rows.groups) * num_inputs, columns)}});
        const py::gil_scoped_release others_run;
        layer_->backward(call, rows, num_inputs);
    }

  private:
    static std::unique_ptr<LstmLayer> make(const py::object& weight, int64_t num_threads,
                                           const std::string& isa) {
        const LstmKernels* kernels = find_lstm_kernels(isa.c_str());
        if (kernels == nullptr) {
            throw py::value_error("isa: expected auto, baseline, avx2 or avx512, as far as this "
                                  "machine and build have it, got " + isa);
        }
        if (num_threads < 1 || num_threads > 1024) {
            refuse("num_threads", "an integer from 1 to 1024", 0, num_threads);
        }
        (void)length_of(weight, "weight", 2);
        const ssize_t width = py::reinterpret_borrow<py::array>(weight).shape(1);
        if (width < 1) throw py::value_error("weight: expected a width of at least 1");
        return std::make_unique<LstmLayer>(readable(weight, "weight", {4 * width, width}), width,
                                           static_cast<int>(num_threads), *kernels);
    }

    std::unique_ptr<LstmLayer> layer_;
};

}  // namespace

void define_lstm(py::module_& module) {
    using py::arg;
    py::class_<PyLstmLayer>(module, "LstmLayer")
        .def(py::init<const py::object&, int64_t, const std::string&>(), arg("weight"),
             py::kw_only(), arg("num_threads"), arg("isa") = "auto")
        .def("forward", &PyLstmLayer::forward, arg("inputs"), arg("index"), arg("parent"),
             arg("bounds"), py::kw_only(), arg("gates"), arg("cell"), arg("hidden"),
             arg("cell_before") = py::none(), arg("hidden_before") = py::none())
        .def("backward", &PyLstmLayer::backward, arg("index"), arg("parent"), arg("bounds"),
             py::kw_only(), arg("cell"), arg("gates"), arg("d_hidden"), arg("d_cell"),
             arg("d_inputs") = py::none());
}

}  // namespace fastmaze
