// The XLA FFI handler of linear layers on CPU: aqua_linear.
//
// Knows: XLA's buffers and its threads. Does not know: how products are computed (linear/).
//
// (x [R, I], live int32[], index int32[], panels [N..., ceil(O / columns), steps, width], then as
// the attribute `parts` names them, in this order and separated by commas: factors, as panels; norm
// [I]; bias [O]; added [R, O]) -> [R, O], float32 or the type of x
//
// index: of the leading axes of the panels taken as one. Attributes: parts; activation, "", "silu"
// or "gelu_tanh"; epsilon and from_one of the norm; lanes, floats in a vector, 0: the most.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "core/status.h"
#include "cpu/futures.h"
#include "linear/task.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {
namespace {

namespace ffi = xla::ffi;

using Int = ffi::Buffer<ffi::S32>;
using Long = long long;  // for %lld

const char kWhat[] = "linear";

struct Attributes {
  std::string_view parts, activation;
  float epsilon;
  int64_t from_one, lanes;
};

Result<Activation> ActivationOf(std::string_view name) {
  if (name.empty()) return Activation::kNone;
  if (name == "silu") return Activation::kSilu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  return AQUA_ERROR(AQUA_INVALID, "no such activation: expected \"\", silu or gelu_tanh");
}

int64_t Bytes(ffi::DataType type) { return type == ffi::DataType::F32 ? 4 : 2; }

// Rows, panels and the result, which must fit together.
Status ReadProduct(const ffi::AnyBuffer& x, const ffi::AnyBuffer& panels,
                   const ffi::AnyBuffer& into, LinearCall* call) {
  const auto rows = x.dimensions(), out = into.dimensions(), packed = panels.dimensions();
  const ffi::DataType type = x.element_type();
  if ((type != ffi::DataType::F32 && type != ffi::DataType::BF16) ||
      panels.element_type() != type ||
      (into.element_type() != type && into.element_type() != ffi::DataType::F32)) {
    return AQUA_ERROR(AQUA_INVALID,
                      "expected rows and weights both of float32 or of bfloat16, and a result of "
                      "either theirs or float32");
  }
  if (rows.size() != 2 || out.size() != 2 || packed.size() < 3 || out[0] != rows[0]) {
    return AQUA_ERROR(AQUA_INVALID,
                      "expected rows [rows, in], panels [..., panels, steps, width] and a result "
                      "[rows, out]");
  }
  call->type = type == ffi::DataType::F32 ? LinearType::kFloat32 : LinearType::kBfloat16;
  call->rows = rows[0];
  call->in = rows[1];
  call->out = out[1];
  const size_t rank = packed.size();
  const int64_t panels_expected = (call->out + kPanelColumns - 1) / kPanelColumns;
  const int64_t steps = StepsOf(call->type, call->in);
  if (packed[rank - 3] != panels_expected || packed[rank - 2] != steps ||
      packed[rank - 1] * Bytes(type) != kPanelStepBytes) {
    return AQUA_ERROR(AQUA_INVALID,
                      "%lld panels of %lld steps of %lld: expected %lld of %lld, as weights of "
                      "%lld by %lld have",
                      Long{packed[rank - 3]}, Long{packed[rank - 2]}, Long{packed[rank - 1]},
                      Long{panels_expected}, Long{steps}, Long{call->in}, Long{call->out});
  }
  call->x = static_cast<const std::byte*>(x.untyped_data());
  call->into = static_cast<std::byte*>(into.untyped_data());
  call->into_float32 = into.element_type() == ffi::DataType::F32;
  return {};
}

// The optional operand at the front of `parts`, if it is called so.
Result<const std::byte*> TakePart(std::string_view name, int64_t elements, ffi::DataType type,
                                  const ffi::RemainingArgs& rest, std::string_view* parts,
                                  size_t* taken) {
  if (parts->substr(0, name.size()) != name) return nullptr;
  *parts = parts->substr(std::min(parts->size(), name.size() + 1));
  const auto buffer = rest.get<ffi::AnyBuffer>((*taken)++);
  if (!buffer) return AQUA_ERROR(AQUA_INVALID, "fewer operands than `parts` names");
  if (buffer->element_type() != type ||
      buffer->element_count() != static_cast<size_t>(elements)) {
    return AQUA_ERROR(AQUA_INVALID, "%.*s has %zu elements: expected %lld of the type of the rows",
                      static_cast<int>(name.size()), name.data(), buffer->element_count(),
                      Long{elements});
  }
  return static_cast<const std::byte*>(buffer->untyped_data());
}

Status ReadParts(const ffi::RemainingArgs& rest, const ffi::AnyBuffer& panels, int64_t offset,
                 const Attributes& attributes, LinearCall* call) {
  std::string_view parts = attributes.parts;
  size_t taken = 0;
  const auto take = [&](std::string_view name, int64_t elements) {
    return TakePart(name, elements, panels.element_type(), rest, &parts, &taken);
  };
  const auto factors = take("factors", static_cast<int64_t>(panels.element_count()));
  if (!factors.ok()) return factors.status();
  const auto norm = take("norm", call->in);
  if (!norm.ok()) return norm.status();
  const auto bias = take("bias", call->out);
  if (!bias.ok()) return bias.status();
  const auto added = take("added", call->rows * call->out);
  if (!added.ok()) return added.status();
  if (!parts.empty() || taken != rest.size()) {
    return AQUA_ERROR(AQUA_INVALID, "`parts` and operands do not agree: %zu of %zu taken", taken,
                      rest.size());
  }
  call->factors = factors.value() == nullptr ? nullptr : factors.value() + offset;
  call->norm_scale = norm.value();
  call->bias = bias.value();
  call->added = added.value();
  return {};
}

Result<LinearCall> CallOf(const ffi::AnyBuffer& x, const Int& live, const Int& index,
                          const ffi::AnyBuffer& panels, const ffi::RemainingArgs& rest,
                          const ffi::AnyBuffer& into, const Attributes& attributes) {
  LinearCall call{};
  AQUA_RETURN_IF_ERROR(ReadProduct(x, panels, into, &call));
  if (live.element_count() != 1 || index.element_count() != 1) {
    return AQUA_ERROR(AQUA_INVALID, "expected one `live` and one index");
  }
  call.live = live.typed_data()[0];
  const auto packed = panels.dimensions();
  const int64_t matrix = packed[packed.size() - 3] * packed[packed.size() - 2] * kPanelStepBytes;
  const int64_t matrices = static_cast<int64_t>(panels.size_bytes()) / matrix;
  const int64_t number = index.typed_data()[0];
  if (number < 0 || number >= matrices) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "weights %lld: expected 0 to %lld", Long{number},
                      Long{matrices - 1});
  }
  const int64_t offset = number * matrix;
  call.panels = static_cast<const std::byte*>(panels.untyped_data()) + offset;
  const Result<Activation> activation = ActivationOf(attributes.activation);
  if (!activation.ok()) return activation.status();
  call.activation = activation.value();
  call.epsilon = attributes.epsilon;
  call.from_one = attributes.from_one != 0;
  call.lanes = static_cast<int>(attributes.lanes);
  AQUA_RETURN_IF_ERROR(ReadParts(rest, panels, offset, attributes, &call));
  return call;
}

ffi::Future Run(ffi::ThreadPool threads, const LinearCall& call) {
  auto made = LinearTask::Make(call);
  if (!made.ok()) return Failed(kWhat, made.status());
  const std::shared_ptr<LinearTask> task = std::move(made).value();
  const int64_t workers = task->Workers(threads.num_threads());
  if (workers <= 1) {
    task->Work();
    return Done();
  }
  ffi::CountDownPromise left(1);
  ffi::Future future(left);
  // Whoever ends the last panel: a thread that comes when all is done keeps nobody waiting.
  for (int64_t worker = 1; worker < workers; ++worker) {
    threads.Schedule([task, left]() mutable {
      if (task->Work()) left.CountDown();
    });
  }
  if (task->Work()) left.CountDown();
  return future;
}

ffi::Future Handle(ffi::ThreadPool threads, ffi::AnyBuffer x, Int live, Int index,
                   ffi::AnyBuffer panels, ffi::RemainingArgs rest,
                   ffi::Result<ffi::AnyBuffer> into, std::string_view parts,
                   std::string_view activation, float epsilon, int64_t from_one, int64_t lanes) {
  const Attributes attributes{parts, activation, epsilon, from_one, lanes};
  const Result<LinearCall> call = CallOf(x, live, index, panels, rest, *into, attributes);
  if (!call.ok()) return Failed(kWhat, call.status());
  return Run(threads, call.value());
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()  // x
      .Arg<Int>()             // live
      .Arg<Int>()             // index
      .Arg<ffi::AnyBuffer>()  // panels
      .RemainingArgs()
      .Ret<ffi::AnyBuffer>()
      .Attr<std::string_view>("parts")
      .Attr<std::string_view>("activation")
      .Attr<float>("epsilon")
      .Attr<int64_t>("from_one")
      .Attr<int64_t>("lanes");
}

}  // namespace
}  // namespace aqua

extern "C" AQUA_EXPORT XLA_FFI_Error* aqua_linear(XLA_FFI_CallFrame* call_frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(aqua_linear, aqua::Handle, aqua::Binding());
