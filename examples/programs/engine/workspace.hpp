#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/matrix.hpp>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <vector>

namespace programs {

/// A row-major matrix in borrowed memory.
using panel = Eigen::Map<klens::matrix<float>>;

/// All elements of a panel as one row.
[[nodiscard]] inline std::span<float> all_of(panel& of) noexcept { return {of.data(), static_cast<std::size_t>(of.size())}; }

/// Memory for the intermediate results of one thread. What is taken stays valid until the `frame` around it ends; nothing is
/// given back to the system in between, so that a forward does not pay for fresh pages at every step.
class workspace {
 public:
  /// Uninitialised; begins at a multiple of 64 bytes, so that results never depend on where memory happens to lie.
  [[nodiscard]] panel take(Eigen::Index rows, Eigen::Index columns) {
    const std::size_t needed = (static_cast<std::size_t>(rows * columns) + 15) / 16 * 16;
    while (block_ < blocks_.size() && used_ + needed > blocks_[block_].size) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) blocks_.emplace_back(std::max(needed, std::size_t{1} << 18));
    float* const place = blocks_[block_].memory.get() + used_;
    used_ += needed;
    return {place, rows, columns};
  }

  /// Gives back, when it ends, what was taken since it began.
  class frame {
   public:
    explicit frame(workspace& of) noexcept : of_(of), block_(of.block_), used_(of.used_) {}
    frame(const frame&) = delete;
    frame& operator=(const frame&) = delete;
    ~frame() {
      of_.block_ = block_;
      of_.used_ = used_;
    }

   private:
    workspace& of_;
    std::size_t block_, used_;
  };

 private:
  struct release {
    void operator()(float* memory) const noexcept { ::operator delete[](memory, std::align_val_t{64}); }
  };
  struct block {
    explicit block(std::size_t floats)
        : size(floats), memory(static_cast<float*>(::operator new[](floats * sizeof(float), std::align_val_t{64}))) {}
    std::size_t size;
    std::unique_ptr<float[], release> memory;
  };
  std::vector<block> blocks_;
  std::size_t block_ = 0, used_ = 0;
};

/// Workspaces that wait for the next thread.
class workspace_pool {
 public:
  /// One of them, until the lease ends.
  class lease {
   public:
    explicit lease(workspace_pool& pool) : pool_(pool) {
      const std::lock_guard lock(pool_.guard_);
      if (pool_.idle_.empty()) pool_.idle_.push_back(std::make_unique<workspace>());
      held_ = std::move(pool_.idle_.back());
      pool_.idle_.pop_back();
    }
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    ~lease() {
      const std::lock_guard lock(pool_.guard_);
      pool_.idle_.push_back(std::move(held_));
    }
    workspace& operator*() const noexcept { return *held_; }

   private:
    workspace_pool& pool_;
    std::unique_ptr<workspace> held_;
  };

 private:
  std::mutex guard_;
  std::vector<std::unique_ptr<workspace>> idle_;
};

}  // namespace programs
