#include "profile_study.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <klens/error.hpp>
#include <nlohmann/json.hpp>

namespace {

using namespace openvino_adapter;

klens::matrix<float> two_rows(float first) {
  klens::matrix<float> logits = klens::matrix<float>::Zero(2, 3);
  logits(0, 0) = first;
  return logits;
}

// Two models on one sequence of two tokens.
profile_study small_study(bool trained) {
  profile_study study{{.length = 2, .threads = 1, .runs = 10}, {}, {}};
  study.request.held_out.emplace().file = "held.safetensors";
  study.request.trained = trained;
  study.held_out = {{0, 1}, 1, 2};
  for (const char* name : {"first", "second <b>"}) {
    model_profile& each = study.profiles.emplace_back(model_profile{{name, "m.xml", "models"}, "CPU", "CPU in f32"});
    each.bytes = 3'000'000;
    each.start = {0.5, 0.25, 7'000'000};
    for (int i = 1; i <= 10; ++i) each.seconds.push_back(0.001 * i);
    each.quality.emplace();
    each.quality->add(two_rows(0), two_rows(static_cast<float>(study.profiles.size() - 1)),
                      {.length = 2, .tokens = study.held_out.tokens});
  }
  return study;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("median and p90 are the times that half and nine tenths of the runs do not exceed") {
  const profile_study study = small_study(true);
  CHECK(study.profiles[0].seconds_at(0.5) == 0.005);
  CHECK(study.profiles[0].seconds_at(0.9) == 0.001 * 9);
  CHECK(study.profiles[0].seconds_at(1) == 0.001 * 10);
  CHECK(study.tokens_per_second(study.profiles[0]) == 2 / 0.005);
}

TEST_CASE("profile.json has what was measured, and perplexity only of models that were trained") {
  const auto document = nlohmann::json::parse(profile_json(small_study(true)));
  CHECK(document["format"] == "klens-profile");
  CHECK(document["tokens"]["sequences"] == 1);
  const auto& second = document["models"][1];
  CHECK(second["name"] == "second <b>");
  CHECK(second["bytes"] == 3'000'000);
  CHECK(second["load_seconds"] == 0.5);
  CHECK(second["first_seconds"] == 0.25);
  CHECK(second["peak_bytes"] == 7'000'000);
  CHECK(second["median_seconds"] == 0.005);
  CHECK(second["p90_seconds"] == 0.001 * 9);
  // P is even over three; Q is (e, 1, 1) / (e + 2) at one of two positions, the one with a next token, which is 1.
  const double e = std::exp(1.0), kl = (std::log((e + 2) / 3) - 1.0 / 3) / 2;
  CHECK(std::abs(second["kl"].get<double>() - kl) < 1e-6);
  CHECK(std::abs(second["perplexity"].get<double>() - (e + 2)) < 1e-5);
  CHECK(document["models"][0]["kl"] == 0);
  CHECK_FALSE(nlohmann::json::parse(profile_json(small_study(false)))["models"][1].contains("perplexity"));
}

TEST_CASE("the page has the table and a picture each of size and speed against KL and perplexity") {
  const std::string page = profile_page(small_study(true)), random = profile_page(small_study(false));
  for (const char* title : {"Size against KL", "Speed against KL"}) {
    CHECK(has(page, title));
    CHECK(has(random, title));
  }
  CHECK(has(page, "Speed against perplexity"));
  CHECK_FALSE(has(random, "against perplexity"));
  CHECK(has(page, "second &lt;b&gt;"));
  CHECK_FALSE(has(page, "<b>"));
}

TEST_CASE("a device that is not there is named, with those that are") {
  expect_devices({"CPU", "AUTO"});
  try {
    expect_devices({"CPU", "TPU"});
    FAIL("accepted");
  } catch (const klens::argument_error& caught) {
    CHECK(has(caught.what(), "--device TPU: is not there; there are AUTO, CPU"));
  }
}
