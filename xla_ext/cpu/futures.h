// What a handler returns that may end on another thread.
#ifndef AQUA_CPU_FUTURES_H_
#define AQUA_CPU_FUTURES_H_

#include <string>

#include "core/status.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {

inline xla::ffi::Future Done() {
  xla::ffi::Promise promise;
  xla::ffi::Future future(promise);
  promise.SetAvailable();
  return future;
}

// what: that failed, for the message.
inline xla::ffi::Future Failed(const char* what, const Status& status) {
  const bool range = status.code == AQUA_OUT_OF_RANGE;
  xla::ffi::Promise promise;
  xla::ffi::Future future(promise);
  promise.SetError(xla::ffi::Error(
      range ? xla::ffi::ErrorCode::kOutOfRange : xla::ffi::ErrorCode::kInvalidArgument,
      std::string(what) + ": " + status.text + " (" + status.file + ":" +
          std::to_string(status.line) + ")"));
  return future;
}

}  // namespace aqua
#endif  // AQUA_CPU_FUTURES_H_
