# SPDX-License-Identifier: Apache-2.0
include(GNUInstallDirs)
set_target_properties(spillway PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS spillway RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY jobs docs DESTINATION ${CMAKE_INSTALL_DATADIR}/spillway USE_SOURCE_PERMISSIONS)
set(CPACK_GENERATOR TGZ)
include(CPack)
