#include "quantized_file.hpp"

#include <stdio.h>  // popen

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <klens/error.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>
#include <system_error>
#include <tuple>

#include "kl_base.hpp"

namespace llama_adapter {
namespace {

std::string quoted(const std::string& word) {
  std::string text = "'";
  for (const char each : word) text += each == '\'' ? std::string{"'\\''"} : std::string{each};
  return text + "'";
}

constexpr const char *quantize = "llama-quantize", *perplexity = "llama-perplexity";

std::string path_of(const std::filesystem::path& tools, const char* name) {
  return tools.empty() ? name : (tools / name).string();
}

// What a program prints. Throws where it fails.
std::string output_of(const std::string& program, const std::string& arguments) {
  FILE* const stream = ::popen((quoted(program) + " " + arguments + " 2>&1 </dev/null").c_str(), "r");
  if (!stream) throw klens::error{program + " cannot be started"};
  std::string output;
  std::array<char, 4096> part{};
  for (std::size_t count = 0; (count = std::fread(part.data(), 1, part.size(), stream)) > 0;) output.append(part.data(), count);
  if (::pclose(stream) == 0) return output;
  output.erase(output.find_last_not_of(" \n") + 1);
  throw klens::error{program + " failed: " + output.substr(output.rfind('\n') + 1)};
}

// A file that is gone at the end.
struct removed_file {
  std::filesystem::path path;
  ~removed_file() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

double number_after(const std::string& output, const std::string& label) {
  const std::size_t at = output.find(label);
  const std::size_t begin = at == output.npos ? at : output.find_first_not_of(' ', at + label.size());
  double value = 0;
  if (begin == output.npos || std::from_chars(&output[begin], output.data() + output.size(), value).ec != std::errc{})
    throw klens::error{"llama-perplexity printed no '" + label + "'; is it as old as this libllama?"};
  return value;
}

}  // namespace

std::string quantize_arguments(const gguf_file& source, const quantize_request& request) {
  const bool again =
      std::ranges::any_of(source.tensors(), [](const gguf_tensor& each) { return ggml_is_quantized(each.type); });
  return std::string{again ? "--allow-requantize " : ""} +
         (request.imatrix.empty() ? std::string{} : "--imatrix " + quoted(request.imatrix.string()) + " ") +
         "--tensor-type-file " + quoted(request.types.string()) + " " + quoted(source.path().string()) + " " +
         quoted(request.target.string()) + " q8_0";
}

void expect_tools(const std::filesystem::path& tools) {
  for (const char* each : {quantize, perplexity})
    if (const std::string program = path_of(tools, each);
        std::system(("command -v " + quoted(program) + " >/dev/null 2>&1").c_str()) != 0)
      throw klens::error{program +
                         " is not there; examples/programs/llama/run.sh --tools builds it, --tools FOLDER says where it is"};
}

quantized_file make_and_measure(const gguf_file& source, const quantize_request& request, const std::filesystem::path& tools,
                                const programs::token_set& tokens, const run_settings& settings) {
  const std::filesystem::path& target = request.target;
  (void)output_of(path_of(tools, quantize), quantize_arguments(source, request));
  quantized_file made;
  made.bytes = std::filesystem::file_size(target);

  const gguf_file quantized{target};
  gguf_model reference{source, arithmetic::stored, settings}, observed{quantized, arithmetic::stored, settings};
  const removed_file base{target.string() + ".kl-base"};
  const kl_base_rows rows{tokens.length};
  klens::totals<klens::kl> total{klens::kl{}};
  write_kl_base(base.path, tokens, reference.vocabulary(), [&](std::size_t s) {
    const auto sequence = tokens.batch(s, 1);
    klens::matrix<float> logits = reference.logits(sequence, tokens.length);
    const auto first = static_cast<Eigen::Index>(rows.first), count = static_cast<Eigen::Index>(rows.count);
    total.merge(std::get<0>(klens::measure(logits.middleRows(first, count),
                                           observed.logits(sequence, tokens.length).middleRows(first, count),
                                           {.first_position = s * rows.count}, klens::kl{})));
    return logits;
  });
  made.klens_kl = total.mean();
  const std::string length = std::to_string(tokens.length);
  const std::string output =
      output_of(path_of(tools, perplexity),
                "-m " + quoted(target.string()) + " --no-repack --kl-divergence --kl-divergence-base " +
                    quoted(base.path.string()) + " -c " + length + " -b " + length + " -ub " + length + " -t " +
                    std::to_string(settings.threads) + " -ngl " + std::to_string(settings.gpu_layers));
  made.tool_kl = number_after(output, "Mean    KLD:");
  return made;
}

}  // namespace llama_adapter
