# Used by klens' build and by its installed package, after find_package(xsimd).
# Debian's target xsimd links xtl, a package that its configuration never looks for and that xsimd's headers do not need.
if(TARGET xsimd AND NOT TARGET xtl)
  get_target_property(klens_xsimd_links xsimd INTERFACE_LINK_LIBRARIES)
  if(klens_xsimd_links STREQUAL "xtl")
    set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES "")
  endif()
  unset(klens_xsimd_links)
endif()
