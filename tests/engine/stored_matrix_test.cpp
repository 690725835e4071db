#include "engine/stored_matrix.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/run_program.hpp"

using klens::matrix;
using programs::stored_matrix;

namespace {

/// Every finite value of a 16-bit type, 64 rows of them, behind a tensor of one byte: at an odd address.
template <class T>
void check_all_values() {
  std::vector<T> all;
  for (std::uint32_t bits = 0; bits < 1 << 16; ++bits)
    if (const T value = std::bit_cast<T>(static_cast<std::uint16_t>(bits)); std::isfinite(static_cast<float>(value)))
      all.push_back(value);
  const std::size_t rows = 64, columns = all.size() / rows;
  all.resize(rows * columns);
  const support::temporary_folder folder;
  const std::vector<std::uint8_t> one{7};
  const klens::stored_tensor tensors[] = {klens::as_tensor<std::uint8_t>("a", {1}, one),
                                          klens::as_tensor<T>("w", {rows, columns}, all)};
  klens::write_safetensors(folder / "w.safetensors", tensors);
  const auto file = std::make_shared<const klens::safetensors>(folder / "w.safetensors");
  const stored_matrix stored(file, file->at("w"), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
  matrix<float> found(21, stored.columns());
  for (Eigen::Index first = 0; first + found.rows() <= stored.rows(); first += found.rows()) {
    stored.read(first, found);
    for (Eigen::Index i = 0; i < found.size(); ++i) {
      const float expected = static_cast<float>(all[static_cast<std::size_t>(first * found.cols() + i)]);
      REQUIRE(std::bit_cast<std::uint32_t>(found.data()[i]) == std::bit_cast<std::uint32_t>(expected));
    }
  }
}

matrix<float> counted(Eigen::Index rows, Eigen::Index columns) {
  matrix<float> made(rows, columns);
  for (Eigen::Index i = 0; i < made.size(); ++i) made.data()[i] = static_cast<float>(i);
  return made;
}

/// Bytes of a mapped file that are in memory.
std::size_t resident_bytes(const std::filesystem::path& file) {
  std::ifstream maps{"/proc/self/smaps"};
  std::size_t kilobytes = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) inside = line.ends_with(file.string());
    if (inside && line.starts_with("Rss:")) kilobytes += std::stoul(line.substr(4));
  }
  return kilobytes * 1024;
}

}  // namespace

TEST_CASE("stored_matrix: every F16, BF16 and F32 value as the float that it is, at any address") {
  check_all_values<klens::half>();
  check_all_values<klens::bfloat16>();
  const support::temporary_folder folder;
  const std::vector<std::uint8_t> one{7};
  const std::vector<float> values{1.5f, -0.f, 3e38f, 1e-40f, 0.1f, -2};
  const klens::stored_tensor tensors[] = {klens::as_tensor<std::uint8_t>("a", {1}, one),
                                          klens::as_tensor<float>("w", {2, 3}, values)};
  klens::write_safetensors(folder / "w.safetensors", tensors);
  const auto file = std::make_shared<const klens::safetensors>(folder / "w.safetensors");
  matrix<float> found(2, 3);
  stored_matrix(file, file->at("w"), 2, 3).read(0, found);
  CHECK(std::vector<float>(found.data(), found.data() + 6) == values);
}

TEST_CASE("stored_matrix: what is lent counts for its rows until it is taken back") {
  const matrix<float> own = counted(10, 3);
  stored_matrix stored(own);
  stored.lend(2, 4) = -counted(4, 3);
  stored.lend(7, 2).setConstant(-20);
  const auto read = [&](Eigen::Index first, Eigen::Index rows) {
    matrix<float> some(rows, 3);
    stored.read(first, some);
    return some;
  };
  matrix<float> expected = own;
  expected.middleRows(2, 4) = -counted(4, 3);
  expected.middleRows(7, 2).setConstant(-20);
  for (Eigen::Index first = 0; first < 10; ++first)
    for (Eigen::Index rows = 1; first + rows <= 10; ++rows) CHECK(read(first, rows) == expected.middleRows(first, rows));
  matrix<float> some(4, 3);
  stored.read_own(1, some);
  CHECK(some == own.middleRows(1, 4));
  stored.take_back(2, 4);
  expected.middleRows(2, 4) = own.middleRows(2, 4);
  CHECK(read(0, 10) == expected);
  stored.take_back(7, 2);
  CHECK(read(0, 10) == own);
}

TEST_CASE("stored_matrix: while much is lent, what is read of a file does not stay in memory") {
  const support::temporary_folder folder;
  const matrix<float> values = counted(1024, 1024);
  const klens::stored_tensor tensors[] = {
      klens::as_tensor<float>("w", {1024, 1024}, {values.data(), static_cast<std::size_t>(values.size())})};
  const std::filesystem::path path = folder / "w.safetensors";
  klens::write_safetensors(path, tensors);
  const auto file = std::make_shared<const klens::safetensors>(path);
  const stored_matrix stored(file, file->at("w"), 1024, 1024);
  stored_matrix other(matrix<float>(3, 3 << 20));
  matrix<float> found(1024, 1024);
  const auto resident_after_reading = [&] {
    file->release(file->at("w").bytes);
    for (Eigen::Index first = 0; first < 1024; first += 256) stored.read(first, found.middleRows(first, 256));
    CHECK(found == values);
    return resident_bytes(path);
  };
  CHECK(resident_after_reading() >= 4 << 20);
  (void)other.lend(0, 2);
  CHECK(resident_after_reading() >= 4 << 20);  // 24 MiB are not much
  (void)other.lend(2, 1);
  CHECK(resident_after_reading() < 1 << 20);
  other.take_back(2, 1);
  CHECK(resident_after_reading() >= 4 << 20);
}
