# Used by the build of the Python package: Eigen and xsimd from the packages that pip installed for the build, where they are.
find_package(Python 3.9 REQUIRED COMPONENTS Interpreter Development.Module)
