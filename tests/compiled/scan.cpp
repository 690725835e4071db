// Prints the bits of what rank_layers finds, by each of its ways.
#include <bit>
#include <cinttypes>
#include <cstdio>
#include <klens/klens.hpp>

#include "support/residual_model.hpp"

#if defined(KLENS_COMPILED) && defined(__x86_64__) && !defined(KLENS_COMPILED_SCAN)
#error "the scan is compiled here, and should come out of the library"
#endif

namespace {

void print(double value) { std::printf(" %016" PRIx64, std::bit_cast<std::uint64_t>(value)); }

void print(const klens::scores& found) {
  for (const klens::layer_score& each : found.candidates) {
    std::printf("%s %s %d %zu:", each.layer.c_str(), each.scheme.c_str(), static_cast<int>(each.result), each.positions);
    for (const klens::metric_score& of : each.metrics)
      for (const double value : {of.mean, of.low, of.high, of.worst}) print(value);
    print(each.weight_sqnr_db);
    std::printf("\n");
  }
  std::printf("%.3f forwards, %zu remarks\n", found.cost.forwards, found.remarks.size());
}

}  // namespace

int main() {
  support::residual_model model;
  klens::rank_options options;
  options.tokens = model.tokens();
  options.sequence_length = model.length;
  options.batches = model.batches();
  options.stop = klens::split{0.5};
  const klens::scheme_list schemes{"int4-g16", "int8-channel"};
  print(klens::rank_layers(model.layers(), model, schemes, {klens::kl{}, klens::sqnr{}, klens::delta_ce{}}, options));
  options.from = klens::direction::from_quantized;
  print(klens::rank_layers(model.layers(), model, schemes, klens::kl{}, options));
  options.from = klens::direction::from_reference;
  for (const klens::scan_method method : {klens::scan_method::local, klens::scan_method::refine}) {
    options.method = method;
    print(klens::rank_layers(model.layers(), model, schemes, klens::kl{}, options));
  }
}
