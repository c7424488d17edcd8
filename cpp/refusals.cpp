#include "refusals.h"

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <type_traits>
#include <unordered_map>

#include "errors.h"

namespace srum {
namespace {

struct Refusal {
  const char* reason;
  std::vector<const char*> names;
};

// Found by calling every operator with random arguments in a loop, the tensors lying between guard
// pages. LibTorch itself goes on using all of them, with arguments it has made; so do the operators for users that rest
// on them (batch_norm on native_batch_norm, stack on _stack, ...).
const std::vector<Refusal>& refusals() {
  static const auto* list = new std::vector<Refusal>{
      {"a step inside other operators, which trusts the sizes and values it is given",
       {"aten::_adaptive_avg_pool2d_backward",
        "aten::_adaptive_avg_pool3d_backward",
        "aten::_batch_norm_impl_index_backward",
        "aten::_batch_norm_no_update",
        "aten::_batch_norm_with_update",
        "aten::_batch_norm_with_update_functional",
        "aten::_cdist_backward",
        "aten::_cholesky_solve_helper",
        "aten::_chunk_cat",
        "aten::_compute_linear_combination",
        "aten::_convert_indices_from_coo_to_csr",
        "aten::_convert_indices_from_csr_to_coo",
        "aten::_ctc_loss_backward",
        "aten::_cummax_helper",
        "aten::_cummin_helper",
        "aten::_fft_c2c",
        "aten::_fft_c2r",
        "aten::_fft_r2c",
        "aten::_fused_adagrad",
        "aten::_fused_adagrad_",
        "aten::_fused_adam",
        "aten::_fused_adam_",
        "aten::_fused_adamw",
        "aten::_fused_adamw_",
        "aten::_fused_sgd",
        "aten::_fused_sgd_",
        "aten::_log_softmax_backward_data",
        "aten::_logcumsumexp",
        "aten::_native_batch_norm_legit",
        "aten::_native_batch_norm_legit_functional",
        "aten::_native_batch_norm_legit_no_training",
        "aten::_pdist_backward",
        "aten::_pdist_forward",
        "aten::_reshape_alias",
        "aten::_reshape_alias_copy",
        "aten::_scaled_dot_product_attention_math",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_slow_conv2d_backward",
        "aten::_sobol_engine_draw",
        "aten::_sobol_engine_ff_",
        "aten::_sobol_engine_initialize_state_",
        "aten::_sobol_engine_scramble_",
        "aten::_softmax_backward_data",
        "aten::_stack",
        "aten::_thnn_differentiable_gru_cell_backward",
        "aten::_thnn_differentiable_lstm_cell_backward",
        "aten::_thnn_fused_gru_cell_backward",
        "aten::_thnn_fused_lstm_cell_backward",
        "aten::_thnn_fused_lstm_cell_backward_impl",
        "aten::_transform_bias_rescale_qkv",
        "aten::_weight_norm",
        "aten::_weight_norm_interface",
        "aten::_weight_norm_interface_backward",
        "aten::batch_norm_backward",
        "aten::copy",
        "aten::embedding_dense_backward",
        "aten::fractional_max_pool2d_backward",
        "aten::fractional_max_pool3d_backward",
        "aten::native_batch_norm",
        "aten::native_batch_norm_backward",
        "aten::native_group_norm",
        "aten::reflection_pad1d_backward",
        "aten::reflection_pad2d_backward",
        "aten::reflection_pad3d_backward",
        "aten::replication_pad1d_backward",
        "aten::replication_pad2d_backward",
        "aten::replication_pad3d_backward",
        "aten::smooth_l1_loss_backward"}},
      {"works on packed or quantized weights, whose layout cannot be checked",
       {"aten::_dyn_quant_matmul_4bit", "aten::_dyn_quant_pack_4bit_weight", "aten::_nnpack_spatial_convolution",
        "aten::_saturate_weight_to_fp16", "aten::fbgemm_linear_fp16_weight",
        "aten::fbgemm_linear_fp16_weight_fp32_activation", "aten::fbgemm_linear_int8_weight",
        "aten::fbgemm_linear_int8_weight_fp32_activation", "aten::fbgemm_linear_quantize_weight",
        "aten::fbgemm_pack_gemm_matrix_fp16", "aten::fbgemm_pack_quantized_matrix", "aten::mkldnn_rnn_layer",
        "aten::mkldnn_rnn_layer_backward", "aten::quantized_gru_cell", "aten::quantized_lstm_cell",
        "aten::quantized_rnn_relu_cell", "aten::quantized_rnn_tanh_cell"}},
      {"belongs inside a transform (vmap, forward mode, nested tensors) and trusts its state",
       {"aten::_add_batch_dim", "aten::_efficientzerotensor", "aten::_nested_compute_contiguous_strides_offsets",
        "aten::_nested_from_padded", "aten::_new_zeros_with_same_feature_meta", "aten::_remove_batch_dim"}},
      {"makes a sparse tensor without looking at its indices",
       {"aten::_sparse_coo_tensor_unsafe", "aten::_sparse_csr_tensor_unsafe", "aten::_sparse_csc_tensor_unsafe",
        "aten::_sparse_bsr_tensor_unsafe", "aten::_sparse_bsc_tensor_unsafe", "aten::_sparse_compressed_tensor_unsafe",
        "aten::_sparse_coo_tensor_with_dims_and_tensors"}},
  };
  return *list;
}

[[noreturn]] void listsDiffer(const Param& param) {
  throw CallError("ERR_ARGUMENT", "argument '" + param.name + "' must have as many entries as the first list");
}

// aten::_foreach_*: every list as long as the first, and none empty.
void guardForeach(const std::vector<Param>& params, const torch::jit::Stack& arguments) {
  size_t length = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const Kind kind = params[i].kind;
    if (kind != Kind::TensorList && kind != Kind::ScalarList) continue;
    const size_t size = arguments[i].toListRef().size();
    if (size == 0) throw CallError("ERR_ARGUMENT", "argument '" + params[i].name + "' is an empty list");
    if (length != 0 && size != length) listsDiffer(params[i]);
    length = size;
  }
}

bool isIntegral(const at::Tensor& tensor) { return c10::isIntegralType(tensor.scalar_type(), false); }

// Integer division that truncates traps for the smallest value by -1, whose quotient does not exist.
void guardDivision(const std::vector<Param>& params, const torch::jit::Stack& arguments) {
  bool truncates = false;
  for (size_t i = 2; i < arguments.size(); ++i)
    truncates = truncates ||
                (params[i].name == "rounding_mode" && arguments[i].isString() && arguments[i].toStringRef() == "trunc");
  if (!truncates || !arguments[0].isTensor() || !isIntegral(arguments[0].toTensor())) return;
  const at::Tensor& dividend = arguments[0].toTensor();
  const c10::IValue& divisor = arguments[1];
  if (!dividend.device().is_cpu() || dividend.numel() == 0) return;
  if (divisor.isTensor()) {
    const at::Tensor& tensor = divisor.toTensor();
    if (!isIntegral(tensor) || !tensor.device().is_cpu() || !tensor.eq(-1).any().item<bool>()) return;
  } else if (!divisor.isInt() || divisor.toInt() != -1) {
    return;
  }
  const bool smallest = AT_DISPATCH_INTEGRAL_TYPES(dividend.scalar_type(), "div", [&] {
    return std::is_signed_v<scalar_t> &&
           dividend.eq(static_cast<int64_t>(std::numeric_limits<scalar_t>::min())).any().item<bool>();
  });
  if (smallest) throw CallError("ERR_ARGUMENT", "the smallest integer cannot be divided by -1");
}

// Sizes and strides whose product leaves 64 bits would pass for ones that fit the storage.
void guardStrides(const std::vector<Param>& params, const torch::jit::Stack& arguments) {
  constexpr int64_t kLimit = int64_t{1} << 58;
  std::vector<int64_t> size, stride;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (params[i].name == "size" && arguments[i].isIntList()) size = arguments[i].toIntVector();
    if (params[i].name == "stride" && arguments[i].isIntList()) stride = arguments[i].toIntVector();
    if (params[i].name == "storage_offset" && arguments[i].isInt() && arguments[i].toInt() > kLimit)
      throw CallError("ERR_ARGUMENT", "storage_offset is too large");
  }
  int64_t last = 0;
  for (size_t i = 0; i < std::min(size.size(), stride.size()); ++i) {
    int64_t reach = 0;
    if (size[i] == 0) return;
    if (__builtin_mul_overflow(size[i] - 1, stride[i], &reach) || __builtin_add_overflow(last, reach, &last) ||
        last > kLimit)
      throw CallError("ERR_ARGUMENT", "size and stride are too large");
  }
}

// The gates' weights are taken from the list one after the other, without a look at its end.
void guardRecurrent(const std::vector<Param>& params, const torch::jit::Stack& arguments) {
  int64_t given = 0, layers = 1;
  bool biases = true, both = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (params[i].name == "params") given = static_cast<int64_t>(arguments[i].toListRef().size());
    if (params[i].name == "num_layers") layers = arguments[i].toInt();
    if (params[i].name == "has_biases") biases = arguments[i].toBool();
    if (params[i].name == "bidirectional") both = arguments[i].toBool();
  }
  if (layers < 1 || layers > given) throw CallError("ERR_ARGUMENT", "there are not 'params' for 'num_layers'");
  const int64_t cells = layers * (both ? 2 : 1), plain = biases ? 4 : 2;
  // A projection adds one weight.
  if (given != cells * plain && given != cells * (plain + 1))
    throw CallError("ERR_ARGUMENT", "'params' must have " + std::to_string(cells * plain) + " tensors, or " +
                                        std::to_string(cells * (plain + 1)) + " with projections");
}

// The gradient of no pairs at all is looked for in memory that is not there.
void guardPairs(const std::vector<Param>&, const torch::jit::Stack& arguments) {
  const at::Tensor& self = arguments[0].toTensor();
  if (self.requires_grad() && self.dim() > 0 && self.size(0) == 0)
    throw CallError("ERR_SHAPE", "there is no gradient of the distances of no rows");
}

}  // namespace

void guardSize(const Param& param, const c10::IValue& argument) {
  if (!argument.isIntList()) return;
  int64_t product = 1;
  for (const int64_t extent : argument.toIntVector())
    if (__builtin_mul_overflow(product, std::max<int64_t>(extent, 1), &product))
      throw CallError("ERR_SHAPE", "argument '" + param.name + "' is too large");
}

void guardOutput(const Param& param, const c10::IValue& argument) {
  if (!argument.isTensor()) return;
  const at::Tensor& tensor = argument.toTensor();
  if (tensor.layout() == c10::kStrided && at::has_internal_overlap(tensor) == at::MemOverlap::Yes)
    throw CallError("ERR_ARGUMENT",
                    "argument '" + param.name + "' is written to, but several of its elements share one place");
}

const char* refusalOf(const std::string& name) {
  static const auto* reasons = [] {
    auto* map = new std::unordered_map<std::string_view, const char*>();
    for (const Refusal& refusal : refusals())
      for (const char* refused : refusal.names) map->emplace(refused, refusal.reason);
    return map;
  }();
  const auto found = reasons->find(name);
  if (found != reasons->end()) return found->second;
  if (name.starts_with("aten::") || name.starts_with("srum::")) return nullptr;
  return "operators of this library take objects that have no JavaScript form, or none that could be checked";
}

Guard guardOf(const std::string& name) {
  if (name.starts_with("aten::_foreach_")) return guardForeach;
  if (name == "aten::div" || name == "aten::div_" || name == "aten::divide" || name == "aten::divide_")
    return guardDivision;
  if (name == "aten::lstm" || name == "aten::gru" || name == "aten::rnn_tanh" || name == "aten::rnn_relu")
    return guardRecurrent;
  if (name == "aten::pdist") return guardPairs;
  if (name.find("_strided") != std::string::npos || name == "aten::set_") return guardStrides;
  return nullptr;
}

}  // namespace srum
