# SPDX-License-Identifier: Apache-2.0
cmake_minimum_required(VERSION 3.25)
# The layering test must fail on a wrong include: plants one in a scratch tree and runs the test on it.
file(REMOVE_RECURSE ${SCRATCH})
file(WRITE ${SCRATCH}/offload/good.hpp "#include \"core/error.hpp\"\n")
execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${SCRATCH} -P ${ROOT}/tests/layering.cmake RESULT_VARIABLE good ERROR_QUIET)
file(WRITE ${SCRATCH}/offload/wrong.hpp "#include \"comm/communicator.hpp\"\n")
execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${SCRATCH} -P ${ROOT}/tests/layering.cmake RESULT_VARIABLE wrong ERROR_QUIET)
if(NOT good EQUAL 0 OR wrong EQUAL 0)
  message(FATAL_ERROR "layering.cmake answered ${good} for a good tree and ${wrong} for a wrong one")
endif()
