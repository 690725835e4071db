// served_forward FOLDER SEQUENCES LENGTH THREADS: loads a model; then, for each line on stdin, one forward with logits at all
// positions, and one line on stdout: milliseconds by the clock, milliseconds of the processor, the largest logit. Whoever asks
// decides whose turn it is (against_pytorch.py).
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "rounds.hpp"

int main(int count, char** arguments) {
  if (count != 5) {
    std::fputs("served_forward FOLDER SEQUENCES LENGTH THREADS\n", stderr);
    return 2;
  }
  const programs::model model = programs::model::load(arguments[1]);
  const std::size_t sequences = std::stoul(arguments[2]), length = std::stoul(arguments[3]), threads = std::stoul(arguments[4]);
  std::vector<std::int32_t> tokens(sequences * length);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % model.vocabulary());
  for (std::string line; std::getline(std::cin, line);) {
    float largest = 0;
    double wall = 0;
    const double processor = benchmarks::processor_ms([&] {
      wall = benchmarks::wall_ms([&] {
        programs::state at = model.begin(tokens, sequences, length);
        for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage, threads);
        largest = model.logits(at, threads).maxCoeff();
      });
    });
    std::printf("%.3f %.3f %.6f\n", wall, processor, static_cast<double>(largest));
    std::fflush(stdout);
  }
}
