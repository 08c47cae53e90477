// The attention kernels, run thread by thread on the CPU, against float64.
//
// Shows that every row is right, whichever pages it reads, and that its bits are the same in decode
// and prefill, alone and in company. Prints a line a case; exits 1 when one is wrong.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/tests/emulated.h"
// The kernels, after what stands in for a GPU.
#include "cuda/arena_bases.h"
#include "cuda/attention_kernel.cuh"

namespace aqua {
namespace {

constexpr int kArenaSlot = 5;

struct Case {
  const char* name;
  int rows, table_pages, layers, page_tokens, kv_heads, group, head_dim, window;
  bool shares_tables;
  int window_most = window;  // of a model with other layers
  float softcap = 0;
};

// Elements of one type as floats and back.
template <typename Element>
float Read(const std::vector<std::byte>& bytes, int64_t index) {
  if constexpr (Element::kInVector == 4) {
    float value;
    std::memcpy(&value, bytes.data() + index * 4, 4);
    return value;
  } else {
    uint16_t half;
    std::memcpy(&half, bytes.data() + index * 2, 2);
    return __uint_as_float(static_cast<uint32_t>(half) << 16);
  }
}

template <typename Element>
std::vector<std::byte> Random(int64_t count, std::mt19937* random, float nan_share = 0) {
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform;
  std::vector<std::byte> bytes(count * sizeof(typename Element::Stored));
  for (int64_t i = 0; i < count; ++i) {
    const float value = uniform(*random) < nan_share ? NAN : normal(*random);
    const auto stored = Element::Round(value);
    std::memcpy(bytes.data() + i * sizeof(stored), &stored, sizeof(stored));
  }
  return bytes;
}

// A pool, an arena and rows over both.
template <typename Element>
struct World {
  explicit World(const Case& shape) : shape(shape) {
    std::mt19937 random(7);
    page_elements = int64_t{2} * shape.layers * shape.page_tokens * shape.kv_heads * shape.head_dim;
    const int tables = shape.shares_tables ? 2 : shape.rows;
    pages = tables * shape.table_pages + 1;
    // What no row may see is NaN: rows overwrite their own places, the rest is filled in below.
    pool = Random<Element>(pages * page_elements, &random, 1.0f);
    arena = Random<Element>(pages * page_elements, &random);
    queries = Random<Element>(int64_t{shape.rows} * heads() * shape.head_dim, &random);
    keys = Random<Element>(int64_t{shape.rows} * shape.kv_heads * shape.head_dim, &random);
    values = Random<Element>(int64_t{shape.rows} * shape.kv_heads * shape.head_dim, &random);
    Deal(tables, &random);
  }

  int heads() const { return shape.kv_heads * shape.group; }

  // Tables of distinct pages, every third but a row's own in the arena; positions that grow along
  // a shared table; keys and values at every position before a row's own.
  void Deal(int tables, std::mt19937* random) {
    std::vector<int> order(pages - 1);
    for (int i = 0; i < pages - 1; ++i) order[i] = i + 1;
    std::shuffle(order.begin(), order.end(), *random);
    const int tokens = shape.table_pages * shape.page_tokens;
    for (int row = 0; row < shape.rows; ++row) {
      const int table = shape.shares_tables ? row * tables / shape.rows : row;
      const int first_row = (table * shape.rows + tables - 1) / tables;
      const int position =
          shape.shares_tables ? tokens / 2 + row - first_row : (row * 97 + 3) % tokens;
      const int first_own = shape.shares_tables ? tokens / 2 : position;
      positions.push_back(position);
      for (int page = 0; page < shape.table_pages; ++page) {
        const int index = order[table * shape.table_pages + page];
        const bool grows = (page + 1) * shape.page_tokens > first_own;
        entries.push_back(page % 3 == 1 && !grows ? ~(kArenaSlot << kEntryBits | index) : index);
      }
      for (int t = 0; t < position; ++t) {
        if (shape.shares_tables && t >= tokens / 2) break;  // of rows of the same call
        Fill(row, t, random);
      }
    }
  }

  void Fill(int row, int token, std::mt19937* random) {
    const int entry = entries[row * shape.table_pages + token / shape.page_tokens];
    if (entry < 0) return;
    for (int layer = 0; layer < shape.layers; ++layer) {
      for (int side = 0; side < 2; ++side) {
        const int64_t at = Index(entry, layer, side, token % shape.page_tokens);
        const int64_t count = int64_t{shape.kv_heads} * shape.head_dim;
        const std::vector<std::byte> token_bytes = Random<Element>(count, random);
        std::memcpy(pool.data() + at * sizeof(typename Element::Stored), token_bytes.data(),
                    token_bytes.size());
      }
    }
  }

  int64_t Index(int64_t page, int layer, int side, int slot) const {
    return page * page_elements +
           ((int64_t{layer} * 2 + side) * shape.page_tokens + slot) * shape.kv_heads *
               shape.head_dim;
  }

  Case shape;
  int64_t page_elements;
  int pages;
  std::vector<std::byte> pool, arena, queries, keys, values;
  std::vector<int32_t> entries, positions;
};

template <typename Element, int kLanes, int kVectors, int kQueries>
void RunGrid(const AttentionOperands& given, const ArenaBases& arenas, bool is_prefill) {
  const unsigned head_tiles = (given.group + given.heads - 1) / given.heads;
  const unsigned tiles = (given.rows + given.tile_rows - 1) / given.tile_rows;
  std::vector<float> shared(SharedFloats(kQueries, given.head_dim), NAN);
  for (unsigned x = 0; x < tiles; ++x) {
    for (unsigned y = 0; y < given.kv_heads * head_tiles; ++y) {
      for (unsigned z = 0; z < (is_prefill ? 1u : static_cast<unsigned>(given.segments_max)); ++z) {
        emulated::RunBlock({x, y, z}, [&] {
          AttentionTile<Element, kLanes, kVectors, kQueries> tile(given, arenas, shared.data());
          is_prefill ? tile.RunAll() : tile.RunSegment();
        });
      }
    }
  }
}

template <typename Element, int kLanes, int kVectors>
void RunQueries(const AttentionOperands& given, const ArenaBases& arenas, bool is_prefill) {
  const int queries = given.heads * given.tile_rows;
  if (is_prefill || queries > 4) {
    RunGrid<Element, kLanes, kVectors, 8>(given, arenas, is_prefill);
  } else if (queries > 2) {
    RunGrid<Element, kLanes, kVectors, 4>(given, arenas, is_prefill);
  } else if (queries > 1) {
    RunGrid<Element, kLanes, kVectors, 2>(given, arenas, is_prefill);
  } else {
    RunGrid<Element, kLanes, kVectors, 1>(given, arenas, is_prefill);
  }
}

// As LaunchAttention does it, over rows `begin` to `end - 1` of the world; what they attended to.
template <typename Element>
std::vector<std::byte> Run(World<Element>* world, int begin, int end, bool is_prefill) {
  constexpr int kBytes = sizeof(typename Element::Stored);
  const Case& shape = world->shape;
  const int64_t query_bytes = int64_t{world->heads()} * shape.head_dim * kBytes;
  const int64_t key_bytes = int64_t{shape.kv_heads} * shape.head_dim * kBytes;
  std::vector<std::byte> attended(query_bytes * (end - begin), std::byte{0xcd});
  const int32_t layer[] = {shape.layers - 1, shape.window};
  AttentionOperands given = {};
  given.pool = world->pool.data();
  given.layer = layer;
  given.tables = world->entries.data() + begin * shape.table_pages;
  given.positions = world->positions.data() + begin;
  given.queries = world->queries.data() + begin * query_bytes;
  given.keys = world->keys.data() + begin * key_bytes;
  given.values = world->values.data() + begin * key_bytes;
  given.attended = attended.data();
  given.rows = end - begin;
  given.table_pages = shape.table_pages;
  given.pages = world->pages;
  given.layers = shape.layers;
  given.page_tokens = shape.page_tokens;
  given.kv_heads = shape.kv_heads;
  given.group = shape.group;
  given.head_dim = shape.head_dim;
  given.window_most = shape.window_most;
  const double scale = 1 / std::sqrt(shape.head_dim);
  given.query_scale = static_cast<float>(scale * (shape.softcap > 0 ? 1 / shape.softcap : M_LOG2E));
  given.softcap = static_cast<float>(shape.softcap * M_LOG2E);
  Cut(&given, kBytes, is_prefill);
  std::vector<float> partials(PartialFloats(given), NAN);
  given.partials = partials.data();
  ArenaBases arenas = {};
  arenas.base[kArenaSlot] = world->arena.data();
  arenas.pages[kArenaSlot] = world->pages;

  for (int row = 0; row < given.rows; ++row) {
    emulated::RunBlock({static_cast<unsigned>(row), 0, 0}, [&] { WriteRow(given); });
  }
  const int vectors = shape.head_dim / Element::kInVector;
  if (vectors <= 4) {
    RunQueries<Element, 4, 1>(given, arenas, is_prefill);
  } else if (vectors <= 8) {
    RunQueries<Element, 8, 1>(given, arenas, is_prefill);
  } else if (vectors <= 16) {
    RunQueries<Element, 16, 1>(given, arenas, is_prefill);
  } else if (vectors <= 32) {
    RunQueries<Element, 32, 1>(given, arenas, is_prefill);
  } else {
    RunQueries<Element, 32, 2>(given, arenas, is_prefill);
  }
  if (is_prefill || given.segments_max == 1) return attended;
  for (unsigned row = 0; row < static_cast<unsigned>(given.rows); ++row) {
    for (unsigned head = 0; head < static_cast<unsigned>(world->heads()); ++head) {
      emulated::RunBlock({row, head, 0}, [&] { MergeQuery<Element>(given); });
    }
  }
  return attended;
}

// The largest difference to float64, relative to the row's largest value.
template <typename Element>
double Difference(const World<Element>& world, const std::vector<std::byte>& attended) {
  const Case& shape = world.shape;
  double worst = 0;
  for (int row = 0; row < shape.rows; ++row) {
    const int position = world.positions[row];
    const int first = shape.window > 0 ? std::max(0, position - shape.window + 1) : 0;
    double largest = 0, difference = 0;
    for (int head = 0; head < world.heads(); ++head) {
      std::vector<double> scores, weighted(shape.head_dim);
      const int kv_head = head / shape.group;
      const int64_t query = (int64_t{row} * world.heads() + head) * shape.head_dim;
      const auto element = [&](int side, int token, int d) -> double {
        const int entry = world.entries[row * shape.table_pages + token / shape.page_tokens];
        const int64_t page = entry < 0 ? ~entry & ((1 << kEntryBits) - 1) : entry;
        const int64_t at = world.Index(page, shape.layers - 1, side, token % shape.page_tokens) +
                           int64_t{kv_head} * shape.head_dim + d;
        return Read<Element>(entry < 0 ? world.arena : world.pool, at);
      };
      double top = -INFINITY, sum = 0;
      for (int token = first; token <= position; ++token) {
        double score = 0;
        for (int d = 0; d < shape.head_dim; ++d) {
          score += Read<Element>(world.queries, query + d) * element(0, token, d);
        }
        score /= std::sqrt(shape.head_dim);
        if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
        scores.push_back(score);
        top = std::max(top, scores.back());
      }
      for (int token = first; token <= position; ++token) {
        const double weight = std::exp(scores[token - first] - top);
        sum += weight;
        for (int d = 0; d < shape.head_dim; ++d) weighted[d] += weight * element(1, token, d);
      }
      for (int d = 0; d < shape.head_dim; ++d) {
        const double expected = weighted[d] / sum;
        largest = std::max(largest, std::abs(expected));
        const double got = Read<Element>(attended, query + d);
        // A NaN is as wrong as can be.
        difference = std::isnan(got) ? INFINITY : std::max(difference, std::abs(got - expected));
      }
    }
    worst = std::max(worst, difference / largest);
  }
  return worst;
}

template <typename Element>
bool Check(const Case& shape) {
  World<Element> world(shape);
  const std::vector<std::byte> decoded = Run(&world, 0, shape.rows, false);
  const double difference = Difference(world, decoded);
  const bool is_exact = Run(&world, 0, shape.rows, true) == decoded;
  const size_t row_bytes = decoded.size() / shape.rows;
  bool is_alone = true;
  for (int row = 0; row < shape.rows; row += std::max(1, shape.rows / 3)) {
    for (const bool is_prefill : {false, true}) {
      const std::vector<std::byte> alone = Run(&world, row, row + 1, is_prefill);
      is_alone &= std::memcmp(alone.data(), decoded.data() + row * row_bytes, row_bytes) == 0;
    }
  }
  const double limit = Element::kInVector == 4 ? 1e-5 : 1e-2;
  const bool is_right = difference < limit && is_exact && is_alone;
  std::printf("%-28s %-8s difference %.1e, prefill %s, alone %s: %s\n", shape.name,
              Element::kInVector == 4 ? "float32" : "bfloat16", difference,
              is_exact ? "the same bits" : "OTHER BITS", is_alone ? "the same bits" : "OTHER BITS",
              is_right ? "right" : "WRONG");
  return is_right;
}

// A page that is nowhere, a position without a place, a page of an arena that would be written to:
// each makes its own row NaN and no other.
bool CheckLost() {
  const Case shape = {"lost pages", 6, 20, 1, 16, 1, 2, 32, 0, false};
  bool is_right = true;
  for (const bool is_prefill : {false, true}) {
    World<Float32> world(shape);
    for (int& position : world.positions) position = 200;
    for (int token = 0; token < 200; ++token) {
      for (int row = 0; row < shape.rows; ++row) {
        std::mt19937 random(token);
        world.Fill(row, token, &random);
      }
    }
    world.entries[0 * 20 + 2] = world.pages;                             // past the pool
    world.entries[1 * 20 + 3] = ~((kArenaSlot + 1) << kEntryBits | 1);   // no such arena
    world.entries[2 * 20 + 4] = ~(kArenaSlot << kEntryBits | world.pages);  // past the arena
    world.entries[3 * 20 + 12] = ~(kArenaSlot << kEntryBits | 1);        // its own, in an arena
    world.positions[4] = 20 * 16;                                        // past its table
    const std::vector<std::byte> attended = Run(&world, 0, shape.rows, is_prefill);
    for (int row = 0; row < shape.rows; ++row) {
      int lost = 0;
      for (int i = 0; i < 64; ++i) lost += std::isnan(Read<Float32>(attended, row * 64 + i));
      is_right &= lost == (row < 5 ? 64 : 0);
    }
  }
  std::printf("%-28s %s\n", shape.name, is_right ? "NaN and no other row: right" : "WRONG");
  return is_right;
}

// Arenas are found once and kept, until a store comes or goes: a slot that another store has got
// must not be read as the one before.
bool CheckArenasAreFoundAnew() {
  static std::byte memory[5][64];
  StoreTable stores;
  const auto add = [&](int at, int64_t page_bytes) {
    return stores.Register("store", {{memory[at], 0}}, 64 / page_bytes, page_bytes, nullptr);
  };
  ArenaCache cache(&stores);
  bool is_right = add(0, 16).ok() && add(1, 16).ok() && add(2, 32).ok();
  const auto same = [&](const std::byte* in_slot_1) {
    const ArenaBases kept = cache.Find(memory[0]), found = FindArenas(stores, memory[0]);
    return std::memcmp(&kept, &found, sizeof(found)) == 0 && kept.base[1] == in_slot_1 &&
           kept.pages[1] == (in_slot_1 == nullptr ? 0 : 4) && kept.pages[2] == 0;
  };
  is_right &= same(memory[1]) && same(memory[1]);
  is_right &= stores.Retire(2).ok() && same(nullptr);
  is_right &= add(3, 16).ok() && same(memory[3]);
  is_right &= cache.Find(memory[4]).pages[1] == 0;  // a pool that is not registered
  is_right &= add(4, 16).ok() && cache.Find(memory[4]).pages[1] == 4;
  std::printf("%-28s %s\n", "arenas", is_right ? "found anew after a change: right" : "WRONG");
  return is_right;
}

}  // namespace
}  // namespace aqua

int main() {
  using aqua::Case;
  const Case cases[] = {
      // rows, table_pages, layers, page_tokens, kv_heads, group, head_dim, window, shares_tables,
      // window_most, softcap
      {"one segment", 3, 6, 2, 16, 2, 1, 64, 0, false},
      {"several segments", 4, 40, 1, 16, 1, 4, 64, 0, false},
      {"window", 4, 40, 1, 16, 1, 3, 32, 150, false},
      {"odd pages, narrow heads", 3, 30, 2, 7, 1, 2, 48, 0, false},
      {"wide heads", 2, 12, 1, 16, 1, 8, 256, 0, false},
      {"many heads", 2, 10, 1, 16, 1, 12, 32, 0, false},
      {"rows of two tables", 13, 24, 1, 16, 1, 2, 32, 0, true},
      {"rows of two tables, window", 9, 24, 2, 16, 1, 4, 128, 33, true},
      {"a window of two", 4, 40, 1, 16, 1, 3, 32, 150, false, 400},
      {"a window beside a whole", 4, 40, 1, 16, 1, 2, 32, 40, true, 0},
      {"softcap", 4, 40, 1, 16, 1, 4, 64, 0, false, 0, 2.0f},
  };
  bool is_right = aqua::CheckLost() & aqua::CheckArenasAreFoundAnew();
  for (const Case& shape : cases) {
    is_right &= aqua::Check<aqua::Float32>(shape);
    is_right &= aqua::Check<aqua::Bfloat16>(shape);
  }
  return is_right ? 0 : 1;
}
