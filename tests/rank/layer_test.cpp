#include <klens/layer.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <utility>

TEST_CASE("kind_of: the last part of a name that says what the layer does") {
  CHECK(klens::kind_of("model.layers.0.mamba.x_proj.weight") == "x_proj");
  CHECK(klens::kind_of("model.layers.0.mamba.in_proj.weight[z]") == "in_proj");
  CHECK(klens::kind_of("lm_head.weight") == "lm_head");
  CHECK(klens::kind_of("head") == "head");
  CHECK(klens::kind_of("blk.3.ffn_up") == "ffn_up");
  CHECK(klens::kind_of("weight") == "weight");
  CHECK(klens::kind_of(".weight").empty());
  CHECK(klens::kind_of("").empty());
}

TEST_CASE("layer: float memory is read and written in place, also with a gap between rows") {
  klens::matrix<float> memory{{1, 2, 99}, {3, 4, 99}};
  klens::layer of{"w", memory.leftCols(2)};
  CHECK(of.rows() == 2);
  CHECK(of.columns() == 2);
  CHECK(of.load() == klens::matrix<float>{{1, 2}, {3, 4}});
  of.store(klens::matrix<float>{{5, 6}, {7, 8}});
  CHECK(memory == klens::matrix<float>{{5, 6, 99}, {7, 8, 99}});
  CHECK(of.is_float_memory());
  of.floats()(1, 1) = 9;
  CHECK(memory(1, 1) == 9);
}

TEST_CASE("layer: a range of rows is a layer of its own") {
  klens::matrix<float> fused{{1, 2}, {3, 4}, {5, 6}};
  klens::layer lower{"w[z]", fused.bottomRows(2)};
  lower.store(klens::matrix<float>{{0, 0}, {0, 0}});
  CHECK(fused == klens::matrix<float>{{1, 2}, {0, 0}, {0, 0}});
}

TEST_CASE("layer: every finite fp16 and bf16 value comes back bit for bit") {
  const auto check = [](auto zero) {
    using stored = decltype(zero);
    klens::matrix<stored> memory(256, 256);
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const auto value = Eigen::numext::bit_cast<stored>(static_cast<std::uint16_t>(bits));
      memory.data()[bits] = std::isfinite(static_cast<float>(value)) ? value : stored(0);
    }
    const klens::matrix<stored> before = memory;
    klens::layer of{"w", memory};
    const klens::matrix<float> kept = of.load();
    memory.setZero();
    CHECK(!of.holds(kept));
    of.store(kept);
    CHECK(of.holds(kept));
    CHECK(std::memcmp(memory.data(), before.data(), sizeof(stored) * 65536) == 0);
  };
  check(klens::half{});
  check(klens::bfloat16{});
}

TEST_CASE("layer: narrow memory rounds what is stored, as the engine would") {
  klens::matrix<klens::bfloat16> memory(1, 2);
  klens::layer of{"w", memory};
  of.store(klens::matrix<float>{{1.00390625f, 1.01171875f}});  // halfway between neighbours of bf16: to even
  CHECK(of.load() == klens::matrix<float>{{1.0f, 1.015625f}});
}

TEST_CASE("layer: a pair of callables stands for weights that nothing can point at") {
  float stored[] = {1, 2, 3, 4, 5, 6};
  klens::layer of{"w", 3, 2,
                  [&](klens::matrix_ref<float> into) {
                    for (int i = 0; i < 6; ++i) into(i / 2, i % 2) = stored[i];
                  },
                  [&](klens::const_matrix_ref<float> from) {
                    for (int i = 0; i < 6; ++i) stored[i] = from(i / 2, i % 2);
                  }};
  CHECK(of.load() == klens::matrix<float>{{1, 2}, {3, 4}, {5, 6}});
  of.store(klens::matrix<float>::Constant(3, 2, 7));
  CHECK(stored[5] == 7);
  CHECK(of.holds(klens::matrix<float>::Constant(3, 2, 7)));
  CHECK(!of.is_float_memory());
}

TEST_CASE("layer: holds tells zeros by their sign, as bits do") {
  klens::matrix<float> memory{{0.0f}};
  const klens::layer of{"w", memory};
  CHECK(of.holds(klens::matrix<float>{{0.0f}}));
  CHECK(!of.holds(klens::matrix<float>{{-0.0f}}));
}

TEST_CASE("layer: one without weights is refused") {
  klens::matrix<float> nothing(0, 4);
  CHECK_THROWS_WITH_AS((klens::layer{"w", nothing}), "w: a layer needs at least one weight, its shape is 0x4",
                       klens::shape_error);
}

TEST_CASE("layer: views of every kind, const handles of writable memory among them") {
  klens::matrix<float> memory{{1, 2}, {3, 4}};
  const klens::matrix_ref<float> ref = memory;
  const Eigen::Map<klens::matrix<float>> map{memory.data(), 2, 2};
  for (klens::layer of : {klens::layer{"w", ref}, klens::layer{"w", map}, klens::layer{"w", memory.topRows(2)}}) {
    of.floats()(1, 0) += 1;
    CHECK(of.holds(memory));
  }
  CHECK(memory(1, 0) == 6);
}

TEST_CASE("layer: plain pointers to float, fp16 and bf16, with a stride, and 16 bits that are said to be either") {
  float floats[] = {1, 2, 99, 3, 4, 99};
  klens::layer of_floats{"w", floats, 2, 2, 3};
  CHECK(of_floats.load() == klens::matrix<float>{{1, 2}, {3, 4}});
  of_floats.store(klens::matrix<float>{{5, 6}, {7, 8}});
  CHECK(floats[2] == 99);
  CHECK(floats[3] == 7);

  klens::half halves[] = {klens::half(1.5f), klens::half(-2.0f)};
  CHECK(klens::layer{"w", halves, 1, 2}.load() == klens::matrix<float>{{1.5f, -2.0f}});
  klens::bfloat16 bfloats[] = {klens::bfloat16(1.5f), klens::bfloat16(-2.0f)};
  CHECK(klens::layer{"w", bfloats, 2, 1}.load() == klens::matrix<float>{{1.5f}, {-2.0f}});
  std::uint16_t as_fp16[] = {0x3e00, 0xc000}, as_bf16[] = {0x3fc0, 0xc000};
  CHECK(klens::layer{"w", as_fp16, klens::weight_bits::as_fp16, 1, 2}.load() == klens::matrix<float>{{1.5f, -2.0f}});
  CHECK(klens::layer{"w", as_bf16, klens::weight_bits::as_bf16, 1, 2}.load() == klens::matrix<float>{{1.5f, -2.0f}});

  CHECK_THROWS_WITH_AS((klens::layer{"w", floats, 2, 3, 2}), doctest::Contains("cannot lie 2 apart"), klens::shape_error);
  CHECK_THROWS_AS((klens::layer{"w", static_cast<float*>(nullptr), 2, 3}), klens::argument_error);
}
