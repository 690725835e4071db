#include <klens/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <fstream>
#include <numeric>

#include "support/bytes_asked.hpp"
#include "support/run_program.hpp"

namespace {

using support::temporary_folder;

const std::string brace = "{";  // "{" + std::string{} makes g++ 12 warn of memory that overlaps

std::string with_length(std::string_view header, std::uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + std::string(header);
}
std::string with_length(std::string_view header) { return with_length(header, header.size()); }

std::filesystem::path put(const temporary_folder& folder, const std::string& bytes) {
  const std::filesystem::path path = folder / "made.safetensors";
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

/// What opening a file of these bytes says, without the path in front of it.
std::string complaint(const std::string& bytes) {
  const temporary_folder folder;
  const std::filesystem::path path = put(folder, bytes);
  try {
    const klens::safetensors opened{path};
  } catch (const klens::file_error& error) {
    const std::string text = error.what();
    REQUIRE(text.starts_with(path.string() + ": "));
    CHECK(text.find('\n') == std::string::npos);
    return text.substr(path.string().size() + 2);
  }
  return "";
}

#define CHECK_COMPLAINS(bytes, part)             \
  do {                                           \
    const std::string said = complaint(bytes);   \
    INFO("said: '", said, "'");                  \
    CHECK(said.find(part) != std::string::npos); \
  } while (false)

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return "\"" + std::string(name) + R"(":{"dtype":")" + std::string(dtype) + R"(","shape":)" + std::string(shape) +
         R"(,"data_offsets":)" + std::string(offsets) + "}";
}

}  // namespace

TEST_CASE("safetensors: what was written comes back") {
  const temporary_folder folder;
  const std::vector<float> a{1.5f, -2.f, 3.f, 4.f, 5.f, 6.f};
  const std::vector<std::int64_t> b{7, -8};
  const std::vector<double> none;
  klens::write_safetensors(
      folder / "a",
      std::vector{klens::as_tensor<float>("weights", {2, 3}, a), klens::as_tensor<std::int64_t>("ids", {2}, b),
                  klens::as_tensor<double>("empty", {0, 5}, none)},
      {{"format", "pt"}, {"by", "a \"test\"\n"}});
  const klens::safetensors file{folder / "a"};
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.tensors()[0].name == "empty");  // sorted by name
  CHECK(file.tensors()[2].name == "weights");
  CHECK(file.at("weights").shape == std::vector<std::size_t>{2, 3});
  CHECK(file.at("weights").dtype == "F32");
  CHECK(file.values<float>("weights") == a);
  CHECK(file.integers("ids") == b);
  CHECK(file.values<double>("empty").empty());
  CHECK(file.metadata().at("by") == "a \"test\"\n");
  CHECK(!file.contains("weight"));
  CHECK_THROWS_AS((void)file.at("weight"), klens::file_error);
  CHECK_THROWS_AS((void)file.values<double>("weights"), klens::file_error);
}

TEST_CASE("safetensors: the bytes of the format, by hand") {
  const temporary_folder folder;
  // One BF16 value 1.0 (0x3f80) that begins at an odd address, after one byte.
  const std::string header = brace + entry("u", "U8", "[1]", "[0,1]") + "," + entry("w", "BF16", "[1]", "[1,3]") + "}";
  const klens::safetensors file{put(folder, with_length(header) + std::string("\x07\x80\x3f", 3))};
  float value = 0;
  file.copy_floats(file.at("w"), 0, {&value, 1});
  CHECK(value == 1.f);
  CHECK(file.values<std::uint8_t>("u") == std::vector<std::uint8_t>{7});
  CHECK_THROWS_AS(file.copy_floats(file.at("u"), 0, {}), klens::file_error);
}

TEST_CASE("safetensors: F16 and BF16 become the floats they stand for, from any element on") {
  const temporary_folder folder;
  const std::vector<float> exact{0.f, -0.f, 1.f, -2.5f, 65504.f, 5.9604645e-8f, 0.333251953125f};  // fp16 values
  std::vector<klens::half> halves;
  std::vector<klens::bfloat16> brains;
  for (const float each : exact) {
    halves.push_back(klens::half(each));
    brains.push_back(std::bit_cast<klens::bfloat16>(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(each) >> 16)));
  }
  klens::write_safetensors(folder / "a", std::vector{klens::as_tensor<klens::half>("h", {7}, halves),
                                                     klens::as_tensor<klens::bfloat16>("b", {7, 1}, brains)});
  const klens::safetensors file{folder / "a"};
  std::vector<float> all(7), some(2);
  file.copy_floats(file.at("h"), 0, all);
  CHECK(std::bit_cast<std::uint32_t>(all[1]) == 0x80000000u);
  CHECK(all == exact);
  file.copy_floats(file.at("h"), 3, some);
  CHECK(some == std::vector{-2.5f, 65504.f});
  file.copy_floats(file.at("b"), 2, some);
  CHECK(some == std::vector{1.f, -2.5f});
  file.release(file.at("h").bytes);  // and is read again
  file.copy_floats(file.at("h"), 0, all);
  CHECK(all == exact);
}

TEST_CASE("safetensors: a header can be written before the tensors, which then follow in pieces") {
  const temporary_folder folder;
  std::vector<float> values(1000);
  std::iota(values.begin(), values.end(), 0.f);
  klens::atomic_file file{folder / "a"};
  file.write(klens::safetensors_header(std::vector<klens::stored_tensor>{{"logits", "F32", {10, 100}, {}}}));
  for (std::size_t i = 0; i < 10; ++i) file.write(std::as_bytes(std::span(values).subspan(100 * i, 100)));
  file.commit();
  CHECK(klens::safetensors{folder / "a"}.values<float>("logits") == values);
}

TEST_CASE("safetensors: the writer refuses what it could not read") {
  const temporary_folder folder;
  const std::vector<float> a(6);
  const auto write = [&](std::vector<std::size_t> shape, std::string dtype) {
    klens::write_safetensors(
        folder / "a", std::vector{klens::stored_tensor{"w", std::move(dtype), std::move(shape), std::as_bytes(std::span(a))}});
  };
  CHECK_THROWS_AS(write({7}, "F32"), klens::argument_error);
  CHECK_THROWS_AS(write({6}, "F33"), klens::argument_error);
  CHECK_THROWS_AS(write({SIZE_MAX, SIZE_MAX}, "F32"), klens::argument_error);
  CHECK(!std::filesystem::exists(folder / "a"));
}

TEST_CASE("safetensors: every lie of a header is named") {
  const std::string w = entry("w", "F32", "[2]", "[0,8]"), eight(8, '\0');
  REQUIRE(complaint(with_length(brace + w + "}") + eight).empty());
  REQUIRE(complaint(with_length(brace + w + "}   ") + eight).empty());
  REQUIRE(complaint(with_length("{}")).empty());

  CHECK_COMPLAINS("", "is empty");
  CHECK_COMPLAINS("1234567", "too short");
  CHECK_COMPLAINS(with_length("{}", 3), "longer than the file");
  CHECK_COMPLAINS(with_length("{}", ~std::uint64_t{0}), "longer than the file");
  CHECK_COMPLAINS(with_length("{}", ~std::uint64_t{0} - 7), "longer than the file");
  CHECK_COMPLAINS(with_length(""), "does not begin with '{'");
  CHECK_COMPLAINS(with_length("[]"), "does not begin with '{'");
  CHECK_COMPLAINS(with_length(brace + w), "no JSON");
  CHECK_COMPLAINS(with_length(brace + w + "}x") + eight, "no JSON");
  CHECK_COMPLAINS(with_length("{\"\xff\":1}"), "no JSON");

  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[2]", "[0,9]") + "}") + eight, "outside the file");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[2]", "[8,0]") + "}") + eight, "outside the file");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[2]", "[0,18446744073709551615]") + "}") + eight, "outside the file");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[3]", "[0,8]") + "}") + eight, "not what its dtype and shape need");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[4611686018427387906]", "[0,8]") + "}") + eight,
                  "not what");  // 2^62 + 2
  CHECK_COMPLAINS(with_length(brace + entry("w", "F4", "[1]", "[0,0]") + "}"), "not what");
  CHECK_COMPLAINS(with_length(brace + w + "," + entry("v", "F32", "[1]", "[4,8]") + "}") + eight, "overlaps");
  CHECK_COMPLAINS(with_length(brace + entry("v", "F32", "[1]", "[4,8]") + "}") + eight, "gap");
  CHECK_COMPLAINS(with_length(brace + w + "," + entry("v", "F32", "[0]", "[9,9]") + "}") + eight + "1", "gap");
  CHECK_COMPLAINS(with_length(brace + w + "}") + eight + "1", "belong to no tensor");
  CHECK_COMPLAINS(with_length(brace + w + "," + entry("w", "F32", "[0]", "[8,8]") + "}") + eight, "twice");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[18446744073709551616]", "[0,8]") + "}") + eight, "no 64-bit count");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[-2]", "[0,8]") + "}") + eight, "negative");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[2.0]", "[0,8]") + "}") + eight, "no 64-bit count");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[[2]]", "[0,8]") + "}") + eight, "list");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[2]", "[0,8,9]") + "}") + eight, "too long");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "[2]", "[0]") + "}") + eight, "lacks");
  CHECK_COMPLAINS(with_length(brace + entry("w", "F32", "2", "[0,8]") + "}") + eight, "number");
  CHECK_COMPLAINS(with_length(R"({"w":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})") + eight, "number");
  CHECK_COMPLAINS(with_length(R"({"w":{"shape":[2],"data_offsets":[0,8]}})") + eight, "lacks");
  CHECK_COMPLAINS(with_length(R"({"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})") + eight, "twice");
  CHECK_COMPLAINS(with_length(R"({"w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})") + eight, "twice");
  CHECK_COMPLAINS(with_length(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":{}}})") + eight, "object");
  CHECK_COMPLAINS(with_length(R"({"w":null})"), "neither");
  CHECK_COMPLAINS(with_length(R"({"w":[1]})"), "list");
  CHECK_COMPLAINS(with_length(R"({"__metadata__":{"a":1}})"), "number");
  CHECK_COMPLAINS(with_length(R"({"a\nb":1})"), "'a?b'");
}

TEST_CASE("safetensors: an unknown type is refused when it is read, not before") {
  const temporary_folder folder;
  const klens::safetensors file{put(folder, with_length(brace + entry("odd", "X9", "[999999999999]", "[0,2]") + "," +
                                                        entry("w", "F32", "[1]", "[2,6]") + "}") +
                                                "123456")};
  CHECK(file.values<float>("w").size() == 1);
  CHECK_THROWS_AS((void)file.values<float>("odd"), klens::file_error);
  CHECK_THROWS_AS(file.copy_floats(file.at("odd"), 0, {}), klens::file_error);
}

TEST_CASE("safetensors: folders, missing files and pipes are refused") {
  const temporary_folder folder;
  CHECK_THROWS_AS(klens::safetensors{folder.path()}, klens::file_error);
  CHECK_THROWS_AS(klens::safetensors{folder / "none"}, klens::file_error);
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_AS(klens::safetensors{folder / "pipe"}, klens::file_error);
}

TEST_CASE("safetensors: a header costs memory in proportion to its own length") {
  const std::size_t length = 2'000'000;
  std::string shape = "[1";
  while (shape.size() < length) shape += ",1";
  std::string many = "{";
  while (many.size() < length) many += entry(std::to_string(many.size()), "F32", "[0]", "[0,0]") + ",";
  many.back() = '}';
  for (const std::string& header :
       {std::string("{\"a\":") + std::string(length, '['), std::string("{\"a\":{\"b\":") + std::string(length, '{'),
        brace + entry("w", "F32", shape + "]", "[0,4]") + "}", many}) {
    const temporary_folder folder;
    const std::filesystem::path path = put(folder, with_length(header));
    support::bytes_asked = 0;
    try {
      const klens::safetensors opened{path};
    } catch (const klens::file_error&) {
    }
    CHECK(support::bytes_asked < 20 * header.size());
  }
}

TEST_CASE("safetensors: names that are no UTF-8 are refused when they are written, by an error of klens") {
  const temporary_folder folder;
  const std::vector<float> one{1};
  const std::vector<klens::stored_tensor> latin{klens::as_tensor<float>("caf\xe9", {1}, one)};
  const std::vector<klens::stored_tensor> plain{klens::as_tensor<float>("w", {1}, one)};
  CHECK_THROWS_WITH_AS(klens::write_safetensors(folder / "a", latin), doctest::Contains("a name is no UTF-8"),
                       klens::argument_error);
  CHECK_THROWS_AS(klens::write_safetensors(folder / "a", plain, {{"from", "caf\xe9"}}), klens::argument_error);
  CHECK(!std::filesystem::exists(folder / "a"));
}
