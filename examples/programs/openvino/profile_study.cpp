#include "profile_study.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <klens/error.hpp>

#include "ir_session.hpp"
#include "terminal.hpp"
#include "token_file.hpp"

namespace openvino_adapter {
namespace {

constexpr std::size_t runs_in_turn = 4;  // after one that brings a model's weights back into the caches

std::vector<std::int32_t> any_tokens(std::size_t length) {
  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < length; ++i) tokens.push_back(static_cast<std::int32_t>(i % 100));
  return tokens;
}

void run_in_turns(std::vector<model_profile>& profiles, const profile_request& request) {
  std::deque<ir_session> sessions;
  for (model_profile& each : profiles) {
    sessions.emplace_back(read_ir(each.subject.xml), each.device, fast_settings(each.device, request.threads), 1);
    each.settings = sessions.back().settings();
  }
  const std::vector<std::int32_t> tokens = any_tokens(request.length);
  programs::progress_line line;
  for (std::size_t done = 0; done < request.runs; done += runs_in_turn)
    for (std::size_t m = 0; m < profiles.size(); ++m) {
      line.show(programs::text("timing: run %zu/%zu, model %zu/%zu", done + 1, request.runs, m + 1, profiles.size()));
      sessions[m].run(tokens);
      for (std::size_t run = done; run < std::min(done + runs_in_turn, request.runs); ++run) {
        const auto begun = std::chrono::steady_clock::now();
        sessions[m].run(tokens);
        profiles[m].seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
      }
    }
  for (model_profile& each : profiles) std::ranges::sort(each.seconds);
}

programs::token_set held_out_tokens(const checked_ir& first, const profile_request& request) {
  programs::token_choice choice = *request.held_out;
  choice.length = request.length;
  if (request.length < 2) throw klens::argument_error{"--length 1: no token has a next one to predict; leave --tokens away"};
  programs::token_set tokens = programs::read_tokens(choice, first.vocabulary, 0, 64);
  programs::expect_next_tokens(tokens);
  return tokens;
}

void measure_quality(profile_study& study) {
  const profile_request& request = study.request;
  const programs::token_set& tokens = study.held_out;
  std::deque<ir_session> sessions;
  for (const model_profile& each : study.profiles)
    if (each.device == request.devices.front())
      sessions.emplace_back(read_ir(each.subject.xml), "CPU", exact_settings(request.threads), request.threads);
  std::vector<klens::measured_version> measured(sessions.size());
  const std::size_t at_once = 2 * request.threads;
  programs::progress_line line;
  for (std::size_t first = 0; first < tokens.sequences; first += at_once) {
    const programs::token_set some = tokens.part(first, std::min(at_once, tokens.sequences - first));
    const std::vector<std::int32_t> targets = some.targets();
    const klens::matrix<float> reference = sessions[0].logits(some.tokens, some.length);
    for (std::size_t m = 0; m < sessions.size(); ++m) {
      line.show(
          programs::text("measuring: sequence %zu/%zu, model %zu/%zu", first + 1, tokens.sequences, m + 1, sessions.size()));
      measured[m].add(reference, m == 0 ? reference : sessions[m].logits(some.tokens, some.length),
                      {.length = some.length, .tokens = targets, .counted = some.counted(), .threads = request.threads});
    }
  }
  for (std::size_t p = 0; p < study.profiles.size(); ++p) study.profiles[p].quality = measured[p % sessions.size()];
}

}  // namespace

double model_profile::seconds_at(double share) const {
  const auto last = static_cast<double>(seconds.size());
  return seconds[static_cast<std::size_t>(std::max(1.0, std::ceil(share * last))) - 1];
}

void expect_devices(const std::vector<std::string>& wanted) {
  const std::vector<std::string> present = core().get_available_devices();
  std::string known = "AUTO";
  for (const std::string& each : present) known += ", " + each;
  for (const std::string& each : wanted)
    if (each != "AUTO" &&
        std::ranges::none_of(present, [&](const std::string& one) { return one == each || one.starts_with(each + "."); }))
      throw klens::argument_error{"--device " + each + ": is not there; there are " + known};
}

profile_study profile_models(const std::vector<profile_subject>& subjects, const profile_request& request) {
  profile_study study{request, {}, {}};
  expect_devices(request.devices);
  const checked_ir first = read_ir(subjects.front().xml);
  for (const profile_subject& each : subjects)
    if (const std::size_t vocabulary = read_ir(each.xml).vocabulary; vocabulary != first.vocabulary)
      throw klens::argument_error{each.xml.string() + ": has a vocabulary of " + std::to_string(vocabulary) + ", " +
                                  first.path + " one of " + std::to_string(first.vocabulary) +
                                  "; profile versions of one model"};
  if (request.held_out) study.held_out = held_out_tokens(first, request);
  for (const std::string& device : request.devices)
    for (const profile_subject& each : subjects) {
      model_profile& profile = study.profiles.emplace_back(model_profile{each, device, {}});
      profile.start = start_in_new_process({each.xml, device, request.length, request.threads});
      profile.bytes = std::filesystem::file_size(each.xml) + std::filesystem::file_size(weights_file(each.xml));
    }
  run_in_turns(study.profiles, request);
  if (request.held_out) measure_quality(study);
  return study;
}

}  // namespace openvino_adapter
