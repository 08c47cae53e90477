// What went wrong, as a value: code, place in the source, text.
//
// Knows: nothing else. Text says what was given, what was expected, what to do.
#ifndef AQUA_CORE_STATUS_H_
#define AQUA_CORE_STATUS_H_

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>

#include "aqua.h"

namespace aqua {

struct [[nodiscard]] Status {
  int32_t code = AQUA_OK;
  const char* file = "";
  int line = 0;
  std::string text;

  bool ok() const { return code == AQUA_OK; }
};

__attribute__((format(printf, 4, 5))) inline Status MakeError(int32_t code, const char* file,
                                                              int line, const char* format, ...) {
  char text[sizeof(aqua_error::text)];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  return Status{code, file, line, text};
}

// AQUA_ERROR(AQUA_STALE, "store %d is not registered", handle)
#define AQUA_ERROR(code, ...) ::aqua::MakeError((code), __FILE_NAME__, __LINE__, __VA_ARGS__)

// `into` may be null.
inline void FillError(const Status& status, aqua_error* into) {
  if (into == nullptr) return;
  *into = {};
  into->code = status.code;
  into->line = status.line;
  std::snprintf(into->file, sizeof(into->file), "%s", status.file);
  std::snprintf(into->text, sizeof(into->text), "%s", status.text.c_str());
}

// A value or the reason why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::move(value)) {}        // NOLINT: implicit on purpose
  Result(Status status) : held_(std::move(status)) {}  // NOLINT: implicit on purpose
  bool ok() const { return held_.index() == 0; }
  const T& value() const& { return std::get<0>(held_); }
  T&& value() && { return std::get<0>(std::move(held_)); }
  Status status() const { return ok() ? Status{} : std::get<1>(held_); }

 private:
  std::variant<T, Status> held_;
};

#define AQUA_RETURN_IF_ERROR(expression)              \
  do {                                                \
    ::aqua::Status status_ = (expression);            \
    if (!status_.ok()) return status_;                \
  } while (false)

}  // namespace aqua
#endif  // AQUA_CORE_STATUS_H_
