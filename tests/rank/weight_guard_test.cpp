#include <klens/weight_guard.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <klens/rank/rank_layers.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Two rows of three weights behind callables; restoring fails while `refuses` is set.
struct remote_weights {
  std::vector<float> values{1.0f, 0.3f, -0.7f, 2.0f, -0.1f, 0.9f};
  std::vector<float> original = values;
  bool refuses = false;

  klens::layer as_layer() {
    return {"w", 2, 3, [this](klens::matrix_ref<float> into) { into = Eigen::Map<klens::matrix<float>>(values.data(), 2, 3); },
            [this](const klens::const_matrix_ref<float>& from) {
              const bool restoring = std::equal(original.begin(), original.end(), from.data());
              if (refuses && restoring) throw std::runtime_error{"device lost"};
              std::copy_n(from.data(), 6, values.begin());
            }};
  }
};

// The same weights as bfloat16 that nobody changes; floats are lent.
struct lending_engine {
  std::vector<klens::bfloat16> own{klens::bfloat16(1.0f),  klens::bfloat16(0.3f),  klens::bfloat16(-0.7f),
                                   klens::bfloat16(-0.0f), klens::bfloat16(-0.1f), klens::bfloat16(0.9f)};
  std::optional<klens::matrix<float>> lent;
  int lendings = 0;

  klens::layer as_layer() {
    return {"w", 2, 3,
            klens::lent_weights{[this](Eigen::Index first, klens::matrix_ref<float> into) {
                                  for (Eigen::Index i = 0; i < into.size(); ++i)
                                    into(i / 3, i % 3) = static_cast<float>(own[static_cast<std::size_t>(3 * first + i)]);
                                },
                                [this]() -> klens::matrix_ref<float> {
                                  ++lendings;
                                  return lent.emplace(2, 3);
                                },
                                [this] { lent.reset(); }}};
  }
};

}  // namespace

TEST_CASE("weight_guard: memory is lent while weights are changed, each scheme starts from the engine's own") {
  lending_engine engine;
  klens::layer of = engine.as_layer();
  const klens::matrix<float> before = of.load();
  CHECK(before(0, 1) == static_cast<float>(klens::bfloat16(0.3f)));
  CHECK(!engine.lent);
  klens::matrix<float> expected = before;
  {
    klens::weight_guard guard{of};
    CHECK(!guard.changed());
    CHECK(!engine.lent);
    guard.apply("int2-channel");
    CHECK(guard.changed());
    guard.apply("int4-channel");
    klens::round_trip(klens::scheme{"int4-channel"}, before, expected);
    CHECK(of.holds(expected));
    CHECK(*engine.lent == expected);
    CHECK(!of.holds(before));
    guard.apply("bf16");  // which keeps these weights
    CHECK(!guard.changed());
    CHECK(engine.lendings == 1);
    guard.restore();
    CHECK(!engine.lent);
    CHECK(of.holds(before));
    guard.apply("int2-channel");
  }
  CHECK(!engine.lent);
  CHECK(of.load() == before);
  of.store(expected);
  CHECK(*engine.lent == expected);
  CHECK_THROWS_AS((klens::layer{"w", 3, 2,
                                klens::lent_weights{[](Eigen::Index, klens::matrix_ref<float>) {},
                                                    [&]() -> klens::matrix_ref<float> { return *engine.lent; }, [] {}}}
                       .store(expected)),
                  klens::shape_error);
}

TEST_CASE("weight_guard: an engine that carries schemes out itself is asked for no floats, and takes the change back once") {
  std::string kept_as;
  int taken_back = 0;
  bool fails = false;
  klens::layer of{"w", 2, 3,
                  klens::lent_weights{[](Eigen::Index, klens::matrix_ref<float> into) { into.setZero(); },
                                      []() -> klens::matrix_ref<float> { throw klens::error{"no memory is lent"}; },
                                      [&] {
                                        kept_as.clear();
                                        ++taken_back;
                                      },
                                      [&](const klens::scheme& storage, std::size_t threads) -> klens::weight_change {
                                        kept_as = storage.name() + " by " + std::to_string(threads);
                                        if (fails) throw klens::error{"cannot be packed"};
                                        return {{8, 2}, storage.name() != "fp16"};
                                      }}};
  {
    klens::weight_guard guard{of};
    CHECK(guard.apply("int4-channel", {.threads = 3}).squared_error == 2);
    CHECK(kept_as == "int4-channel by 3");
    CHECK(guard.changed());
    guard.apply("fp16");
    CHECK(taken_back == 1);
    CHECK(!guard.changed());
    guard.restore();
    CHECK(taken_back == 2);
  }
  CHECK(taken_back == 2);
  fails = true;
  {
    klens::weight_guard guard{of};
    CHECK_THROWS_AS((void)guard.apply("fp16"), klens::error);
  }
  CHECK(taken_back == 3);
  CHECK(kept_as.empty());
}

TEST_CASE("weight_guard: weights are back bit for bit after every way out") {
  klens::matrix<float> weights{{1.0f, 0.3f, -0.0f}, {2.0f, -0.1f, 0.9f}};
  const klens::matrix<float> before = weights;
  klens::layer of{"w", weights};
  {
    klens::weight_guard guard{of};
    CHECK(!guard.changed());
    const klens::weight_error error = guard.apply("int2-channel");
    CHECK(error.squared_error > 0);
    CHECK(guard.changed());
    CHECK(weights != before);
    guard.apply("int4-channel");
    guard.restore();
    CHECK(of.holds(before));
    guard.apply("int2-channel");
  }
  CHECK(of.holds(before));
  try {
    klens::weight_guard guard{of};
    guard.apply("int2-channel");
    throw std::runtime_error{"the engine gave up"};
  } catch (const std::runtime_error&) {
  }
  CHECK(of.holds(before));
  CHECK(of.restore_failure.empty());
}

TEST_CASE("weight_guard: a store that throws while restoring is said by name, and remembered") {
  remote_weights remote;
  klens::layer of = remote.as_layer();
  {
    klens::weight_guard guard{of};
    guard.apply("int2-channel");
    remote.refuses = true;
    CHECK_THROWS_WITH_AS(guard.restore(),
                         "w: its weights are NOT back as they were, because store failed while restoring them (device lost); "
                         "load the model again before you use it",
                         klens::restore_error);
  }
  CHECK(of.restore_failure == "device lost");

  remote_weights silent;
  klens::layer other = silent.as_layer();
  {
    klens::weight_guard guard{other};
    guard.apply("int2-channel");
    silent.refuses = true;
  }  // no throw out of a destructor
  CHECK(other.restore_failure == "device lost");
}

TEST_CASE("rank_layers: an error of the forward does not hide that weights are not back") {
  remote_weights remote;
  std::vector<klens::layer> layers{remote.as_layer()};
  for (const auto from : {klens::direction::from_reference, klens::direction::from_quantized}) {
    remote = {};
    layers = {remote.as_layer()};
    const auto forward = [&]() -> klens::matrix<float> {
      if (remote.values != remote.original) {
        remote.refuses = true;
        throw std::runtime_error{"the engine gave up"};
      }
      return klens::matrix<float>{{1, 2, 3}};
    };
    klens::rank_options options;
    options.from = from;
    try {
      (void)klens::rank_layers(layers, forward, {"int2-channel"}, {klens::kl{}}, options);
      FAIL("the forward threw");
    } catch (const klens::scan_error& caught) {
      const std::string text = caught.what();
      CHECK(text.find("the engine gave up") != std::string::npos);
      CHECK(text.find("w: its weights are NOT back as they were") != std::string::npos);
      CHECK(text.find("load the model again") != std::string::npos);
    }
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, forward, {"int2-channel"}), doctest::Contains("NOT back"),
                         klens::argument_error);
  }
}

TEST_CASE("rank_layers: a store that fails while restoring ends the scan, also where nothing else went wrong") {
  for (const auto from : {klens::direction::from_reference, klens::direction::from_quantized}) {
    remote_weights remote;
    std::vector<klens::layer> layers{remote.as_layer()};
    int calls = 0;
    const auto forward = [&]() -> klens::matrix<float> {
      remote.refuses = ++calls == 2 && from == klens::direction::from_reference;
      if (from == klens::direction::from_quantized) remote.refuses = calls == 3;
      return Eigen::Map<klens::matrix<float>>(remote.values.data(), 2, 3);
    };
    klens::rank_options options;
    options.from = from;
    options.repeat_reference = false;
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, forward, {"int2-channel"}, {klens::kl{}}, options),
                         doctest::Contains("NOT back"), klens::scan_error);
  }
}
