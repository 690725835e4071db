#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/forward.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/site_kind.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "architecture.hpp"
#include "parameter.hpp"
#include "past.hpp"
#include "rounding.hpp"
#include "workspace.hpp"

namespace programs {

/// Weights of a model: a tensor, or some rows of one. What is written through its layer changes every later forward.
struct weight {
  std::string name;       ///< as in the file; "lm_head.weight" for the output head, "...[z]" for a row range,
                          ///< "...[3]" for the fourth of several that the file stacks in one tensor
  Eigen::Index rows = 0;  ///< [out x in]; small weights are [1 x n], a conv [channels x taps]
  Eigen::Index columns = 0;
  std::string kind;            ///< "in_proj", "q_proj", ..., "embed_tokens", "lm_head"
  int block = -1;              ///< as the names count them; -1: embedding, final norm, head
  std::size_t stage = 0;       ///< the first stage that reads it; stages() for the head
  std::size_t last_stage = 0;  ///< the last one that reads it, or what it left for later stages
  bool tied = false;           ///< the same weights are both embedding and head
  std::string tensor;          ///< the tensor of the file that it is, or is some rows of
  parameter* of = nullptr;     ///< the model's
  Eigen::Index first = 0;      ///< its first row there

  /// As klens changes it: a small weight in place; of others the model keeps its own and lends floats. It lives as long as the
  /// model.
  [[nodiscard]] klens::layer as_layer() const;
};

/// Sequences on their way through a model. A copy goes on from where it was taken.
struct state {
  std::size_t sequences = 0;
  std::size_t length = 0;            ///< positions of each sequence
  std::vector<std::int32_t> tokens;  ///< [sequences x length]
  klens::matrix<float> hidden;       ///< the residual stream, [sequences * length x width]; empty before stage 0
  klens::matrix<float> memory;       ///< the same of the rows that stand before every sequence; empty where the model has none
  image_grid image;  ///< of a model of images, whose rows of `hidden` its stages arrange; they are sequences of one
                     ///< position: their class logits
  std::vector<klens::matrix<float>> kept;  ///< what stages leave for later ones, memory rows first in each sequence
  std::vector<past> before;                ///< what each sequence has behind it, so that it can go on; empty: none does
  bool begun = false;  ///< the tokens go on where earlier ones ended: the rows before every sequence are behind them
};

/// Something that a part keeps, in its place.
struct placed_vectors : kept_vectors {
  std::size_t stage = 0;       ///< of the part
  std::size_t last_stage = 0;  ///< the last one that reads it
};

/// The note of a state that is stored with error feedback.
inline constexpr const char* feedback_note = "with error feedback; the remainder that it keeps is not counted in bytes";

/// The note of inputs that have one scale for all tokens.
inline constexpr const char* per_tensor_note = "one scale for all tokens of a sequence";
/// The note of keys and values that are stored channel by channel: a vector is so many positions of one.
[[nodiscard]] std::string by_channel_note(std::size_t positions);

/// How sites are counted and stored.
struct site_options {
  std::size_t context = 1;      ///< positions whose keys and values are kept
  bool error_feedback = false;  ///< what rounding takes from a state is added before it is rounded again
  std::size_t sequences = 1;    ///< that the engine serves at the same time: sizes are of all of them together
  /// Keys and values have a scale for each channel and so many positions, which are stored when the last of them is there, and are
  /// floats until then (KIVI, arXiv 2402.02750, stores keys so); 0: one for each position of a head.
  std::size_t kv_by_channel = 0;
  bool activations_per_tensor = false;  ///< one scale for all inputs that a product has of a sequence; else one a token
};

struct load_options {
  bool strict = false;  ///< refuse fields of config.json that klens does not know, which a remark names otherwise
};

/// A language model (or one that classifies images) in HF format that can stop between blocks, in float arithmetic: weights of products stay in the type of their
/// file, which is mapped as long as the model lives, and become float where a product needs them. Stage 0 is the embedding, each
/// further one adds a mixer (or several side by side) or a feed-forward network to the residual stream, so that a block is two
/// of them as a rule; after stages() of them come final norm and head (`logits`).
/// Every sequence is computed on its own and by one thread, so results are the same, bit for bit, for any batch, any number of
/// threads and from any copied state. const members may run at the same time in several threads.
class model {
 public:
  /// Reads config.json and model.safetensors (or the shards of model.safetensors.index.json) from a folder.
  /// Throws klens::file_error: path, what is wrong, what to do.
  [[nodiscard]] static model load(const std::filesystem::path& folder, load_options options = {});

  [[nodiscard]] const std::string& type() const noexcept { return type_; }
  /// What a user should know of how it was loaded, one sentence each.
  [[nodiscard]] const std::vector<std::string>& remarks() const noexcept { return remarks_; }
  /// True for a model of images: begin_images instead of begin, and a row of class logits for each image.
  [[nodiscard]] bool reads_images() const noexcept { return parts_.images != nullptr; }
  [[nodiscard]] std::size_t vocabulary() const noexcept;  ///< or classes
  /// The token that texts begin with, as config.json has it (bos_token_id); none where it says nothing of use.
  [[nodiscard]] std::optional<std::int32_t> begin_token() const noexcept { return begin_token_; }
  [[nodiscard]] std::size_t stages() const noexcept {
    return 1 + (reads_images() ? parts_.images->steps.size() : parts_.steps.size());
  }

  /// Every weight [out x in] of a matrix product, in order of stages; with `split_fused` a fused one comes as its row ranges.
  /// The embedding is among them unless it is tied: a gather of its rows is a product with one-hot rows.
  [[nodiscard]] std::vector<weight> weights(bool split_fused = false) const;
  /// All others: conv, A_log, D, norms, biases.
  [[nodiscard]] std::vector<weight> small_weights();

  /// What its parts keep of each sequence while they run, in order of stages. A model of images keeps nothing.
  [[nodiscard]] std::vector<placed_vectors> kept() const;
  /// Sites of these kinds, in order of stages: as layers, that store what comes into being while the model runs. Keys and values
  /// have a vector a head and position, of at most as many positions as their attention sees; a state one a head, channel by channel
  /// (of Mamba: one a channel); a convolution one for each of the inputs that it keeps; inputs of products one, of the token at
  /// hand, which nobody keeps. Whole vectors are stored the moment they come into being, a state after every step; a step reads what
  /// was stored before it, and the state of its own position as it is. Layers live as long as the model; one thread changes them.
  [[nodiscard]] std::vector<klens::layer> sites(std::span<const klens::site_kind> kinds, const site_options& options) const;

  /// The state before stage 0 of `sequences` sequences of `length` tokens each.
  /// Throws klens::shape_error where the tokens are not so many, klens::argument_error for a token outside the vocabulary.
  [[nodiscard]] state begin(std::span<const std::int32_t> tokens, std::size_t sequences, std::size_t length) const;

  /// The state before stage 0 of the next tokens, one a sequence, after a state that has passed all stages. `at` must have had one
  /// `past` a sequence in `before` since stage 0. Its logits are those of the whole sequence at that position, up to rounding.
  /// Throws klens::shape_error where there is not one token a sequence, klens::argument_error as begin does.
  [[nodiscard]] state go_on(state at, std::span<const std::int32_t> tokens) const;

  /// The state before stage 0, which does nothing, of images [images x 3 * places], color by color, as a model of images wants them.
  [[nodiscard]] state begin_images(const klens::const_matrix_ref<float>& images, image_grid each) const;

  /// Carries out one stage, in place.
  void advance(state& at, std::size_t stage, std::size_t threads = 1) const;

  /// Final norm and head, after the last stage: [positions x vocabulary], the state stays as it is. With `rows`, only those
  /// rows of the hidden matrix, in that order.
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::size_t threads = 1) const;
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::span<const std::size_t> rows, std::size_t threads = 1) const;

  /// From now on calls observer(name, inputs [positions x in]) for every product with weights of that name, whole and split, also
  /// from several threads; an empty one sees nothing more. What an embedding that is not tied is multiplied with would be one-hot
  /// rows, which tell its columns nothing apart: it is shown once, with equal inputs of its columns.
  void show_inputs(const klens::input_observer& observer) const;

  /// Floating-point operations of one stage's matrix products for one sequence; stage stages() is the head at all positions.
  [[nodiscard]] double flops(std::size_t stage, std::size_t length) const;
  [[nodiscard]] double flops(std::size_t stage, image_grid image) const;

 private:
  model() = default;
  [[nodiscard]] std::size_t stage_of(const parameter& of) const;
  [[nodiscard]] std::size_t last_stage_of(const parameter& of) const;
  [[nodiscard]] weight view(parameter& of) const;
  void embed(state& at) const;
  void advance_images(state& at, std::size_t step, std::size_t threads) const;
  [[nodiscard]] std::size_t width() const noexcept;
  [[nodiscard]] Eigen::Index memory_rows(const state& at) const noexcept {
    return parts_.memory && !at.begun ? parts_.memory->rows() : 0;
  }
  static void run(const residual_step& step, klens::matrix_ref<float> hidden, pass& at);

  std::string type_;
  std::vector<std::string> remarks_;
  std::optional<std::int32_t> begin_token_;
  std::vector<std::unique_ptr<parameter>> parameters_;
  architecture parts_;
  std::unique_ptr<roundings> rounded_ = std::make_unique<roundings>();  // what sites say
  std::unique_ptr<workspace_pool> pool_ = std::make_unique<workspace_pool>();
};

}  // namespace programs
