// The config.json of a model, as far as problem sizes need it, and the sizes that an op reads from
// it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::spec {

// How often a pass of the model calls an op with one size, all layers together. 0: never, or that
// is not known.
struct ModelCalls {
  int64_t decode = 0;  // a step of at most 16 tokens
  int64_t prompt = 0;  // a prompt, which is all tokens at once
};

// Sizes that a model has for an op, without the first name (rows or B), which follows from how many
// tokens go through at once.
struct ModelSizes {
  std::string name;          // "model" for what a run takes by itself; "latent", "q_norm", ...
  std::string reason;        // which fields, and where in the model it occurs: one sentence
  Dims dims;                 // every name of the op but the first
  int64_t per_token = 1;     // rows that one token makes (heads, chosen experts)
  bool decode_only = false;  // the op works on one token a sequence: no prefill sizes
  // By a model of mlx-lm once mlx_kd.patch has replaced its modules.
  ModelCalls calls = {};
  // Values of the first name that do not follow from the tokens, rising: lengths of a cache,
  // between which every one occurs. Empty: it follows from the tokens.
  std::vector<int64_t> lengths = {};
};

// Fields are looked for in the language part of a multimodal model first (text_config, llm_config,
// language_config, thinker_config, the innermost), then in the whole; null counts as absent.
class ModelConfig {
 public:
  static constexpr int64_t kLargest = int64_t(1) << 31;  // of a field

  // `origin` is what messages call it. Misuse (room spec) if the value is not an object.
  ModelConfig(base::Json config, std::string origin);

  const std::string& origin() const { return origin_; }
  const base::Json& whole() const { return whole_; }
  bool has(const std::string& field) const { return find(field) != nullptr; }
  // An integer of at least 1 and at most kLargest; nullopt if absent. A list of equal integers (a
  // width a layer) counts as that integer. Misuse naming the field and its value for anything else.
  std::optional<int64_t> integer(const std::string& field) const;
  int64_t integer_or(const std::string& field, int64_t otherwise) const;
  // As integer, but 0 is allowed, and what an absent field gives.
  int64_t count(const std::string& field) const;
  // The first of `fields` that is there. Misuse, naming them all, if none is; `what` says what they
  // are needed for.
  int64_t first_of(const std::vector<std::string>& fields, const std::string& what) const;
  bool flag(const std::string& field) const;         // there and true
  std::string text(const std::string& field) const;  // empty if it is not a string
  // A field that is an object ("quantization"); nullopt if it is none.
  std::optional<ModelConfig> part(const std::string& field) const;
  // The texts of a field that is a list ("layer_types"); empty if it is none.
  std::vector<std::string> texts(const std::string& field) const;
  // The names of the fields, those of the language part first.
  std::vector<std::string> fields() const;
  // model_type, of the language part if it says one.
  std::string model_type() const { return text("model_type"); }
  // Whether the model_type of the language part or of the whole contains `part`.
  bool is_type(const std::string& part) const;

 private:
  const base::Json* find(const std::string& field) const;
  std::optional<int64_t> integer_from(int64_t least, const std::string& field) const;

  base::Json whole_, language_;
  std::string origin_;
};

}  // namespace mlx_kd::spec
