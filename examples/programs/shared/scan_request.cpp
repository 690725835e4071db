#include "scan_request.hpp"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iterator>
#include <klens/io/checkpoint.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/rank/ranking.hpp>
#include <klens/rank/scan_error.hpp>
#include <regex>
#include <string>
#include <vector>

#include "comma_list.hpp"
#include "fingerprint.hpp"
#include "rank_page.hpp"
#include "rank_report.hpp"
#include "terminal.hpp"
#include "token_file.hpp"
#include "token_sketch.hpp"
#include "windows.hpp"

namespace programs {
namespace {

std::vector<klens::any_metric> chosen_metrics(const rank_arguments& arguments) {
  std::vector<klens::any_metric> metrics;
  for (const std::string& name : parts_at_commas(arguments.metrics)) metrics.push_back(klens::any_metric::parse(name));
  std::ranges::copy(arguments.more_metrics, std::back_inserter(metrics));
  if (std::ranges::none_of(metrics, [&](const auto& each) { return each.name == arguments.sort; }))
    throw klens::argument_error{"--sort " + arguments.sort + ": not among --metrics " + arguments.metrics};
  return metrics;
}

std::uint64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

volatile std::sig_atomic_t caught_interrupt = 0;

// While it lives, SIGINT ends the scan after the current candidate. In this thread and those that begin from here on no handler runs,
// the signal waits until somebody looks: matrix products of oneDNN use the stack pointer for something else, and a handler's frame
// would go wherever it points. (Engines may have begun threads before; there a handler takes it.)
class interrupt_catcher {
 public:
  interrupt_catcher() : previous_{std::signal(SIGINT, [](int) { caught_interrupt = 1; })} {
    sigemptyset(&interrupt_);
    sigaddset(&interrupt_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt_, &previous_mask_);
  }
  interrupt_catcher(const interrupt_catcher&) = delete;
  interrupt_catcher& operator=(const interrupt_catcher&) = delete;
  ~interrupt_catcher() {
    pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);  // what waits comes now
    std::signal(SIGINT, previous_);
  }

  // Whether there was one, in this scan or an earlier one.
  [[nodiscard]] static bool interrupted() {
    sigset_t waiting;
    sigpending(&waiting);
    return caught_interrupt != 0 || sigismember(&waiting, SIGINT) == 1;
  }

 private:
  void (*previous_)(int);
  sigset_t interrupt_{}, previous_mask_{};
};

bool show_progress(progress_line& line, const std::string& phase, const klens::scan_progress& at) {
  line.show(phase +
            text("batch %zu/%zu  %zu tokens  candidate %zu/%zu  %.1f of about %.1f forwards  %s left  ", at.batch + 1,
                 at.batches, at.positions, at.candidate, at.candidates, at.forwards, at.expected_forwards,
                 duration_text(at.seconds_left).c_str()) +
            std::string{at.layer});
  return !interrupt_catcher::interrupted();
}

klens::scan_method method_of(const rank_arguments& arguments) {
  if (arguments.method == "local") return klens::scan_method::local;
  return arguments.method == "refine" ? klens::scan_method::refine : klens::scan_method::exact;
}

// How many of the windows the methods local and refine look at first.
std::size_t windows_for_local(const token_set& windows) {
  std::vector<std::size_t> counted(windows.sequences, 0);
  for (std::size_t at = 0; at < windows.tokens.size(); ++at) counted[at / windows.length] += windows.counts(at) ? 1 : 0;
  return windows_to_look_at(counted);
}

// What is ranked beside weights, and how.
std::string sites_text(const rank_arguments& arguments) {
  if (arguments.sites == "weights" && !arguments.by_position) return "";
  return ", sites " + arguments.sites + (arguments.error_feedback ? ", with error feedback" : "") +
         (arguments.layout.kv_by_channel ? ", kv by channel of " + std::to_string(arguments.layout.kv_by_channel) : "") +
         (arguments.layout.activations_per_tensor ? ", activations per tensor" : "") +
         (arguments.by_position ? ", by position" : "") + ", context " + std::to_string(arguments.context);
}

// All that a checkpoint must agree with.
klens::scan_identity identity_of(const rank_arguments& arguments, const scan_subject& subject, const token_set& tokens) {
  return {{"model", fingerprint_of_files(subject.files)},
          {"tokens", tokens.fingerprint()},
          {"schemes", arguments.schemes},
          {"metrics", arguments.metrics + (arguments.more_metrics.empty() ? "" : " and explanatory ones")},
          {"layers", arguments.layers + (arguments.split_fused ? " split" : "") + (arguments.include_small ? " small" : "")},
          {"batch", std::to_string(arguments.run.sequences_per_batch(arguments.stop != "exhaustive"))},
          {"stop", arguments.stop},
          {"confidence", std::to_string(arguments.confidence)},
          {"sort", arguments.sort},
          {"positions", std::to_string(arguments.positions)},
          {"seed", std::to_string(arguments.seed)},
          {"from", arguments.from + sites_text(arguments)}};
}

// What the scores rest on, a line for each part of it.
std::string measured_text(const scan_subject& subject, const klens::scores& scores, std::size_t metric) {
  std::string lines = text("%zu layers, %zu candidates on %s (%zu positions)\n", subject.layers.size(),
                           scores.candidates.size(), size_text(subject.tokens).c_str(), scores.positions);
  if (const double nll = scores.reference.nll(); !std::isnan(nll))
    lines += text("untouched model: %.5f nats/token, perplexity %.4f\n", nll, std::exp(nll));
  if (!scores.noise.empty())
    lines += text("noise floor: %.2g %s from rounding alone; scores no better than that mean nothing\n",
                  scores.noise[metric].mean, scores.metrics[metric].unit.c_str());
  return lines;
}

}  // namespace

scan_request::scan_request(const rank_arguments& arguments) : scan_request{arguments, schemes_of(arguments).all} {}

site_schemes scan_request::schemes_of(const rank_arguments& arguments) {
  return parse_site_schemes(arguments.schemes, klens::parse_site_kinds(arguments.sites));
}

scan_request::scan_request(const rank_arguments& arguments, std::vector<klens::scheme> schemes)
    : arguments_{arguments},
      schemes_{std::move(schemes)},
      metrics_{chosen_metrics(arguments)},
      stop_{klens::any_stopping_rule::parse(arguments.stop)} {
  if (arguments.by_position && metrics_.front().name != "kl")
    throw klens::argument_error{"--by-position is of kl; let --metrics begin with it"};
  if (arguments.by_position && arguments.from != "reference")
    throw klens::argument_error{"--by-position: only with --from reference"};
  for (const auto& each : {arguments.output, arguments.html, arguments.checkpoint})
    if (!each.empty()) klens::atomic_file{each};  // one that cannot be written is better known before the work
}

std::size_t scan_request::sequences_per_batch() const {
  if (method_of(arguments_) != klens::scan_method::exact && arguments_.run.batch == 0) return 1;
  return arguments_.run.sequences_per_batch(arguments_.stop != "exhaustive" &&
                                            method_of(arguments_) == klens::scan_method::exact);
}

token_set scan_request::tokens_for(const token_sampler& model) const {
  return as_scanned(programs::tokens_for(model, arguments_.run.tokens, default_length, default_sequences));
}

token_set scan_request::as_scanned(token_set tokens) const {
  expect_next_tokens(tokens);
  return predicts() ? in_windows(tokens, window_order::least_context, arguments_.seed) : tokens;
}

bool scan_request::predicts() const { return method_of(arguments_) != klens::scan_method::exact; }

std::vector<klens::layer> scan_request::chosen(const std::vector<klens::layer>& all) const {
  const std::string& pattern = arguments_.layers;
  std::vector<klens::layer> chosen;
  try {
    const std::regex wanted{pattern};
    std::ranges::copy_if(all, std::back_inserter(chosen),
                         [&](const klens::layer& each) { return std::regex_search(each.name, wanted); });
  } catch (const std::regex_error& caught) {
    throw klens::argument_error{"--layers '" + pattern + "' is no regular expression: " + caught.what()};
  }
  if (chosen.empty())
    throw klens::argument_error{"--layers '" + pattern + "' matches no layer; their names are like '" + all.front().name + "'"};
  return chosen;
}

klens::scores scan_request::run(const scan_subject& subject, const token_set& part, const measurement& measure,
                                const scan_circumstances& at) const {
  const klens::scan_method method = method_of(arguments_);
  const std::size_t per_batch = sequences_per_batch();
  progress_line line;
  klens::rank_options options;
  options.stop = stop_;
  options.batches = (part.sequences + per_batch - 1) / per_batch;
  options.sequence_length = part.length;
  options.tokens = part.targets();
  options.counted = part.counted();
  options.positions = arguments_.positions;
  options.seed = arguments_.seed;
  options.by_position = arguments_.by_position;
  options.threads = arguments_.run.threads;
  options.confidence = arguments_.confidence;
  options.rank_by = arguments_.sort;
  options.noise_floor = at.noise_floor;
  options.method = method;
  options.local.batches = (windows_for_local(part) + per_batch - 1) / per_batch;
  options.progress = [&](const klens::scan_progress& progress) { return show_progress(line, at.phase, progress); };
  interrupt_catcher catcher;
  if (arguments_.from == "quantized") {
    if (!at.checkpoint.empty()) throw klens::argument_error{"--checkpoint: not together with --from quantized"};
    if (method != klens::scan_method::exact) throw klens::argument_error{"--from quantized: only with --method exact"};
    return run_both_ways(measure, options);
  }
  klens::scan_checkpoint taken_up;
  const klens::scan_identity identity = at.checkpoint.empty() ? klens::scan_identity{} : identity_of(arguments_, subject, part);
  if (!at.checkpoint.empty()) {
    if (std::filesystem::exists(at.checkpoint)) {
      taken_up = klens::read_checkpoint(at.checkpoint, identity);
      options.resume = &taken_up;
    }
    options.checkpoint = [&](const klens::scan_checkpoint& so_far) {
      klens::write_checkpoint(at.checkpoint, identity, so_far);
    };
  }
  try {
    return measure(schemes_, metrics_, options);
  } catch (const klens::scan_error& caught) {
    const std::string problem = caught.what();
    const bool memory = problem.find("out of memory") != problem.npos || problem.find("bad_alloc") != problem.npos;
    throw klens::scan_error{problem + (memory ? "; use a smaller --batch" : ""), caught.partial};
  }
}

klens::scores scan_request::run_both_ways(const measurement& measure, klens::rank_options options) const {
  std::vector<klens::any_metric> means;  // what restoring saves is defined for means over positions only
  std::ranges::copy_if(metrics_, std::back_inserter(means), [](const klens::any_metric& each) { return !each.has_finish(); });
  klens::scores scores = measure(schemes_, means, options);
  if (!scores.complete) return scores;
  print_ranking(scores, arguments_.sort);
  options.from = klens::direction::from_quantized;
  klens::scores restored = measure(schemes_, means, options);
  std::printf("\nThe other way round: every layer quantized, one restored. A score is what restoring it saves.\n");
  for (const klens::whole_score& each : restored.quantized)
    std::printf("every layer as %s: %s %.4g\n", each.scheme.c_str(), arguments_.sort.c_str(),
                each.metrics[restored.index_of(arguments_.sort)].mean);
  for (const klens::scheme& each : schemes_)
    for (const std::string& layer : klens::ranked_differently(scores, restored, arguments_.sort, each.name()))
      std::printf("# %s as %s: the two ways rank it differently, beyond their intervals\n", layer.c_str(), each.name().c_str());
  restored.cost.forwards += scores.cost.forwards;
  restored.cost.seconds += scores.cost.seconds;
  return restored;
}

void scan_request::report(const scan_subject& subject, const klens::scores& scores) const {
  const std::string measured = measured_text(subject, scores, scores.index_of(arguments_.sort));
  std::printf("%s: %s", subject.title.c_str(), measured.c_str());
  print_ranking(scores, arguments_.sort);
  std::printf("\n%.2f forwards over the tokens, %.1f s, %.0f MB at most\n", scores.cost.forwards, scores.cost.seconds,
              static_cast<double>(peak_bytes()) / 1e6);
  if (!arguments_.output.empty()) {
    write(subject, scores);
    std::printf("scores written to %s\n", arguments_.output.c_str());
  }
  if (!arguments_.html.empty()) {
    klens::write_file(arguments_.html, rank_page(scores, arguments_.sort, subject.title, measured));
    std::printf("page written to %s\n", arguments_.html.c_str());
  }
  if (!scores.complete) std::fprintf(stderr, "klens: interrupted; the scores are those of the sequences measured until then\n");
}

bool scan_request::rank(const scan_subject& subject, const measurement& measure, const scan_circumstances& at) const {
  try {
    const klens::scores scores = run(subject, subject.tokens, measure, at);
    report(subject, scores);
    return scores.complete;
  } catch (const klens::scan_error& caught) {
    if (arguments_.output.empty() || std::ranges::none_of(caught.partial.candidates, &klens::layer_score::says_damage)) throw;
    write(subject, caught.partial);
    throw klens::error{caught.what() + std::string{"; what was measured until then is in "} + arguments_.output.string()};
  }
}

void scan_request::write(const scan_subject& subject, const klens::scores& scores) const {
  klens::write_scores(arguments_.output,
                      {{arguments_.run.model.string(), fingerprint_of_files(subject.files), arguments_.run.tokens.file.string(),
                        subject.tokens.fingerprint(), subject.tokens.length, arguments_.run.tokens.first, peak_bytes(),
                        arguments_.sort, sketch_of(subject.tokens.without_padding()), subject.context},
                       scores});
}

}  // namespace programs
