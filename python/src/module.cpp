#include "module.hpp"

#include <klens/error.hpp>
#include <klens/version.hpp>

// klens' errors as Python's own kinds. A bad_alloc is a MemoryError by nanobind itself.
NB_MODULE(_core, module) {
  module.doc() = "The C++ library klens, as the package klens uses it.";
  module.attr("__version__") = KLENS_VERSION;
  nanobind::register_exception_translator([](const std::exception_ptr& caught, void*) {
    try {
      std::rethrow_exception(caught);
    } catch (const klens::numeric_error& error) {
      PyErr_SetString(PyExc_FloatingPointError, error.what());
    } catch (const klens::file_error& error) {
      PyErr_SetString(PyExc_OSError, error.what());
    } catch (const klens::restore_error& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    } catch (const klens::error& error) {  // what was given: arguments and shapes
      PyErr_SetString(PyExc_ValueError, error.what());
    }
  });
  python::add_metrics(module);
  python::add_quantizers(module);
  python::add_scores(module);
  python::add_rank(module);
  python::add_plan(module);
}
