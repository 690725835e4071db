#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "config.hpp"

namespace programs {

/// Rotary position embedding (Su et al., arXiv:2104.09864): turns the pairs (i, i + half) of each head's first 2 * half
/// elements by position * frequency_i. The types of scaling are those of HF configs: default, linear, dynamic, yarn, longrope,
/// llama3. Frequencies and angles are rounded to float at every step, as the models were trained and published.
class rope {
 public:
  /// Reads rope_parameters, or the older rope_scaling and rope_theta. `rotated` is the share of a head that turns where the
  /// config does not say; `partial` is false for model types that can only turn whole heads.
  rope(const config& fields, std::size_t head_width, double rotated, bool partial, double theta = 10000);

  /// What holds where `scaling` itself does not say.
  struct defaults {
    double theta = 10000;
    double rotated = 1;
    double context = 2048;  ///< positions that the model was made for
    double trained = 0;     ///< positions that it was trained on before its context was extended; 0: not said
    bool partial = false;
  };
  /// Reads what rope_parameters holds.
  rope(const config& scaling, std::size_t head_width, const defaults& otherwise);

  /// Turns every head of x [length x heads * head width], in place; row t is position first + t.
  void apply(klens::matrix_ref<float> x, std::size_t first = 0) const;

 private:
  struct table {
    klens::matrix<float> cosines, sines;  // [length x half]
  };
  [[nodiscard]] std::vector<float> frequencies(std::size_t length) const;
  [[nodiscard]] std::shared_ptr<const table> angles(std::size_t length) const;  // of so many positions at least

  void read_yarn(const config& fields, double fallback_factor);

  std::string type_;
  std::size_t head_width_ = 0;
  std::size_t half_ = 0;    // pairs in a head
  std::size_t turned_ = 0;  // what frequencies are spread over: 2 * half, or one less
  double theta_ = 10000;
  double factor_ = 1;
  double amplitude_ = 1;  // of cosines and sines
  double context_ = 0;    // positions that the model was made for
  double trained_context_ = 0;
  double low_ = 0, high_ = 0;  // llama3: frequency factors; yarn: ends of the ramp
  std::vector<double> short_factors_, long_factors_;

  struct cache {
    std::mutex guard;
    std::shared_ptr<const table> last;
  };
  std::shared_ptr<cache> cache_ = std::make_shared<cache>();  // angles of as many positions as were asked for last, or more
};

}  // namespace programs
