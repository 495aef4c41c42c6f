# private_copy(NAME ARCHIVE CALLS call... NEVER call...)
#
# Makes a private copy of a static library in which gq makes some of the system calls itself: the library libgq-NAME.a,
# with the target gq-NAME.
#
# The copy is the archive's code with some names changed:
# - Each call of CALLS is renamed to gq_libNAME_call. lib/ defines that function. Without the definition nothing links, so
#   the library cannot make such a call without gq.
# - Each name that the library defines gets the prefix gq_. So a program can link the library itself as well, in any
#   version. Files that use the copy are compiled with NAME-names.h, which maps the old names to the new ones.
#
# The other ways to intercept a library's calls fail open. A function with the name of the C library's, linked before it,
# gets the calls of the whole program: it must tell them apart by the caller's address, and misses the calls of a library
# with another name. The linker's --wrap misses the calls of shared libraries, and does not apply to programs that link
# libgq.a.
#
# The function refuses an archive that does not make all of CALLS, or that makes one of NEVER, which would do the same
# work unseen.
function(private_copy name archive)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "CALLS;NEVER")
  execute_process(COMMAND ${CMAKE_NM} -gP ${archive} OUTPUT_VARIABLE symbols ERROR_QUIET RESULT_VARIABLE result)
  if(result)
    message(FATAL_ERROR "cannot read ${archive}: ${CMAKE_NM} says ${result}")
  endif()
  string(REGEX MATCHALL "[^ \n]+ [A-TV-Zui] " defined "${symbols}")
  string(REGEX MATCHALL "[^ \n]+ [Uvw] " undefined "${symbols}")
  list(TRANSFORM defined REPLACE " .*" "")
  list(TRANSFORM undefined REPLACE " .*" "")
  list(REMOVE_DUPLICATES defined)
  set(names "")
  foreach(call ${arg_CALLS})
    if(NOT call IN_LIST undefined)
      message(FATAL_ERROR "cannot use ${archive}: it does not call ${call}, so that gq would not see what it does")
    endif()
    string(APPEND names "${call} gq_lib${name}_${call}\n")
  endforeach()
  foreach(call ${arg_NEVER})
    if(call IN_LIST undefined)
      message(FATAL_ERROR "cannot use ${archive}: it calls ${call}, which gq would not see")
    endif()
  endforeach()
  set(header "")
  foreach(symbol ${defined})
    string(APPEND names "${symbol} gq_${symbol}\n")
    if(symbol MATCHES "^_?[a-z][A-Za-z0-9_]*$")
      string(APPEND header "#define ${symbol} gq_${symbol}\n")
    endif()
  endforeach()
  set(copy ${CMAKE_BINARY_DIR}/libgq-${name}.a)
  file(CONFIGURE OUTPUT ${name}-names CONTENT "${names}" @ONLY)
  file(CONFIGURE OUTPUT ${name}-names.h CONTENT "${header}" @ONLY)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${archive})
  add_custom_command(OUTPUT ${copy} DEPENDS ${archive} ${CMAKE_CURRENT_BINARY_DIR}/${name}-names VERBATIM
                     COMMAND ${CMAKE_OBJCOPY} --redefine-syms=${name}-names ${archive} ${copy}
                     COMMENT "Making libgq-${name}.a of ${archive}")
  add_custom_target(gq-${name}-copy DEPENDS ${copy})
  add_library(gq-${name} STATIC IMPORTED)
  set_target_properties(gq-${name} PROPERTIES IMPORTED_LOCATION ${copy})
  add_dependencies(gq-${name} gq-${name}-copy)
  install(FILES ${copy} DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()
