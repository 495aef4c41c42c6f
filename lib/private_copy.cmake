# A copy of a static library that belongs to gq alone, of which gq makes some system calls itself.
#
#   private_copy(NAME ARCHIVE CALLS call... NEVER call...)
#
# makes the library libgq-NAME.a, and the target gq-NAME for it. The copy is the archive's code with other names. Each of
# CALLS is named gq_libNAME_call in it, which lib/ defines: without that definition nothing links, so the copy cannot work
# with calls that gq does not see. What the library itself defines begins with gq_, so that a program may link the
# library as well, of any version. NAME-names.h, which the copy's callers are compiled with, names that for them.
#
# The other ways to see a library's calls fail open. A function of the C library's name, in front of it, gets the calls of
# the whole program, has to tell them apart by the address of the caller, and sees none of a library that has another
# name; the linker's --wrap sees no calls of shared libraries, and does not pass to programs that link libgq.a.
#
# An archive that does not call each of CALLS, or that calls one of NEVER, which do the same, is refused.
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
