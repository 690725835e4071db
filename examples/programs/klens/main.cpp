// The program klens: what quantization does to each layer of a model, from the command line.

#include "command_line.hpp"

int main(int argc, char** argv) { return programs::run_command_line(argc, argv, programs::rank); }
