#pragma once

#include <llama.h>

#include <cstddef>
#include <cstdint>

namespace llama_adapter {

/// Tokens for llama_decode, each of which asks for logits.
class token_batch {
 public:
  explicit token_batch(std::size_t most) : batch_{llama_batch_init(static_cast<std::int32_t>(most), 0, 1)} {}
  token_batch(const token_batch&) = delete;
  token_batch& operator=(const token_batch&) = delete;
  ~token_batch() { llama_batch_free(batch_); }

  void add(std::int32_t token, std::size_t position, std::size_t sequence = 0) noexcept {
    const std::int32_t at = batch_.n_tokens++;
    batch_.token[at] = token;
    batch_.pos[at] = static_cast<llama_pos>(position);
    batch_.n_seq_id[at] = 1;
    batch_.seq_id[at][0] = static_cast<llama_seq_id>(sequence);
    batch_.logits[at] = 1;
  }

  [[nodiscard]] const llama_batch& get() const noexcept { return batch_; }

 private:
  llama_batch batch_;
};

}  // namespace llama_adapter
