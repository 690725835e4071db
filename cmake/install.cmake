# The package: headers, a CMake configuration and a pkg-config file. All of it may be moved to another prefix afterwards.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS klens EXPORT klens-targets FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(klens_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/klens)
set(klens_any_processor ARCH_INDEPENDENT)
if(KLENS_COMPILED)
  set(klens_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/klens)
  set(klens_any_processor "")
  install(TARGETS klens_compiled EXPORT klens-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(EXPORT klens-targets NAMESPACE klens:: DESTINATION ${klens_package_dir})
write_basic_package_version_file(klens-config-version.cmake COMPATIBILITY SameMinorVersion ${klens_any_processor})
install(FILES cmake/klens-config.cmake cmake/repair_xsimd.cmake ${CMAKE_CURRENT_BINARY_DIR}/klens-config-version.cmake
  DESTINATION ${klens_package_dir})

set(klens_pc_dir ${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig)
file(RELATIVE_PATH klens_pc_prefix ${klens_pc_dir} ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH klens_pc_include ${klens_pc_dir} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/klens.pc.in klens.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/klens.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)

if(KLENS_COMPILED)
  set(klens_pc_dir ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
  file(RELATIVE_PATH klens_pc_lib ${klens_pc_dir} ${CMAKE_INSTALL_FULL_LIBDIR})
  configure_file(cmake/klens-compiled.pc.in klens-compiled.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/klens-compiled.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
