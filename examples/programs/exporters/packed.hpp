#pragma once

#include <filesystem>
#include <klens/layer.hpp>
#include <klens/plan/plan.hpp>
#include <span>

#include "../engine/model.hpp"

namespace programs {

/// Writes a model folder with a plan carried out: the layers of the plan as their schemes pack them (engine/packed.hpp has the
/// format), everything else and config.json as in `folder`. klens evaluate and klens logits run it like any model; its weights
/// are, bit for bit, those of the plan's simulation, and those of the plan take exactly `plan.bytes`. The folder is there whole
/// or not at all.
///   source   the model that was loaded from `folder`, its weights untouched
///   layers   whose `inputs` the schemes know that look at them
/// Throws     klens::file_error for a target that exists and for a folder that is packed already.
void write_packed(const std::filesystem::path& target, const klens::plan& plan, const std::filesystem::path& folder,
                  model& source, std::span<const klens::layer> layers);

/// What write_packed throws, before the work.
void expect_new_folder(const std::filesystem::path& target);
void expect_packable(const std::filesystem::path& folder);

}  // namespace programs
