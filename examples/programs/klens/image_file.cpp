#include "image_file.hpp"

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <span>
#include <string>

#include "fingerprint.hpp"

namespace programs {

token_set image_set::as_sequences() const {
  const std::span<const float> all{pixels.data(), static_cast<std::size_t>(pixels.size())};
  token_set set{{}, static_cast<std::size_t>(pixels.rows()), 1};
  set.content = fingerprint_hasher{}.add(each.height).add(each.width).add(std::as_bytes(all)).text();
  return set;
}

image_set read_images(const token_choice& choice) {
  const klens::safetensors file{choice.file};
  const auto refuse = [&](const std::string& problem) { throw klens::file_error{file.path().string() + ": " + problem}; };
  if (choice.length) throw klens::argument_error{"--length: this model reads images, which have none"};
  if (!file.contains("images"))
    refuse("has no tensor 'images'; this model classifies images, and klens reads them as images [n, 3, height, width]");
  const klens::stored_tensor& tensor = file.at("images");
  const std::vector<std::size_t>& shape = tensor.shape;
  if (shape.size() != 4 || shape[1] != 3 || tensor.elements() == 0)
    refuse("images has shape " + klens::shape_text(shape) + "; klens wants [n, 3, height, width]");
  const std::size_t there = shape[0] - std::min(shape[0], choice.first), count = choice.sequences.value_or(there);
  if (count == 0)
    refuse("there are no images after the first " + std::to_string(choice.first) + " of " + std::to_string(shape[0]));
  if (count > there)
    refuse("holds " + std::to_string(there) + " images after the first " + std::to_string(choice.first) + ", not " +
           std::to_string(count) + "; choose a smaller --sequences or --first");
  image_set read{{}, {shape[2], shape[3]}};
  const std::size_t size = 3 * read.each.places();
  read.pixels.resize(static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(size));
  for (std::size_t i = 0; i < count; ++i) {
    const std::span<float> one = klens::row(read.pixels, static_cast<Eigen::Index>(i));
    file.copy_floats(tensor, (choice.first + i) * size, one);
    if (!std::ranges::all_of(one, [](float value) { return std::isfinite(value); }))
      refuse("images holds a NaN or an infinity in image " + std::to_string(choice.first + i));
  }
  return read;
}

}  // namespace programs
