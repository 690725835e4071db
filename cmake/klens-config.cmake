include(CMakeFindDependencyMacro)
# Without version numbers: both packages refuse a request for another major version, and later ones work as well.
find_dependency(Eigen3 NO_MODULE)
find_dependency(xsimd)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/repair_xsimd.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/klens-targets.cmake)
