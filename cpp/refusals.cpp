#include "refusals.h"

#include <string_view>
#include <unordered_set>

namespace srum {
namespace {

using Names = std::unordered_set<std::string_view>;

constexpr const char* kStep = "a step inside other operators, which trusts the sizes and values it is given";
constexpr const char* kBackward =
    "a step of differentiation, which trusts what the forward step left; backward() and grad() call it";
constexpr const char* kPacked = "works on packed or quantized tensors, whose layout cannot be checked";
constexpr const char* kForeign =
    "operators of this library take objects that have no JavaScript form, or none that could be checked";

// Steps of differentiation that are elementwise, or made of operators that check their arguments.
const Names& safeBackward() {
  static const auto* names = new Names{
      "binary_cross_entropy_backward",
      "convolution_backward",
      "elu_backward",
      "gelu_backward",
      "glu_backward",
      "hardshrink_backward",
      "hardsigmoid_backward",
      "hardswish_backward",
      "hardtanh_backward",
      "huber_loss_backward",
      "infinitely_differentiable_gelu_backward",
      "leaky_relu_backward",
      "linear_backward",
      "logit_backward",
      "mish_backward",
      "mse_loss_backward",
      "sigmoid_backward",
      "silu_backward",
      "soft_margin_loss_backward",
      "softplus_backward",
      "softshrink_backward",
      "tanh_backward",
      "threshold_backward",
  };
  return *names;
}

// Names with a leading underscore are LibTorch's own; these check their arguments, and are of use to others. A new
// LibTorch brings new ones, which are not offered before somebody has looked at them.
bool safeInternal(std::string_view name) {
  static const auto* names = new Names{
      "_adaptive_avg_pool2d",
      "_adaptive_avg_pool3d",
      "_add_relu",
      "_add_relu_",
      "_addmm_activation",
      "_aminmax",
      "_assert_async",
      "_assert_scalar",
      "_assert_tensor_metadata",
      "_backward",
      "_cdist_forward",
      "_coalesce",
      "_conv_depthwise2d",
      "_convolution",
      "_convolution_mode",
      "_copy_from_and_resize",
      "_ctc_loss",
      "_cudnn_attention_forward",
      "_debug_has_internal_overlap",
      "_dimI",
      "_dimV",
      "_dim_arange",
      "_dirichlet_grad",
      "_efficient_attention_forward",
      "_embedding_bag",
      "_embedding_bag_forward_only",
      "_euclidean_dist",
      "_flash_attention_forward",
      "_functional_assert_async",
      "_functional_assert_scalar",
      "_fused_dropout",
      "_fused_rms_norm",
      "_fused_sdp_choice",
      "_grouped_mm",
      "_has_same_storage_numel",
      "_histogramdd_bin_edges",
      "_indices",
      "_indices_copy",
      "_int_mm",
      "_is_all_true",
      "_is_any_true",
      "_is_zerotensor",
      "_linalg_det",
      "_linalg_eigh",
      "_linalg_eigvals",
      "_linalg_slogdet",
      "_linalg_solve_ex",
      "_linalg_svd",
      "_local_scalar_dense",
      "_log_softmax",
      "_lu_with_info",
      "_masked_scale",
      "_masked_softmax",
      "_native_multi_head_attention",
      "_neg_view",
      "_neg_view_copy",
      "_nnz",
      "_pad_circular",
      "_pad_enum",
      "_prelu_kernel",
      "_reshape_copy",
      "_reshape_from_tensor",
      "_safe_softmax",
      "_sample_dirichlet",
      "_scaled_dot_product_cudnn_attention",
      "_scaled_dot_product_efficient_attention",
      "_scaled_dot_product_flash_attention",
      "_scaled_dot_product_fused_attention_overrideable",
      "_scaled_grouped_mm",
      "_scaled_mm",
      "_shape_as_tensor",
      "_softmax",
      "_sparse_addmm",
      "_sparse_broadcast_to",
      "_sparse_broadcast_to_copy",
      "_sparse_csr_prod",
      "_sparse_csr_sum",
      "_sparse_log_softmax",
      "_sparse_mm",
      "_sparse_softmax",
      "_sparse_sparse_matmul",
      "_sparse_sum",
      "_standard_gamma",
      "_standard_gamma_grad",
      "_transformer_encoder_layer_fwd",
      "_trilinear",
      "_unique",
      "_unique2",
      "_unsafe_index",
      "_unsafe_index_put",
      "_unsafe_masked_index",
      "_unsafe_masked_index_put_accumulate",
      "_unsafe_view",
      "_upsample_bicubic2d_aa",
      "_upsample_bilinear2d_aa",
      "_upsample_lanczos2d_aa",
      "_upsample_nearest_exact1d",
      "_upsample_nearest_exact2d",
      "_upsample_nearest_exact3d",
      "_values",
      "_values_copy",
      "_version",
      "_weight_int8pack_mm",
  };
  if (names->contains(name)) return true;
  for (const std::string_view prefix :
       {"__", "_amp_", "_cast_", "_conj", "_foreach_", "_philox_", "_test_", "_to_", "_validate_sparse_"})
    if (name.starts_with(prefix)) return true;
  return false;
}

// What the names would not tell.
bool unsafeStep(std::string_view name) {
  static const auto* names = new Names{"_foreach_copy", "copy", "native_batch_norm", "native_group_norm"};
  return names->contains(name);
}

bool isPacked(std::string_view name) {
  if (name.starts_with("fbgemm_") || name.starts_with("mkldnn_rnn_") || name.starts_with("choose_qparams")) return true;
  return name.find("quantize") != name.npos && name.find("fake_quantize") == name.npos && name != "dequantize";
}

}  // namespace

const char* refusalOf(const std::string& qualified) {
  if (qualified.starts_with("srum::")) return nullptr;
  if (!qualified.starts_with("aten::")) return kForeign;
  const std::string_view name = std::string_view(qualified).substr(6);
  if (isPacked(name)) return kPacked;
  if (unsafeStep(name)) return kStep;
  if (name.find("_backward") != name.npos && name != "_backward")
    return safeBackward().contains(name) ? nullptr : kBackward;
  return name.starts_with('_') && !safeInternal(name) ? kStep : nullptr;
}

}  // namespace srum
