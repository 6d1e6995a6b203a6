#pragma once

#include <memory>
#include <string>

#include "tests/support/fake_state.hpp"

/// What the fake kernel's parts know of images.
namespace ordinald::testing {

/// A file in a pool, by its path.
ImageRef image_at(const std::string& path);

std::string path_of(const ImageRef& ref);

/// The image, which must be there and this volume's.
Result<std::shared_ptr<FakeImage>> own_image(const FakeState& state, const ImageRef& ref);

}  // namespace ordinald::testing
