// What the handlers of this folder share: our errors as XLA's, the device of a pool's part.
#ifndef AQUA_CUDA_HANDLER_ERRORS_H_
#define AQUA_CUDA_HANDLER_ERRORS_H_

#include <exception>
#include <string>
#include <utility>

#include "aqua.h"
#include "core/status.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {

inline xla::ffi::Error HandlerError(const Status& status) {
  using Code = xla::ffi::ErrorCode;
  if (status.ok()) return xla::ffi::Error::Success();
  Code code = Code::kInternal;
  if (status.code == AQUA_INVALID) code = Code::kInvalidArgument;
  if (status.code == AQUA_STALE) code = Code::kFailedPrecondition;
  if (status.code == AQUA_OUT_OF_RANGE) code = Code::kOutOfRange;
  if (status.code == AQUA_EXHAUSTED) code = Code::kResourceExhausted;
  if (status.code == AQUA_UNAVAILABLE || status.code == AQUA_CLOSED) code = Code::kUnavailable;
  return xla::ffi::Error(
      code, std::string(status.file) + ":" + std::to_string(status.line) + ": " + status.text);
}

// No exception may leave a handler.
template <typename Body>
xla::ffi::Error Guarded(Body&& body) {
  try {
    return HandlerError(std::forward<Body>(body)());
  } catch (const std::exception& thrown) {
    return HandlerError(AQUA_ERROR(AQUA_INTERNAL, "%s", thrown.what()));
  }
}

}  // namespace aqua
#endif  // AQUA_CUDA_HANDLER_ERRORS_H_
