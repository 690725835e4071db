#pragma once
// A model that Python runs, as klens asks for it.

#include <nanobind/nanobind.h>

#include <cstddef>
#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/matrix.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace python {

/// What Python raised while klens ran: klens wraps it in an error that says where, the caller raises it as its cause.
class raised {
 public:
  /// Calls a Python callable; what it raises is kept and goes on with its one line: as a std::runtime_error, or where it is about
  /// numbers as klens' own kind of that, which ends a candidate and not a scan.
  template <class Call>
  decltype(auto) guard(Call&& call) {
    try {
      return call();
    } catch (nb::python_error& error) {
      const std::string line =
          nb::cast<std::string>(nb::str(error.type().attr("__name__"))) + ": " + nb::cast<std::string>(nb::str(error.value()));
      exception_ = nb::borrow(error.value());
      if (error.matches(PyExc_FloatingPointError)) throw klens::numeric_error{line};
      throw std::runtime_error{line};
    }
  }
  /// The exception, or None.
  [[nodiscard]] nb::object exception() const { return exception_; }
  /// Takes note of an exception that Python has set, such as KeyboardInterrupt after a signal. True where there was one.
  [[nodiscard]] bool take_signal() {
    if (PyErr_CheckSignals() == 0) return false;
    nb::python_error error;
    exception_ = nb::borrow(error.value());
    return true;
  }

 private:
  nb::object exception_ = nb::none();
};

/// Logits that Python gave. The array is held until the next ones come.
class held_logits {
 public:
  [[nodiscard]] klens::logits_view view(nb::object given) {
    any_array logits;
    if (!nb::try_cast(given, logits, false))
      throw klens::shape_error{"the forward returned " + nb::cast<std::string>(nb::str(given.type())) +
                               "; it must return logits, a float32 array [positions, vocabulary] on the CPU"};
    expect_matrix(logits, "the array of logits that the forward returned");
    if (scalar_of(logits) != scalar::f32)
      throw klens::argument_error{"the forward returned logits of " + type_name(logits) +
                                  "; convert them to float32, e.g. with .float()"};
    held_ = std::move(logits);
    return {static_cast<const float*>(held_.data()), held_.shape(0), held_.shape(1),
            held_.shape(0) > 1 ? static_cast<std::size_t>(held_.stride(0)) : held_.shape(1)};
  }

 private:
  any_array held_;
};

/// forward(batch) -> logits [positions, vocabulary].
class whole_forward {
 public:
  whole_forward(nb::callable forward, raised& errors) : forward_{std::move(forward)}, errors_{&errors} {}

  [[nodiscard]] klens::logits_view operator()(std::size_t batch) {
    return logits_.view(errors_->guard([&] { return forward_(batch); }));
  }

 private:
  nb::callable forward_;
  raised* errors_;
  held_logits logits_;
};

/// A model in stages, an object with
///   stages                   how many there are before the head
///   costs                    what each costs and, last, the head, in any unit
///   begin(batch)             -> state
///   advance(state, stage)    -> the state after that stage; the state that was given stays as it is
///   logits(state)            -> [positions, vocabulary]
///   residual(state)          -> the residual stream, float32 [positions, width]
///   with_residual(state, r)  -> the state with this stream instead
class staged_forward {
 public:
  struct state {
    nb::object held;
    std::optional<klens::matrix<float>> stream{};  // shown to klens, which may have changed it
  };

  staged_forward(nb::object model, raised& errors)
      : model_{std::move(model)},
        errors_{&errors},
        stages_{nb::cast<std::size_t>(model_.attr("stages"))},
        costs_{nb::cast<std::vector<double>>(model_.attr("costs"))} {
    if (costs_.size() != stages_ + 1)
      throw klens::argument_error{"the model has " + std::to_string(stages_) + " stages and " + std::to_string(costs_.size()) +
                                  " costs; give one for each stage and one for the head"};
  }

  [[nodiscard]] std::size_t stages() const noexcept { return stages_; }
  [[nodiscard]] double cost(std::size_t stage) const { return costs_.at(stage); }
  [[nodiscard]] state begin(std::size_t batch) {
    return {errors_->guard([&] { return nb::object(model_.attr("begin")(batch)); })};
  }
  void advance(state& at, std::size_t stage) {
    settle(at);
    at.held = errors_->guard([&] { return nb::object(model_.attr("advance")(at.held, stage)); });
  }
  [[nodiscard]] klens::logits_view logits(const state& at) {
    state settled = at;
    settle(settled);
    return logits_.view(errors_->guard([&] { return nb::object(model_.attr("logits")(settled.held)); }));
  }
  [[nodiscard]] klens::matrix_ref<float> residual(state& at) {
    if (!at.stream) {
      const nb::object given = errors_->guard([&] { return nb::object(model_.attr("residual")(at.held)); });
      const auto stream = nb::cast<any_array>(given, false);
      expect_matrix(stream, "the residual stream");
      with_matrix(stream, [&](const auto& from) { at.stream = from.template cast<float>(); });
    }
    return *at.stream;
  }

 private:
  // Gives a stream that klens has seen back to Python.
  void settle(state& at) {
    if (!at.stream) return;
    at.held = errors_->guard([&] { return nb::object(model_.attr("with_residual")(at.held, copy_of(*at.stream))); });
    at.stream.reset();
  }

  nb::object model_;
  raised* errors_;
  std::size_t stages_;
  std::vector<double> costs_;
  held_logits logits_;
};

}  // namespace python
