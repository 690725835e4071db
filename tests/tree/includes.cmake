# ROOT's headers include one another along the arrows only:
#   detail -> metric, quant -> stats -> layer, weight_guard -> rank -> plan -> io
# A header may include what stands to the left of it and its own folder; and only its own folder's private half (detail/; for
# rank also scan/ and local/) beside the root's detail/, which is for all. Programs, adapters, benchmarks and small examples
# include public headers only. What does not hold yet is listed here; an entry that is no longer needed is an error too.
cmake_minimum_required(VERSION 3.23)
set(exceptions
  "examples/programs/engine/causal_conv.hpp includes klens/detail/simd.hpp"
  "examples/programs/engine/config.cpp includes klens/io/detail/file_map.hpp"
  "examples/programs/engine/config.cpp includes klens/io/detail/safetensors_header.hpp"
  "examples/programs/engine/elementwise.hpp includes klens/detail/exp.hpp"
  "examples/programs/engine/elementwise.hpp includes klens/detail/simd.hpp"
  "examples/programs/engine/gated_delta_rule.hpp includes klens/detail/simd.hpp"
  "examples/programs/engine/model.cpp includes klens/detail/parallel_for.hpp"
  "examples/programs/engine/rope.cpp includes klens/io/detail/safetensors_header.hpp"
  "examples/programs/engine/selective_scan.hpp includes klens/detail/simd.hpp")

# Where a folder stands; several of one number do not know of each other. Files of the root by name: they and the pages of
# contents (klens.hpp, plan.hpp, ...) belong to no folder.
set(place_of_detail 0)
set(place_of_metric 1)
set(place_of_quant 1)
set(place_of_stats 2)
set(place_of_rank 4)
set(place_of_plan 5)
set(place_of_io 6)
set(place_of_error.hpp 0)
set(place_of_matrix.hpp 0)
set(place_of_parallel_for.hpp 0)
set(place_of_random.hpp 0)
set(place_of_version.hpp 0)
set(place_of_forward.hpp 3)
set(place_of_layer.hpp 3)
set(place_of_weight_guard.hpp 3)
set(place_of_stats.hpp 2)
set(place_of_klens.hpp 4)
set(place_of_plan.hpp 5)
set(place_of_io.hpp 6)

# trade_of(metric/detail/sweep.hpp trade private): "metric", TRUE
function(trade_of header trade private)
  string(REGEX MATCH "^[^/]+" first "${header}")
  set(${trade} "${first}" PARENT_SCOPE)
  set(${private} FALSE PARENT_SCOPE)
  if(header MATCHES "^[^/]+/detail/|^rank/(scan|local)/")
    set(${private} TRUE PARENT_SCOPE)
  endif()
endfunction()

set(broken "")
set(used "")
function(refuse source header why)
  set(line "${source} includes klens/${header}")
  if(line IN_LIST exceptions)
    list(APPEND used "${line}")
    set(used "${used}" PARENT_SCOPE)
  else()
    list(APPEND broken "${line}: ${why}")
    set(broken "${broken}" PARENT_SCOPE)
  endif()
endfunction()

# included_by(FILE headers): what FILE includes of klens, in either form of brackets.
function(included_by source headers)
  file(STRINGS ${ROOT}/${source} lines REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"]klens/")
  set(found "")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*[<\"]klens/([^>\"]+).*" "\\1" header "${line}")
    list(APPEND found "${header}")
  endforeach()
  set(${headers} "${found}" PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE library RELATIVE ${ROOT} ${ROOT}/include/klens/*.hpp)
set(arrows 0)
foreach(source IN LISTS library)
  string(REPLACE "include/klens/" "" itself "${source}")
  trade_of("${itself}" from from_private)
  if(NOT DEFINED place_of_${from})
    list(APPEND broken "${source}: a folder or file of the root that tests/tree/includes.cmake does not know")
    continue()
  endif()
  included_by(${source} headers)
  foreach(header IN LISTS headers)
    math(EXPR arrows "${arrows} + 1")
    trade_of("${header}" to to_private)
    if(from STREQUAL to)
      continue()
    elseif(NOT DEFINED place_of_${to})
      list(APPEND broken "${source} includes klens/${header}: there is no such part of klens")
    elseif(place_of_${from} LESS place_of_${to})
      refuse(${source} ${header} "against the arrows")
    elseif(to_private)
      refuse(${source} ${header} "the private half of another folder")
    elseif(place_of_${from} EQUAL place_of_${to} AND IS_DIRECTORY ${ROOT}/include/klens/${from} AND
           IS_DIRECTORY ${ROOT}/include/klens/${to})
      refuse(${source} ${header} "these two folders do not know of each other")
    endif()
  endforeach()
endforeach()
if(arrows LESS 100)
  list(APPEND broken "only ${arrows} includes were found in include/klens: this test looks in the wrong place")
endif()

foreach(folder examples benchmarks python)
  file(GLOB_RECURSE sources RELATIVE ${ROOT} ${ROOT}/${folder}/*.hpp ${ROOT}/${folder}/*.cpp)
  foreach(source IN LISTS sources)
    included_by(${source} headers)
    foreach(header IN LISTS headers)
      if(header MATCHES "(^|/)detail/|^rank/(scan|local)/")
        refuse(${source} ${header} "private; programs include public headers only")
      endif()
    endforeach()
  endforeach()
endforeach()

foreach(line IN LISTS exceptions)
  if(NOT line IN_LIST used)
    list(APPEND broken "${line}: no longer; take it from the list in tests/tree/includes.cmake")
  endif()
endforeach()
if(broken)
  list(JOIN broken "\n  " text)
  message(FATAL_ERROR "include/klens and its users:\n  ${text}")
endif()
