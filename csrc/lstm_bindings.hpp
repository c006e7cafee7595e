// Python's view of an LSTM's layer.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmaze {

void define_lstm(pybind11::module_& module);

}  // namespace fastmaze
