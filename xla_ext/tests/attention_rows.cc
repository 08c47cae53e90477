#include "tests/attention_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "attention/task.h"
#include "tests/check.h"

namespace aqua::harness {
namespace {

constexpr int64_t kSessions = 4;

// Elements in memory of exactly their size, so that reading past an end is noticed.
class Numbers {
 public:
  Numbers(ElementType type, int64_t count) : size_(type == ElementType::kFloat32 ? 4 : 2) {
    bytes_.resize(count * size_);
  }

  std::byte* data() { return bytes_.data(); }
  double Get(int64_t index) const {
    uint32_t bits = 0;
    std::memcpy(reinterpret_cast<std::byte*>(&bits) + 4 - size_, &bytes_[index * size_], size_);
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  }
  // bfloat16 is the upper half of a float; what is drawn need not be rounded.
  void Set(int64_t index, float x) {
    std::memcpy(&bytes_[index * size_], reinterpret_cast<std::byte*>(&x) + 4 - size_, size_);
  }
  bool operator==(const Numbers& other) const { return bytes_ == other.bytes_; }

 private:
  int64_t size_;
  std::vector<std::byte> bytes_;
};

int64_t Any(std::mt19937_64* random, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(*random);
}

AttentionShape DrawShape(std::mt19937_64* random) {
  AttentionShape shape{};
  shape.rows = Any(random, 1, 20);
  shape.layers = 2;
  shape.page_tokens = Any(random, 0, 2) > 0 ? 16 : Any(random, 1, 100);
  shape.table_pages = Any(random, 24, 1100) / shape.page_tokens + 1;
  shape.kv_heads = Any(random, 1, 3);
  shape.group = Any(random, 1, 9);
  shape.head_dim = 8 * Any(random, 1, 9);
  shape.window = Any(random, 0, 1) > 0 ? 0 : Any(random, 1, 700);
  shape.window_most = Any(random, 0, 1) > 0 ? 0 : shape.window;
  shape.softcap = Any(random, 0, 2) > 0 ? 0.0f : 0.5f;
  shape.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  shape.pages = kSessions * shape.table_pages;
  return shape;
}

// Rows of a few sessions, each with pages of its own and, of all that no row sees, NaN.
class Scene {
 public:
  explicit Scene(uint64_t seed)
      : random_(seed),
        type_(random_() % 2 ? ElementType::kFloat32 : ElementType::kBfloat16),
        shape_(DrawShape(&random_)),
        token_(shape_.kv_heads * shape_.head_dim),
        pool_(type_, shape_.pages * shape_.layers * 2 * shape_.page_tokens * token_),
        queries_(type_, shape_.rows * token_ * shape_.group),
        keys_(type_, shape_.rows * token_),
        values_(type_, shape_.rows * token_) {
    Draw(&queries_, 0, shape_.rows * token_ * shape_.group);
    Draw(&keys_, 0, shape_.rows * token_);
    Draw(&values_, 0, shape_.rows * token_);
    DrawRows();
  }

  void Check() {
    const Numbers attended = Run(/*share_loads=*/false, /*lanes=*/0, /*threads=*/1);
    for (const bool share_loads : {false, true}) {
      CHECK_THAT(Run(share_loads, 0, 3) == attended, "threads or shared loads changed a bit");
    }
    CheckAgainstDouble(attended);
    CheckAgainstDouble(Run(true, 4, 2));
  }

 private:
  int64_t At(int32_t page, int64_t side, int64_t slot) const {
    return (((page * shape_.layers + 1) * 2 + side) * shape_.page_tokens + slot) * token_;
  }
  int32_t PageOf(int64_t row, int64_t position) const {
    return tables_[row * shape_.table_pages + position / shape_.page_tokens];
  }

  void Draw(Numbers* numbers, int64_t begin, int64_t count) {
    std::normal_distribution<float> normal;
    for (int64_t i = begin; i < begin + count; ++i) numbers->Set(i, normal(random_));
  }

  void DrawRows() {
    const int64_t pool_count = shape_.pages * shape_.layers * 2 * shape_.page_tokens * token_;
    for (int64_t i = 0; i < pool_count; ++i) {
      pool_.Set(i, std::numeric_limits<float>::quiet_NaN());
    }
    std::vector<int64_t> next(kSessions);
    const int64_t room = shape_.table_pages * shape_.page_tokens - shape_.rows;
    for (int64_t session = 0; session < kSessions; ++session) {
      next[session] = Any(&random_, 0, room);
      for (int64_t position = 0; position < next[session]; ++position) {
        const int64_t page = session * shape_.table_pages + position / shape_.page_tokens;
        for (const int64_t side : {0, 1}) {
          const int64_t slot = position % shape_.page_tokens;
          Draw(&pool_, At(static_cast<int32_t>(page), side, slot), token_);
        }
      }
    }
    int64_t session = 0;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      if (Any(&random_, 0, 3) == 0) session = Any(&random_, 0, kSessions - 1);
      positions_.push_back(static_cast<int32_t>(next[session]++));
      for (int64_t page = 0; page < shape_.table_pages; ++page) {
        tables_.push_back(static_cast<int32_t>(session * shape_.table_pages + page));
      }
    }
  }

  Numbers Run(bool share_loads, int lanes, int threads) {
    Numbers attended(type_, shape_.rows * token_ * shape_.group);
    AttentionCall call{};
    call.shape = shape_;
    call.type = type_;
    call.layer = 1;
    call.pool = pool_.data();
    call.tables = tables_.data();
    call.positions = positions_.data();
    call.queries = queries_.data();
    call.keys = keys_.data();
    call.values = values_.data();
    call.attended = attended.data();
    call.share_loads = share_loads;
    call.lanes = lanes;
    const StoreTable stores;
    auto made = AttentionTask::Make(call, stores, threads);
    CHECK_THAT(made.ok(), "%s", made.status().text.c_str());
    const std::unique_ptr<AttentionTask> task = std::move(made).value();
    task->Write();
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back([&] { task->Work(); });
    task->Work();
    for (std::thread& helper : helpers) helper.join();
    return attended;
  }

  void CheckAgainstDouble(const Numbers& attended) {
    const double tolerance = type_ == ElementType::kFloat32 ? 1e-5 : 1e-2;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      const int64_t query = Any(&random_, 0, shape_.kv_heads * shape_.group - 1);
      const int64_t begin = (row * shape_.kv_heads * shape_.group + query) * shape_.head_dim;
      const std::vector<double> expected = Expected(row, query / shape_.group, begin);
      double largest = 0, error = 0;
      for (int64_t x = 0; x < shape_.head_dim; ++x) {
        largest = std::max(largest, std::abs(expected[x]));
        const double off = std::abs(attended.Get(begin + x) - expected[x]);
        error = off <= error ? error : off;  // a NaN counts as larger
      }
      CHECK_THAT(error <= tolerance * largest, "row %lld at %d is off by %g of %g",
                 static_cast<long long>(row), positions_[row], error, largest);
    }
  }

  std::vector<double> Expected(int64_t row, int64_t head, int64_t query) const {
    std::vector<double> sum(shape_.head_dim);
    double total = 0;
    for (int64_t p = FirstSeen(shape_, positions_[row]); p <= positions_[row]; ++p) {
      const int64_t slot = p % shape_.page_tokens, x0 = head * shape_.head_dim;
      const int64_t key = At(PageOf(row, p), 0, slot) + x0;
      const int64_t value = At(PageOf(row, p), 1, slot) + x0;
      double score = 0;
      for (int64_t x = 0; x < shape_.head_dim; ++x) {
        score += queries_.Get(query + x) * pool_.Get(key + x) * shape_.scale;
      }
      if (shape_.softcap > 0) score = shape_.softcap * std::tanh(score / shape_.softcap);
      total += std::exp(score);
      for (int64_t x = 0; x < shape_.head_dim; ++x) {
        sum[x] += std::exp(score) * pool_.Get(value + x);
      }
    }
    for (double& x : sum) x /= total;
    return sum;
  }

  std::mt19937_64 random_;
  ElementType type_;
  AttentionShape shape_;
  int64_t token_;  // elements of one token on one side
  Numbers pool_, queries_, keys_, values_;
  std::vector<int32_t> tables_, positions_;
};

}  // namespace

void RunAttentionRows(uint64_t seed) { Scene(seed).Check(); }

}  // namespace aqua::harness
