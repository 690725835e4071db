// Every value of golden-quantizers.safetensors (NumPy, NNCF 3.4.0, gguf 0.19.0, PyTorch) and of golden-float-schemes.safetensors,
// which tests/data/make_golden_float_schemes.py makes (PyTorch 2.15.0), and of golden-gguf.safetensors, which
// tests/data/make_golden_gguf.py makes (ggml of llama-cpp-python 0.3.36, gguf 0.19.0), bit for bit.
#include <klens/quant/scheme.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <klens/io/safetensors.hpp>
#include <klens/quant/packing.hpp>
#include <string>
#include <vector>

namespace {

// "absmax_int4_g32" -> "int4-g32-f32", "nncf_int8_sym_channel" -> "int8-signed-channel-f32"; empty for what klens does not
// carry out.
std::string scheme_of(const std::string& golden) {
  if (golden == "fp16" || golden == "bf16") return golden;
  if (golden.starts_with("ggml_")) return golden.ends_with("_bytes") ? "" : golden.substr(5);
  const bool nncf = golden.starts_with("nncf_");
  if (!nncf && !golden.starts_with("absmax_")) return {};
  const std::string rest = golden.substr(golden.find('_') + 1);  // int4_sym_g32, int4_g32
  const std::string bits = rest.substr(0, rest.find('_')), group = rest.substr(rest.rfind('_') + 1);
  const std::string grid = !nncf ? "" : rest.find("_asym_") != std::string::npos ? "-asym" : "-signed";
  return bits + grid + "-" + group + "-f32";
}

}  // namespace

TEST_CASE("quantizers: golden values of independent programs, bit for bit") {
  const klens::safetensors golden{KLENS_TEST_DATA "/golden-quantizers.safetensors"};
  std::size_t checked = 0;
  for (const std::string kind : {"plain", "outlier", "skew", "edge", "tail"}) {
    const auto& shape = golden.at(kind + ".weight").shape;
    const std::vector<float> weights = golden.values<float>(kind + ".weight");
    for (const klens::stored_tensor& tensor : golden.tensors()) {
      if (!tensor.name.starts_with(kind + ".")) continue;
      const std::string name = tensor.name.substr(kind.size() + 1), scheme_name = scheme_of(name);
      if (scheme_name.empty()) continue;
      INFO(tensor.name << " as " << scheme_name);
      const klens::scheme scheme{scheme_name};
      const klens::packer packer{scheme};
      const std::vector<float> expected = golden.values<float>(tensor.name);
      for (std::size_t r = 0; r < shape[0]; ++r) {
        // Two rows show quirks of NNCF: of all +0.25 it gets the scale's sign wrong, for 1e-30 its scale has a floor.
        if (kind == "edge" && name.starts_with("nncf_") && (r == 1 || r == 3)) continue;
        const std::span row = std::span(weights).subspan(r * shape[1], shape[1]);
        std::vector<float> kept(shape[1]);
        scheme.round_trip(row, kept);
        // Adding 0 makes the zeros of both signs one: programs differ there, and no product can tell.
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < kept.size(); ++i) wrong += kept[i] + 0.0f != expected[r * shape[1] + i] + 0.0f ? 1 : 0;
        CHECK_MESSAGE(wrong == 0, "row " << r);
        std::vector<std::byte> packed(packer.bytes(shape[1]));
        packer.pack(row, packed);
        std::vector<float> unpacked(shape[1]);
        packer.unpack(packed, unpacked);
        CHECK(std::memcmp(unpacked.data(), kept.data(), kept.size() * sizeof(float)) == 0);
        if (golden.contains(tensor.name + "_bytes")) {
          const std::vector<std::uint8_t> bytes = golden.values<std::uint8_t>(tensor.name + "_bytes");
          REQUIRE(bytes.size() == packed.size() * shape[0]);
          CHECK(std::memcmp(packed.data(), bytes.data() + r * packed.size(), packed.size()) == 0);
        }
        ++checked;
      }
    }
  }
  CHECK(checked > 2000);
}

TEST_CASE("scaled floats and nf4: the bytes and the values of independent definitions") {
  const klens::safetensors golden{KLENS_TEST_DATA "/golden-float-schemes.safetensors"};
  const klens::safetensors source{KLENS_TEST_DATA "/golden-quantizers.safetensors"};
  std::size_t rows = 0, rows_of_values = 0;
  for (const klens::stored_tensor& tensor : golden.tensors()) {
    if (tensor.name.ends_with("_kept")) continue;
    INFO(tensor.name);
    const std::size_t dot = tensor.name.find('.');
    const std::string weights_name = tensor.name.substr(0, dot) + ".weight";
    const std::size_t columns = source.at(weights_name).shape[1];
    const std::vector<float> weights = source.values<float>(weights_name);
    const std::vector<std::uint8_t> bytes = golden.values<std::uint8_t>(tensor.name);
    std::vector<float> values;
    if (golden.contains(tensor.name + "_kept")) values = golden.values<float>(tensor.name + "_kept");
    const klens::scheme scheme{tensor.name.substr(dot + 1)};
    const klens::packer packer{scheme};
    std::vector<std::byte> packed(packer.bytes(columns));
    std::vector<float> kept(columns), unpacked(columns);
    REQUIRE(bytes.size() * columns == packed.size() * weights.size());
    for (std::size_t r = 0; r < weights.size() / columns; ++r, ++rows) {
      CAPTURE(r);
      const std::span row = std::span(weights).subspan(r * columns, columns);
      packer.pack(row, packed);
      CHECK(std::memcmp(packed.data(), bytes.data() + r * packed.size(), packed.size()) == 0);
      scheme.round_trip(row, kept);
      packer.unpack(packed, unpacked);
      CHECK(std::memcmp(unpacked.data(), kept.data(), columns * sizeof(float)) == 0);
      if (values.empty()) continue;
      ++rows_of_values;
      CHECK(std::memcmp(kept.data(), values.data() + r * columns, columns * sizeof(float)) == 0);
    }
  }
  CHECK(rows == 6 * 144);
  CHECK(rows_of_values == 6 * 48);
}

TEST_CASE("GGUF types: the bytes of ggml and the values of gguf") {
  const klens::safetensors golden{KLENS_TEST_DATA "/golden-gguf.safetensors"};
  const klens::safetensors source{KLENS_TEST_DATA "/golden-quantizers.safetensors"};
  std::size_t rows = 0, rows_of_values = 0;
  for (const klens::stored_tensor& tensor : golden.tensors()) {
    if (tensor.name.ends_with("_kept")) continue;
    const std::size_t dot = tensor.name.find('.');
    const std::vector<float> weights = source.values<float>(tensor.name.substr(0, dot) + ".weight");
    const std::vector<std::uint8_t> bytes = golden.values<std::uint8_t>(tensor.name);
    std::vector<float> values;
    if (golden.contains(tensor.name + "_kept")) values = golden.values<float>(tensor.name + "_kept");
    const klens::scheme scheme{tensor.name.substr(dot + 1)};
    const klens::packer packer{scheme};
    std::vector<std::byte> packed(packer.bytes(256));
    std::vector<float> kept(256), unpacked(256);
    REQUIRE(bytes.size() == weights.size() / 256 * packed.size());
    for (std::size_t r = 0; r < weights.size() / 256; ++r, ++rows) {
      INFO(tensor.name << ", row " << r);
      const std::span row = std::span(weights).subspan(r * 256, 256);
      packer.pack(row, packed);
      CHECK(std::memcmp(packed.data(), bytes.data() + r * packed.size(), packed.size()) == 0);
      scheme.round_trip(row, kept);
      packer.unpack(packed, unpacked);
      CHECK(std::memcmp(unpacked.data(), kept.data(), 256 * sizeof(float)) == 0);
      if (values.empty()) continue;
      ++rows_of_values;
      CHECK(std::memcmp(kept.data(), values.data() + r * 256, 256 * sizeof(float)) == 0);
    }
  }
  CHECK(rows == 6 * 124);
  CHECK(rows_of_values == 6 * 12);
}
