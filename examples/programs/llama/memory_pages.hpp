#pragma once

#include <cstddef>

namespace llama_adapter {

/// Whether all of this memory is a file's, mapped only to be read: its pages may leave memory at any time, and come back from the
/// file when they are read again. False where that cannot be known.
[[nodiscard]] bool is_mapped_file(const void* memory, std::size_t bytes);

/// Gives the pages that lie wholly in this memory back to the system. What is read there afterwards is the file's again where
/// is_mapped_file, and zero elsewhere.
void give_back_pages(const void* memory, std::size_t bytes) noexcept;

}  // namespace llama_adapter
