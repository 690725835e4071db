# Used by the build of the Python package: the headers of Eigen and xsimd from the packages that pip brings for the build, where
# they are; otherwise the system's are looked for.
find_package(Python 3.9 REQUIRED COMPONENTS Interpreter OPTIONAL_COMPONENTS Development.Module)
if(NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR "The headers of ${Python_EXECUTABLE} (Python.h) are not installed, and no wheel has them. "
    "Debian and Ubuntu: apt-get install python3-dev; Fedora: dnf install python3-devel")
endif()

# folder_of(VARIABLE MODULE): where a Python package lies; empty where there is none.
function(klens_folder_of variable module)
  execute_process(COMMAND ${Python_EXECUTABLE} -c
    "import importlib.util as u, os; found = u.find_spec('${module}'); print(os.path.dirname(found.origin) if found else '')"
    OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE folder ERROR_QUIET)
  set(${variable} "${folder}" PARENT_SCOPE)
endfunction()

klens_folder_of(klens_json_folder nlohmann_json)
if(klens_json_folder)
  set(klens_cmeel ${klens_json_folder}/../cmeel.prefix)  # cmeel-eigen has no module; it lies beside the others
  if(EXISTS ${klens_cmeel}/include/eigen3/Eigen/Core)
    set(Eigen3_DIR ${klens_cmeel}/share/eigen3/cmake)
  endif()
endif()

klens_folder_of(klens_pythran pythran)
if(klens_pythran AND EXISTS ${klens_pythran}/xsimd/xsimd.hpp)
  file(STRINGS ${klens_pythran}/xsimd/config/xsimd_config.hpp klens_xsimd_version REGEX "^#define XSIMD_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX MATCHALL "[0-9]+" klens_xsimd_version "${klens_xsimd_version}")
  list(JOIN klens_xsimd_version "." klens_xsimd_version)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/xsimd/xsimdConfig.cmake
    "set(xsimd_VERSION ${klens_xsimd_version})\nif(NOT TARGET xsimd)\n  add_library(xsimd INTERFACE IMPORTED)\n"
    "  target_include_directories(xsimd INTERFACE ${klens_pythran})\nendif()\n")
  set(xsimd_DIR ${CMAKE_CURRENT_BINARY_DIR}/xsimd)
endif()
