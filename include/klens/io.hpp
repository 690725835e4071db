// Scores, plans, checkpoints and safetensors as files. Needs nlohmann-json.
#pragma once

#include <klens/io/atomic_file.hpp>
#include <klens/io/checkpoint.hpp>
#include <klens/io/inputs_file.hpp>
#include <klens/io/json_text.hpp>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
