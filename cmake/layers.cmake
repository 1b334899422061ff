# Declares a layer: a static library that links only what its row in ARCHITECTURE.md allows.
#   patchbay_layer(NAME SOURCES a.cc … USES layer … LIBRARIES Ext::lib …)
#   patchbay_test(NAME SOURCES a_test.cc … USES layer …)

set(patchbay_warnings -Wall -Wextra -Wpedantic -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives of the three inside coroutine frames and std::expected; -Wtsan is about fences in Asio.
  list(APPEND patchbay_warnings -Wshadow=local -Wno-maybe-uninitialized -Wno-mismatched-new-delete -Wno-dangling-pointer
       -Wno-tsan)
endif()

# Clang sees in libstdc++ 12's own algorithms what is deprecated since.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND patchbay_warnings -Wno-deprecated-declarations)
endif()

# Coroutines: GCC 12 at -O2 takes stores into a frame for dead before the frame's next life, so that by-value parameters
# come out uninitialised. src/base/task_test.cc shows it when this flag is missing.
add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-lifetime-dse>)

set(patchbay_sanitizers "")
if(PATCHBAY_SANITIZE)
  set(patchbay_sanitizers -fsanitize=${PATCHBAY_SANITIZE} -fno-omit-frame-pointer)
  if(PATCHBAY_SANITIZE MATCHES "undefined")
    list(APPEND patchbay_sanitizers -fno-sanitize-recover=undefined)
  endif()
  add_link_options(${patchbay_sanitizers})
endif()

function(patchbay_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_library(patchbay_${name} STATIC ${arg_SOURCES})
  target_include_directories(patchbay_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(patchbay_${name} PRIVATE ${patchbay_warnings} ${patchbay_sanitizers})
  foreach(layer IN LISTS arg_USES)
    target_link_libraries(patchbay_${name} PUBLIC patchbay_${layer})
  endforeach()
  target_link_libraries(patchbay_${name} PUBLIC ${arg_LIBRARIES})
endfunction()

# A test program NAME_test; ctest runs it, labelled unit.
function(patchbay_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_executable(${name}_test ${arg_SOURCES})
  target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${name}_test PRIVATE ${patchbay_warnings} ${patchbay_sanitizers})
  foreach(layer IN LISTS arg_USES)
    target_link_libraries(${name}_test PRIVATE patchbay_${layer})
  endforeach()
  target_link_libraries(${name}_test PRIVATE ${arg_LIBRARIES} GTest::gmock_main)
  add_test(NAME ${name} COMMAND ${name}_test)
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()
