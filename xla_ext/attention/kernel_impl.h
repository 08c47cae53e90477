// What kernel.h promises, for one vector width and one type of element.
//
// Knows: the names of simd/portable.h. Each kernel_*.cc includes this once, built for its vectors.
// Everything is in an unnamed namespace and calls no library function that is inline: the linker
// would keep one copy of it, perhaps the one that only newer machines can run.
//
// Built with -ffp-contract=off: which products and sums are fused is written here, so that a row
// has the same bits whichever of the instances below computes it.
#ifndef AQUA_ATTENTION_KERNEL_IMPL_H_
#define AQUA_ATTENTION_KERNEL_IMPL_H_

#include <cstddef>
#include <cstdint>

#include "attention/kernel.h"
#include "simd/functions.h"

namespace aqua {
namespace {

constexpr float kLowest = -__builtin_inff();

inline int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t Most(int64_t a, int64_t b) { return a > b ? a : b; }

// A query, counted over rows and group, and the tokens of a block that it sees.
struct Seen {
  int64_t query;
  int64_t begin, end;
};

// Neighbouring tokens of one page and one KV head.
template <class Element>
struct Block {
  const Element* keys;
  const Element* values;
  int64_t tokens;
  int64_t stride;                 // from token to token
  const std::byte* next_keys;     // of the next page, to be fetched ahead; null: none
  const std::byte* next_values;
};

template <class Simd, class Element>
struct Arithmetic {
  using Vec = typename Simd::Vec;
  static constexpr int kLanes = Simd::kLanes;

  static void Prepare(const Tile& tile, float* queries) {
    const AttentionShape& shape = *tile.shape;
    const Vec scale = Simd::Set(shape.softcap > 0 ? shape.scale / shape.softcap : shape.scale);
    for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
      for (int64_t row = 0; row < tile.rows; ++row) {
        const Element* from = static_cast<const Element*>(tile.queries) + QueryAt(shape, row, head);
        const int64_t floats = shape.group * shape.head_dim;
        for (int64_t x = 0; x < floats; x += kLanes) {
          Simd::Store(queries + x, Simd::Multiply(Simd::Load(from + x), scale));
        }
        queries += floats;
      }
    }
  }

  static void Visit(const Tile& tile, int64_t segment, const float* queries, float* scratch,
                    float* state) {
    const AttentionShape& shape = *tile.shape;
    const int64_t page_tokens = shape.page_tokens;
    const int64_t block_tokens = Least(page_tokens, kBlockTokensMax);
    Clear(tile, state);
    int64_t begin = 0, end = 0;
    Span(tile, segment, &begin, &end);
    for (int64_t page = begin / page_tokens; page * page_tokens < end; ++page) {
      const std::byte* at = PageAt(*tile.bases, tile.table[page]);
      const bool last = (page + 1) * page_tokens >= end;
      const std::byte* next = last ? nullptr : PageAt(*tile.bases, tile.table[page + 1]);
      for (int64_t slot = 0; slot < page_tokens; slot += block_tokens) {
        const int64_t first = page * page_tokens + slot;
        const int64_t tokens = Least(block_tokens, page_tokens - slot);
        if (first >= end || first + tokens <= begin) continue;
        Seen seen[kTileQueriesMax];
        const int64_t count = SeenIn(tile, first, tokens, seen);
        for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
          const Block<Element> block = BlockAt(tile, at, next, slot, tokens, head);
          const int64_t queries_before =
              (head - tile.head_begin) * tile.rows * shape.group;
          VisitBlock(block, shape, seen, count, queries + queries_before * shape.head_dim, scratch,
                     state + queries_before * StateOf(shape));
        }
      }
    }
  }

  static void Fold(const Tile& tile, int64_t segment, const float* state, float* total) {
    const AttentionShape& shape = *tile.shape;
    const int64_t tokens = SegmentTokens(shape);
    const int64_t summed = shape.head_dim + 16;
    for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
      for (int64_t row = 0; row < tile.rows; ++row) {
        const int64_t first = FirstSeen(shape, tile.positions[row]) / tokens;
        const bool sees = first <= segment && segment <= tile.positions[row] / tokens;
        for (int64_t g = 0; g < shape.group;
             ++g, state += StateOf(shape), total += StateOf(shape)) {
          if (!sees) continue;
          if (segment == first) {
            for (int64_t x = 0; x < StateOf(shape); ++x) total[x] = state[x];
            continue;
          }
          const float before = total[summed], here = state[summed];
          const float maximum = here > before ? here : before;
          const Vec old_share = Simd::Set(ExpOf<Simd>(before - maximum));
          const Vec new_share = Simd::Set(ExpOf<Simd>(here - maximum));
          for (int64_t x = 0; x < summed; x += kLanes) {
            const Vec faded = Simd::Multiply(Simd::Load(total + x), old_share);
            Simd::Store(total + x, Simd::MultiplyAdd(Simd::Load(state + x), new_share, faded));
          }
          total[summed] = maximum;
        }
      }
    }
  }

  static void Finish(const Tile& tile, const float* total) {
    const AttentionShape& shape = *tile.shape;
    for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
      for (int64_t row = 0; row < tile.rows; ++row) {
        Element* into = static_cast<Element*>(tile.attended) + QueryAt(shape, row, head);
        for (int64_t g = 0; g < shape.group; ++g, total += StateOf(shape)) {
          Vec sums = Simd::Load(total + shape.head_dim);
          for (int64_t x = kLanes; x < 16; x += kLanes) {
            sums = Simd::Add(sums, Simd::Load(total + shape.head_dim + x));
          }
          const float share = 1.0f / Simd::SumLanes(sums);
          for (int64_t x = 0; x < shape.head_dim; ++x) Put(into++, total[x] * share);
        }
      }
    }
  }

 private:
  static int64_t StateOf(const AttentionShape& shape) { return shape.head_dim + kStateExtraFloats; }

  static int64_t QueryAt(const AttentionShape& shape, int64_t row, int64_t head) {
    return (row * shape.kv_heads + head) * shape.group * shape.head_dim;
  }

  static void Clear(const Tile& tile, float* state) {
    const int64_t head_dim = tile.shape->head_dim;
    for (int64_t query = 0; query < TileQueries(tile); ++query) {
      for (int64_t x = 0; x < head_dim + 16; x += kLanes) Simd::Store(state + x, Simd::Zero());
      state[head_dim + 16] = kLowest;
      state += StateOf(*tile.shape);
    }
  }

  // The positions of a segment that some row sees: [begin, end).
  static void Span(const Tile& tile, int64_t segment, int64_t* begin, int64_t* end) {
    const int64_t tokens = SegmentTokens(*tile.shape);
    *begin = (segment + 1) * tokens;
    *end = segment * tokens;
    for (int64_t row = 0; row < tile.rows; ++row) {
      *begin = Least(*begin, FirstSeen(*tile.shape, tile.positions[row]));
      *end = Most(*end, int64_t{tile.positions[row]} + 1);
    }
    *begin = Most(*begin, segment * tokens);
    *end = Least(*end, (segment + 1) * tokens);
  }

  // The queries that see some of the `tokens` positions from `first` on.
  static int64_t SeenIn(const Tile& tile, int64_t first, int64_t tokens, Seen* seen) {
    int64_t count = 0;
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t position = tile.positions[row];
      const int64_t begin = Most(FirstSeen(*tile.shape, position) - first, 0);
      const int64_t end = Least(position + 1 - first, tokens);
      if (begin >= end) continue;
      for (int64_t g = 0; g < tile.shape->group; ++g) {
        seen[count++] = Seen{row * tile.shape->group + g, begin, end};
      }
    }
    return count;
  }

  static Block<Element> BlockAt(const Tile& tile, const std::byte* page, const std::byte* next,
                                int64_t slot, int64_t tokens, int64_t head) {
    const AttentionShape& shape = *tile.shape;
    const int64_t stride = shape.kv_heads * shape.head_dim;
    const int64_t side = shape.page_tokens * stride;
    const int64_t keys = tile.layer * 2 * side + slot * stride + head * shape.head_dim;
    const Element* base = reinterpret_cast<const Element*>(page) + keys;
    const std::byte* ahead = next ? next + keys * sizeof(Element) : nullptr;
    return Block<Element>{base,  base + side, tokens, stride, ahead,
                          ahead ? ahead + side * sizeof(Element) : nullptr};
  }

  static void VisitBlock(const Block<Element>& block, const AttentionShape& shape, const Seen* seen,
                         int64_t count, const float* queries, float* scores, float* state) {
    const int64_t head_dim = shape.head_dim;
    for (int64_t i = 0; i < count;) {
      const int64_t left = count - i;
      if (Simd::kQueries >= 4 && left >= 4) {
        i += Score<4, 4>(block, head_dim, seen + i, queries, scores + i * kScoreFloats, i == 0);
      } else if (left >= 2) {
        i += Score<2, 4>(block, head_dim, seen + i, queries, scores + i * kScoreFloats, i == 0);
      } else {
        i += Score<1, 8>(block, head_dim, seen + i, queries, scores + i * kScoreFloats, i == 0);
      }
    }
    float fades[kTileQueriesMax];
    for (int64_t i = 0; i < count; ++i) {
      float* own = state + seen[i].query * (head_dim + kStateExtraFloats) + head_dim;
      float* const own_scores = scores + i * kScoreFloats;
      if (shape.softcap > 0) CapScores(block.tokens, own_scores, shape.softcap);
      fades[i] = Soften(seen[i], block.tokens, own_scores, own);
    }
    for (int64_t i = 0; i < count;) {
      int64_t alike = 1;
      while (alike < Simd::kQueries && i + alike < count &&
             seen[i + alike].begin == seen[i].begin && seen[i + alike].end == seen[i].end) {
        ++alike;
      }
      const Weights weights{seen + i, scores + i * kScoreFloats, fades + i};
      if (Simd::kQueries >= 4 && alike >= 4) {
        i += Weigh<4, Simd::kVectors>(block, head_dim, weights, state);
      } else if (alike >= 2) {
        i += Weigh<2, Simd::kVectors>(block, head_dim, weights, state);
      } else {
        i += Weigh<1, 2 * Simd::kVectors>(block, head_dim, weights, state);
      }
    }
  }

  // Brings the same tokens of the next page near. A head's keys are short and far apart, which the
  // machine's own prefetcher does not foresee across pages. A few at a time and no nearer than the
  // second cache: all at once, or into the first, was measured to be half as fast.
  static void FetchAhead(const Block<Element>& block, int64_t head_dim, int64_t begin,
                         int64_t end) {
    const int64_t bytes = head_dim * sizeof(Element), stride = block.stride * sizeof(Element);
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t at = 0; at < bytes; at += 64) {
        __builtin_prefetch(block.next_keys + t * stride + at, 0, 2);
        __builtin_prefetch(block.next_values + t * stride + at, 0, 2);
      }
    }
  }

  // Scores of Q neighbouring queries over the tokens that one of them sees; returns Q. first: no
  // others were there before on this block.
  template <int Q, int Tokens>
  static int64_t Score(const Block<Element>& block, int64_t head_dim, const Seen* seen,
                       const float* queries, float* scores, bool first) {
    const bool fetches = first && block.next_keys != nullptr;
    int64_t begin = seen[0].begin, end = seen[0].end;
    const float* query[Q];
    for (int q = 0; q < Q; ++q) {
      query[q] = queries + seen[q].query * head_dim;
      begin = Least(begin, seen[q].begin);
      end = Most(end, seen[q].end);
    }
    for (int64_t t = begin / Tokens * Tokens; t < end; t += Tokens) {
      if (fetches) FetchAhead(block, head_dim, t, Least(t + Tokens, block.tokens));
      const Element* key[Tokens];
      Vec sums[Q][Tokens];
#pragma GCC unroll 8
      for (int i = 0; i < Tokens; ++i) {
        key[i] = block.keys + Least(t + i, block.tokens - 1) * block.stride;
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) sums[q][i] = Simd::Zero();
      }
      for (int64_t x = 0; x < head_dim; x += kLanes) {
        Vec own[Q];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) own[q] = Simd::Load(query[q] + x);
#pragma GCC unroll 8
        for (int i = 0; i < Tokens; ++i) {
          const Vec other = Simd::Load(key[i] + x);
#pragma GCC unroll 4
          for (int q = 0; q < Q; ++q) sums[q][i] = Simd::MultiplyAdd(own[q], other, sums[q][i]);
        }
      }
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 2
        for (int i = 0; i < Tokens; i += 4) {
          const Vec* four = sums[q] + i;
          Simd::SumLanes4(four[0], four[1], four[2], four[3], scores + q * kScoreFloats + t + i);
        }
      }
    }
    return Q;
  }

  // Of any tokens, those too that the query does not see.
  static void CapScores(int64_t tokens, float* scores, float softcap) {
    for (int64_t t = 0; t < tokens; t += kLanes) {
      Simd::Store(scores + t, Cap<Simd>(Simd::Load(scores + t), softcap));
    }
  }

  // Scores become weights, which `own` (sum [16], maximum) takes in. Returns the share that what
  // was summed before keeps.
  static float Soften(const Seen& seen, int64_t tokens, float* scores, float* own) {
    // What a query does not see may be anything, NaN too.
    const int64_t padded = (tokens + kLanes - 1) / kLanes * kLanes;
    for (int64_t t = 0; t < seen.begin; ++t) scores[t] = kLowest;
    for (int64_t t = seen.end; t < padded; ++t) scores[t] = kLowest;
    Vec highest = Simd::Load(scores);
    for (int64_t t = kLanes; t < padded; t += kLanes) {
      highest = Simd::Max(highest, Simd::Load(scores + t));
    }
    const float before = own[16], here = Simd::MaxLanes(highest);
    const bool rises = here > before;
    const float maximum = rises ? here : before;
    const float fade = rises ? ExpOf<Simd>(before - maximum) : 1.0f;
    Vec sum = Simd::Multiply(Simd::Load(own), Simd::Set(fade));
    for (int64_t t = 0; t < padded; t += kLanes) {
      const Vec weights =
          Exp<Simd>(Simd::Subtract(Simd::Load(scores + t), Simd::Set(maximum)));
      Simd::Store(scores + t, weights);
      sum = Simd::Add(sum, weights);
    }
    Simd::Store(own, sum);
    own[16] = maximum;
    return fade;
  }

  // Of neighbouring queries that see the same tokens.
  struct Weights {
    const Seen* seen;
    const float* scores;
    const float* fades;
  };

  // Adds the weighted values, X vectors at a time, to the states of Q queries; returns Q.
  template <int Q, int X>
  static int64_t Weigh(const Block<Element>& block, int64_t head_dim, const Weights& weights,
                       float* state, int64_t x = 0) {
    const int64_t begin = weights.seen[0].begin, end = weights.seen[0].end;
    for (; x + X * kLanes <= head_dim; x += X * kLanes) {
      Vec sums[Q][X];
      float* into[Q];
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        into[q] = state + weights.seen[q].query * (head_dim + kStateExtraFloats) + x;
        const Vec fade = Simd::Set(weights.fades[q]);
#pragma GCC unroll 8
        for (int v = 0; v < X; ++v) {
          sums[q][v] = Simd::Multiply(Simd::Load(into[q] + v * kLanes), fade);
        }
      }
      for (int64_t t = begin; t < end; ++t) {
        const Element* value = block.values + t * block.stride + x;
        Vec share[Q];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) share[q] = Simd::Set(weights.scores[q * kScoreFloats + t]);
#pragma GCC unroll 8
        for (int v = 0; v < X; ++v) {
          const Vec other = Simd::Load(value + v * kLanes);
#pragma GCC unroll 4
          for (int q = 0; q < Q; ++q) sums[q][v] = Simd::MultiplyAdd(share[q], other, sums[q][v]);
        }
      }
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 8
        for (int v = 0; v < X; ++v) Simd::Store(into[q] + v * kLanes, sums[q][v]);
      }
    }
    if constexpr (X > 1) {
      if (x < head_dim) Weigh<Q, X / 2>(block, head_dim, weights, state, x);
    }
    return Q;
  }
};

template <class Simd, class Element>
constexpr Kernel kKernel = {Simd::kLanes, Arithmetic<Simd, Element>::Prepare,
                            Arithmetic<Simd, Element>::Visit, Arithmetic<Simd, Element>::Fold,
                            Arithmetic<Simd, Element>::Finish};

template <class Simd>
const Kernel* KernelOf(ElementType type) {
  return type == ElementType::kFloat32 ? &kKernel<Simd, float> : &kKernel<Simd, uint16_t>;
}

}  // namespace
}  // namespace aqua
#endif  // AQUA_ATTENTION_KERNEL_IMPL_H_
