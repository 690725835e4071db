// Parts against plain loops in double.
#include "engine/attention.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "engine/experts.hpp"
#include "engine/gated_delta_rule.hpp"
#include "engine/short_conv.hpp"

namespace {

using matrix = klens::matrix<float>;

/// Values of about 1 that differ from call to call.
matrix some(Eigen::Index rows, Eigen::Index columns) {
  static std::mt19937 random{7};
  std::normal_distribution<float> normal;
  matrix values(rows, columns);
  for (float& each : std::span(values.data(), static_cast<std::size_t>(values.size()))) each = normal(random);
  return values;
}

// Of a product or not: the values are in both places.
programs::parameter parameter_of(matrix values) {
  programs::parameter made;
  made.multiplies = true;
  made.weights = programs::stored_matrix(values);
  made.values = std::move(values);
  return made;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }

/// Everything here has magnitudes of a few, and sums of at most a hundred terms.
void check_near(const matrix& found, const matrix& expected) {
  REQUIRE(found.rows() == expected.rows());
  REQUIRE(found.cols() == expected.cols());
  CHECK((found - expected).cwiseAbs().maxCoeff() <= 2e-5f);
}

/// What a part adds to zeros, times 1.
matrix result_of(const programs::part& part, const matrix& x) {
  programs::workspace work;
  programs::pass at{work};
  matrix hidden = matrix::Zero(x.rows(), x.cols());
  part.add_to(hidden, x, 1, at);
  return hidden;
}

}  // namespace

TEST_CASE("attend: masks, grouped heads, values of another width, over more than one slice") {
  for (const Eigen::Index length : {1, 5, 64, 130})
    for (const programs::attention_mask mask : {programs::attention_mask{},
                                                {.window = 1},
                                                {.window = 7},
                                                {.window = 70},
                                                {.window = 7, .always = 3},
                                                {.window = 70, .always = 9},
                                                {.window = 500, .always = 2}}) {
      INFO("length ", length, " window ", mask.window, " always ", mask.always);
      const Eigen::Index heads = 4, kv_heads = 2, width = 6, value_width = 5;
      const matrix q = some(length, heads * width), k = some(length, kv_heads * width),
                   v = some(length, kv_heads * value_width);
      matrix found(length, heads * value_width), expected = matrix::Zero(length, heads * value_width);
      programs::workspace work;
      programs::attend(q, k, v, heads, kv_heads, 0.4f, mask, found, work);
      for (Eigen::Index head = 0; head < heads; ++head)
        for (Eigen::Index i = 0; i < length; ++i) {
          double total = 0;
          std::vector<double> sums(value_width, 0.0);
          for (Eigen::Index j = 0; j <= i; ++j) {
            const auto distance = static_cast<std::size_t>(i - j);
            if (mask.window != 0 && distance >= mask.window && static_cast<std::size_t>(j) >= mask.always) continue;
            double score = 0;
            for (Eigen::Index c = 0; c < width; ++c)
              score += static_cast<double>(q(i, head * width + c)) * static_cast<double>(k(j, head / 2 * width + c));
            const double weight = std::exp(0.4 * score);
            total += weight;
            for (Eigen::Index c = 0; c < value_width; ++c)
              sums[static_cast<std::size_t>(c)] += weight * static_cast<double>(v(j, head / 2 * value_width + c));
          }
          for (Eigen::Index c = 0; c < value_width; ++c)
            expected(i, head * value_width + c) = static_cast<float>(sums[static_cast<std::size_t>(c)] / total);
        }
      check_near(found, expected);
    }
}

TEST_CASE("gated delta rule: keys and values of awkward widths; the result may replace the values") {
  for (const Eigen::Index keys : {1, 6, 17})
    for (const Eigen::Index values : {1, 5, 16, 33}) {
      INFO("keys ", keys, " values ", values);
      const Eigen::Index length = 19;
      matrix q = some(length, keys), k = some(length, keys), v = some(length, values), expected(length, values);
      for (Eigen::Index t = 0; t < length; ++t) k.row(t).normalize();
      matrix decay = some(1, length).unaryExpr([](float x) { return static_cast<float>(sigmoid(static_cast<double>(x))); });
      matrix beta = some(1, length).unaryExpr([](float x) { return static_cast<float>(sigmoid(static_cast<double>(x))); });
      Eigen::MatrixXd memory = Eigen::MatrixXd::Zero(keys, values);
      for (Eigen::Index t = 0; t < length; ++t) {
        memory *= static_cast<double>(decay(0, t));
        for (Eigen::Index j = 0; j < values; ++j) {
          double answer = 0, result = 0;
          for (Eigen::Index i = 0; i < keys; ++i) answer += memory(i, j) * static_cast<double>(k(t, i));
          const double learned = static_cast<double>(beta(0, t)) * (static_cast<double>(v(t, j)) - answer);
          for (Eigen::Index i = 0; i < keys; ++i) {
            memory(i, j) += static_cast<double>(k(t, i)) * learned;
            result += memory(i, j) * static_cast<double>(q(t, i));
          }
          expected(t, j) = static_cast<float>(result);
        }
      }
      matrix found(length, values);
      programs::kernels::gated_delta_rule(q, k, v, klens::row(decay, 0), klens::row(beta, 0), found);
      check_near(found, expected);
      programs::kernels::gated_delta_rule(q, k, v, klens::row(decay, 0), klens::row(beta, 0), v);
      CHECK(v == found);
    }
}

TEST_CASE("gated delta rule: 300 steps as in Qwen3-Next stay within 1e-5 of doubles") {
  // Keys and queries of unit length, decays close to 1, learning rates below 1: what the logits of qwen3_next rest on. Each step
  // rounds a sum of 32 products twice; errors of the memory fade as the memory does.
  const Eigen::Index length = 300, width = 32;
  matrix q = some(length, width), k = some(length, width), v = some(length, width), found(length, width);
  for (Eigen::Index t = 0; t < length; ++t) {
    k.row(t).normalize();
    q.row(t) *= 1 / (q.row(t).norm() * std::sqrt(static_cast<float>(width)));
  }
  matrix decay = some(1, length).unaryExpr([](float x) { return std::exp(-0.05f * std::abs(x)); });
  matrix beta = some(1, length).unaryExpr([](float x) { return static_cast<float>(sigmoid(static_cast<double>(x))); });
  Eigen::MatrixXd memory = Eigen::MatrixXd::Zero(width, width), exact(length, width);
  for (Eigen::Index t = 0; t < length; ++t) {
    const Eigen::VectorXd key = k.row(t).transpose().cast<double>();
    memory *= static_cast<double>(decay(0, t));
    const Eigen::VectorXd learned =
        static_cast<double>(beta(0, t)) * (v.row(t).transpose().cast<double>() - memory.transpose() * key);
    memory += key * learned.transpose();
    exact.row(t) = (memory.transpose() * q.row(t).transpose().cast<double>()).transpose();
  }
  programs::kernels::gated_delta_rule(q, k, v, klens::row(decay, 0), klens::row(beta, 0), found);
  CHECK((found.cast<double>() - exact).cwiseAbs().maxCoeff() < 2e-6 * exact.cwiseAbs().maxCoeff());
}

TEST_CASE("short convolution: C * conv(B * x), nothing before the start") {
  const Eigen::Index length = 11, width = 7, taps = 3;
  const programs::parameter in = parameter_of(some(3 * width, width)), out = parameter_of(matrix::Identity(width, width));
  const programs::parameter conv = parameter_of(some(width, taps)), bias = parameter_of(some(1, width));
  programs::short_conv part;
  part.in_proj.weight = &in;
  part.out_proj.weight = &out;
  part.conv = &conv;
  part.conv_bias = &bias;
  const matrix x = 0.3f * some(length, width), all = x * in.values.transpose();
  matrix expected(length, width);
  for (Eigen::Index t = 0; t < length; ++t)
    for (Eigen::Index c = 0; c < width; ++c) {
      double sum = static_cast<double>(bias.values(0, c));
      for (Eigen::Index k = 0; k < taps; ++k)
        if (const Eigen::Index from = t - taps + 1 + k; from >= 0)
          sum += static_cast<double>(conv.values(c, k)) * static_cast<double>(all(from, c)) *
                 static_cast<double>(all(from, 2 * width + c));
      expected(t, c) = static_cast<float>(sum * static_cast<double>(all(t, width + c)));
    }
  check_near(result_of(part, x), expected);
}

TEST_CASE("MLPs: squared ReLU without a gate; a gate of each position") {
  const Eigen::Index length = 9, width = 6, inner = 10;
  const programs::parameter up = parameter_of(some(inner, width)), down = parameter_of(0.2f * some(width, inner));
  const matrix x = 0.4f * some(length, width), raised = x * up.values.transpose();
  programs::plain_mlp plain;
  plain.up_proj.weight = &up;
  plain.down_proj.weight = &down;
  plain.f = programs::activation::squared_relu;
  check_near(result_of(plain, x), raised.cwiseMax(0.f).cwiseAbs2() * down.values.transpose());

  const programs::parameter gates = parameter_of(some(inner, width)), position = parameter_of(some(1, width));
  programs::gate_of_position gated;
  gated.gate.weight = &position;
  gated.of.gate_proj.weight = &gates;
  gated.of.up_proj.weight = &up;
  gated.of.down_proj.weight = &down;
  const matrix opened =
      (x * gates.values.transpose()).unaryExpr([](float v) { return static_cast<float>(silu(static_cast<double>(v))); });
  matrix expected = opened.cwiseProduct(raised) * down.values.transpose();
  for (Eigen::Index t = 0; t < length; ++t)
    expected.row(t) *= static_cast<float>(sigmoid(static_cast<double>(x.row(t).dot(position.values.row(0)))));
  check_near(result_of(gated, x), expected);
}
