// NumPy arrays as arguments: dtype, shape and flags are checked, errors name the argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>

#include "batch.hpp"

namespace fastmaze {

namespace py = pybind11;

enum class Access { kRead, kWrite };

// A shape of a few dimensions, without memory from the heap: a step makes some.
struct Shape {
    ssize_t dims[8] = {};
    size_t ndim = 0;

    Shape(std::initializer_list<ssize_t> lead) {
        for (const ssize_t dim : lead) dims[ndim++] = dim;
    }
    Shape operator+(const Shape& rest) const {
        Shape all = *this;
        for (size_t i = 0; i < rest.ndim; ++i) all.dims[all.ndim++] = rest.dims[i];
        return all;
    }
};

inline std::string shape_text(const ssize_t* shape, size_t ndim) {
    std::string text = "(";
    for (size_t i = 0; i < ndim; ++i) text += std::to_string(shape[i]) + (i + 1 < ndim ? ", " : "");
    return text + (ndim == 1 ? ",)" : ")");
}

// An array argument by its name, as NumPy's C structures show it.
class Argument {
  public:
    Argument(const py::object& object, const char* name) : name_(name) {
        if (!py::isinstance<py::array>(object)) {
            throw py::type_error(std::string(name) + ": expected a numpy array, got " +
                                 std::string(py::str(py::type::of(object).attr("__name__"))));
        }
        object_ = object.ptr();
        PyObject* descr = py::detail::array_proxy(object_)->descr;
        kind_ = py::detail::array_descriptor_proxy(descr)->kind;
        byteorder_ = py::detail::array_descriptor_proxy(descr)->byteorder;
        item_ = py::reinterpret_borrow<py::array>(object).itemsize();
    }

    bool is(char kind, ssize_t itemsize) const {
        return kind_ == kind && item_ == itemsize && byteorder_ != '>';
    }

    // Refuses unless dtype, shape and flags are right; returns the data.
    template <class T>
    T* data(bool right_type, const char* dtype, const Shape& shape, Access access) const {
        const auto array = py::reinterpret_borrow<py::array>(object_);
        if (!right_type) {
            throw py::type_error(std::string(name_) + ": expected dtype " + dtype + ", got " +
                                 std::string(py::str(array.dtype())));
        }
        bool same = static_cast<size_t>(array.ndim()) == shape.ndim;
        for (size_t i = 0; same && i < shape.ndim; ++i) {
            same = array.shape(static_cast<ssize_t>(i)) == shape.dims[i];
        }
        if (!same) {
            throw py::value_error(std::string(name_) + ": expected shape " +
                                  shape_text(shape.dims, shape.ndim) + ", got " +
                                  shape_text(array.shape(), static_cast<size_t>(array.ndim())));
        }
        const int flags = array.flags();
        if (!(flags & py::array::c_style) ||
            !(flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
            throw py::value_error(std::string(name_) +
                                  ": expected a C-contiguous, aligned array (see "
                                  "numpy.ascontiguousarray)");
        }
        if (access == Access::kWrite && !(flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_)) {
            throw py::value_error(std::string(name_) + ": expected a writable array, got a "
                                                       "read-only one");
        }
        return static_cast<T*>(const_cast<void*>(array.data()));
    }

    float* floats(const Shape& shape) const {
        return data<float>(is('f', 4), "float32", shape, Access::kWrite);
    }
    uint8_t* flags(const Shape& shape, Access access) const {
        return data<uint8_t>(is('b', 1), "bool", shape, access);
    }
    void* observations(bool bytes, const Shape& shape) const {
        return bytes ? data<void>(is('u', 1), "uint8", shape, Access::kWrite) : floats(shape);
    }
    Actions actions(const Shape& shape) const {
        const ActionType type = is('i', 8)   ? ActionType::kInt64
                                : is('i', 4) ? ActionType::kInt32
                                             : ActionType::kByte;
        const bool right = type != ActionType::kByte || is('i', 1) || is('u', 1);
        return {data<void>(right, "int64, int32, uint8 or int8", shape, Access::kRead), type};
    }

  private:
    const char* name_;
    PyObject* object_;
    char kind_, byteorder_;
    ssize_t item_;
};

// Refuses arrays that share memory: writing one would change another while it is read.
struct Extent {
    const char* name;
    const void* begin;
    size_t bytes;
};

inline void refuse_overlap(std::initializer_list<Extent> extents) {
    for (const Extent* a = extents.begin(); a != extents.end(); ++a) {
        for (const Extent* b = extents.begin(); b != a; ++b) {
            const auto* first = static_cast<const char*>(a->begin);
            const auto* second = static_cast<const char*>(b->begin);
            if (first != nullptr && second != nullptr && first < second + b->bytes &&
                second < first + a->bytes) {
                throw py::value_error(std::string(b->name) + " and " + a->name +
                                      ": expected separate arrays, got shared memory");
            }
        }
    }
}

}  // namespace fastmaze
