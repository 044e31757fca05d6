# SPDX-License-Identifier: Apache-2.0
add_library(spillway_flags INTERFACE)
target_compile_options(spillway_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers
                              -ffp-contract=off $<$<BOOL:${SPILLWAY_WERROR}>:-Werror>>
  # CMake 3.25 knows no C++20 for nvcc and adds no flag for it. Device code contracts nothing either.
  $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --fmad=false --expt-relaxed-constexpr --extended-lambda
                             -Xcompiler=-Wall,-Wextra,-ffp-contract=off $<$<BOOL:${SPILLWAY_WERROR}>:-Werror=all-warnings>>)
if(SPILLWAY_SANITIZE)
  # g++ 12 warns of overflows inside fmt that are none when checks stand between it and what it would fold.
  target_compile_options(spillway_flags INTERFACE -fsanitize=${SPILLWAY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
                                                  -Wno-stringop-overflow)
  target_link_options(spillway_flags INTERFACE -fsanitize=${SPILLWAY_SANITIZE})
endif()

# spillway_library(NAME HEADERS ... SOURCES ... DEPENDS ... [PRIVATE_DEPENDS ...])
# A static library of one folder. DEPENDS are the folders below it (or packages its headers name); a package that only
# its sources include is a PRIVATE_DEPENDS.
function(spillway_library name)
  cmake_parse_arguments(arg "" "" "HEADERS;SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  set(base ${PROJECT_SOURCE_DIR})
  if(CMAKE_CURRENT_SOURCE_DIR MATCHES "^${PROJECT_SOURCE_DIR}/src/")
    set(base ${PROJECT_SOURCE_DIR}/src)
  endif()
  target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${base} FILES ${arg_HEADERS})
  set_target_properties(${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC ${arg_DEPENDS} PRIVATE spillway_flags ${arg_PRIVATE_DEPENDS})
endfunction()

# What a test that starts MPI ranks needs: any number of them, by any user, on the CPUs; Open MPI's own leaks and lock orders are not ours.
set(SPILLWAY_MPI_ENVIRONMENT CUDA_VISIBLE_DEVICES= OPENBLAS_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan.supp)

set(SPILLWAY_TEST_SECONDS 300)
if(SPILLWAY_SANITIZE)
  set(SPILLWAY_TEST_SECONDS 3600)  # the thread sanitizer makes some tests ten times slower
endif()

# spillway_test(NAME SOURCES ... DEPENDS ... [RANKS 1 2 4] [SHARDS 12] [LABELS ...])
# A GoogleTest program. With RANKS it runs under mpirun once for each number of ranks, with tests/support/mpi_main.cpp. With SHARDS it runs in
# so many parts, which share its cases, for a program that takes minutes under a sanitizer.
function(spillway_test name)
  cmake_parse_arguments(arg "" "SHARDS" "SOURCES;DEPENDS;RANKS;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE spillway_flags GTest::gmock ${arg_DEPENDS})
  if(arg_RANKS)
    target_link_libraries(${name} PRIVATE spillway_mpi_main)
    foreach(ranks ${arg_RANKS})
      add_test(NAME ${name}.${ranks}_ranks COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks} $<TARGET_FILE:${name}>)
      set_tests_properties(${name}.${ranks}_ranks PROPERTIES TIMEOUT ${SPILLWAY_TEST_SECONDS} PROCESSORS ${ranks} LABELS "mpi;${arg_LABELS}"
        ENVIRONMENT "${SPILLWAY_MPI_ENVIRONMENT}")
    endforeach()
  else()
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
    set(parts 1)
    if(arg_SHARDS)
      set(parts ${arg_SHARDS})
    endif()
    math(EXPR last "${parts} - 1")
    foreach(part RANGE ${last})
      set(test ${name})
      set(environment OPENBLAS_NUM_THREADS=1)
      if(arg_SHARDS)
        set(test ${name}.${part})
        list(APPEND environment GTEST_TOTAL_SHARDS=${parts} GTEST_SHARD_INDEX=${part})
      endif()
      add_test(NAME ${test} COMMAND ${name})
      set_tests_properties(${test} PROPERTIES TIMEOUT ${SPILLWAY_TEST_SECONDS} LABELS "${arg_LABELS}" ENVIRONMENT "${environment}")
    endforeach()
  endif()
endfunction()

# spillway_benchmark(NAME SOURCES ... DEPENDS ...): a Google Benchmark program, never run as a test.
function(spillway_benchmark name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  if(SPILLWAY_BENCHMARKS)
    add_executable(${name} ${arg_SOURCES})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE spillway_flags benchmark::benchmark_main ${arg_DEPENDS})
  endif()
endfunction()
