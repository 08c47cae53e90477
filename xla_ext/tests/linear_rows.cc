#include "tests/linear_rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "linear/task.h"
#include "tests/check.h"

namespace aqua::harness {
namespace {

int64_t Any(std::mt19937_64* random, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(*random);
}

// bfloat16 is the upper half of a float; what is drawn is cut, which a test may.
float Cut(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits &= 0xffff0000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Rows by weights, all in memory of exactly their size, so that reading past an end is noticed.
class LinearScene {
 public:
  explicit LinearScene(uint64_t seed)
      : random_(seed),
        type_(random_() % 2 ? LinearType::kFloat32 : LinearType::kBfloat16),
        rows_(Any(&random_, 1, 40)),
        in_(Any(&random_, 1, 600)),
        out_(Any(&random_, 1, 100)),
        x_(Draw(rows_ * in_)),
        weights_(Draw(in_ * out_)),
        packed_x_(Elements(x_)),
        panels_(Pack()) {}

  void Check() {
    const std::vector<float> whole = Run(rows_, 1, 0);
    CHECK_THAT(Run(rows_, 3, 0) == whole, "threads changed a bit");
    const int64_t live = Any(&random_, 0, rows_);
    const std::vector<float> fewer = Run(live, 2, 0);
    CHECK_THAT(std::equal(fewer.begin(), fewer.begin() + live * out_, whole.begin()),
               "other rows changed a bit");
    CHECK_THAT(std::all_of(fewer.begin() + live * out_, fewer.end(),
                           [](float x) { return x == 0; }),
               "rows from `live` on are not zeros");
    CheckAgainstDouble(whole);
    CheckAgainstDouble(Run(rows_, 2, 4));
  }

 private:
  std::vector<float> Draw(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> drawn(count);
    for (float& x : drawn) {
      x = type_ == LinearType::kFloat32 ? normal(random_) : Cut(normal(random_));
    }
    return drawn;
  }

  int64_t Bytes() const { return type_ == LinearType::kFloat32 ? 4 : 2; }

  void Put(std::vector<std::byte>* bytes, int64_t index, float x) const {
    std::memcpy(bytes->data() + index * Bytes(),
                reinterpret_cast<const std::byte*>(&x) + 4 - Bytes(), Bytes());
  }

  std::vector<std::byte> Elements(const std::vector<float>& floats) const {
    std::vector<std::byte> bytes(floats.size() * Bytes());
    for (size_t i = 0; i < floats.size(); ++i) Put(&bytes, static_cast<int64_t>(i), floats[i]);
    return bytes;
  }

  std::vector<std::byte> Pack() const {
    const int64_t pair = type_ == LinearType::kFloat32 ? 1 : 2, steps = StepsOf(type_, in_);
    const int64_t panels = (out_ + kPanelColumns - 1) / kPanelColumns;
    std::vector<std::byte> packed(panels * steps * kPanelStepBytes);
    for (int64_t i = 0; i < in_; ++i) {
      for (int64_t o = 0; o < out_; ++o) {
        const int64_t step = o / kPanelColumns * steps + i / pair;
        const int64_t index = (step * kPanelColumns + o % kPanelColumns) * pair + i % pair;
        Put(&packed, index, weights_[i * out_ + o]);
      }
    }
    return packed;
  }

  std::vector<float> Run(int64_t live, int threads, int lanes) {
    std::vector<float> into(rows_ * out_, NAN);
    LinearCall call{};
    call.type = type_;
    call.rows = rows_;
    call.live = live;
    call.in = in_;
    call.out = out_;
    call.x = packed_x_.data();
    call.panels = panels_.data();
    call.into = reinterpret_cast<std::byte*>(into.data());
    call.into_float32 = true;
    call.lanes = lanes;
    auto made = LinearTask::Make(call);
    CHECK_THAT(made.ok(), "%s", made.status().text.c_str());
    const std::shared_ptr<LinearTask> task = std::move(made).value();
    if (live == 0) {
      CHECK_THAT(task->Work(), "nothing to do is done at once");
      return into;
    }
    std::atomic<int> ended{0};
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) {
      helpers.emplace_back([&] { ended += task->Work(); });
    }
    ended += task->Work();
    for (std::thread& helper : helpers) helper.join();
    CHECK_THAT(ended == 1, "%d calls said that they ended the last", ended.load());
    return into;
  }

  void CheckAgainstDouble(const std::vector<float>& made) const {
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t o = 0; o < out_; ++o) {
        double sum = 0, size = 0;
        for (int64_t i = 0; i < in_; ++i) {
          const double product = double{x_[row * in_ + i]} * weights_[i * out_ + o];
          sum += product;
          size += std::abs(product);
        }
        const double error = std::abs(made[row * out_ + o] - sum);
        CHECK_THAT(error <= 1e-5 * size + 1e-30, "row %lld, column %lld is off by %g",
                   static_cast<long long>(row), static_cast<long long>(o), error);
      }
    }
  }

  std::mt19937_64 random_;
  LinearType type_;
  int64_t rows_, in_, out_;
  std::vector<float> x_, weights_;
  std::vector<std::byte> packed_x_, panels_;
};

}  // namespace

void RunLinearRows(uint64_t seed) { LinearScene(seed).Check(); }

}  // namespace aqua::harness
