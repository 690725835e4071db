#pragma once
// The version of klens. This is the one place: CMake reads it here, and a test holds meson.build to it.
//   #if KLENS_VERSION_MAJOR == 0 && KLENS_VERSION_MINOR >= 2
// Until 1.0 a new minor version may change the interface; CHANGELOG.md says how.

#define KLENS_VERSION_MAJOR 0
#define KLENS_VERSION_MINOR 2
#define KLENS_VERSION_PATCH 0

#define KLENS_TEXT_OF(number) #number
#define KLENS_JOIN_VERSION(major, minor, patch) KLENS_TEXT_OF(major) "." KLENS_TEXT_OF(minor) "." KLENS_TEXT_OF(patch)
/// The version as text: "0.2.0".
#define KLENS_VERSION KLENS_JOIN_VERSION(KLENS_VERSION_MAJOR, KLENS_VERSION_MINOR, KLENS_VERSION_PATCH)
