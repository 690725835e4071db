// libFuzzer's door to one of the readers: fuzz::KLENS_FUZZ_READER.
#include "fuzz/readers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  fuzz::KLENS_FUZZ_READER({data, size});
  return 0;
}
