/// What the files of bindings share: buffers, checks of their sizes, and the interpreter lock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "mask.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace engine {

template <class T>
using Buffer = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

template <class T>
Array<T> to_array(std::vector<T>&& values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return Array<T>(owned->data(), {owned->size()}, owner);
}

inline std::string_view view(const nb::bytes& data) {
    return {static_cast<const char*>(data.data()), data.size()};
}

/// A mask of any other length belongs to another vocabulary, or is no bit mask at all.
inline void check_words(std::size_t words, std::size_t n_vocab) {
    if (words != mask_words(n_vocab))
        throw nb::value_error(("a mask over " + std::to_string(n_vocab) + " tokens has " +
                               std::to_string(mask_words(n_vocab)) + " words, this one has " +
                               std::to_string(words))
                                  .c_str());
}

template <class Work>
auto without_lock(Work&& work) {
    const nb::gil_scoped_release release;
    return work();
}

/// Errors, vocabularies, grammars and matchers: in bindings_grammar.cpp.
void bind_grammar(nb::module_& m);

} // namespace engine
