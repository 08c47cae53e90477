// What XLA hands to the handlers of attention, and whether it fits together: the same on every
// platform. What the kernels of one can compute, and what the values say, its handlers check.
//
// (pool, layer int32[2], tables int32[R, M], positions int32[R], queries [R, K, G, D],
//  keys [R, K, D], values [R, K, D]) -> (pool, attended [R, K, G, D])
//
// layer: its number, and how many positions a row of it attends to, 0: all.
#ifndef AQUA_ATTENTION_OPERANDS_H_
#define AQUA_ATTENTION_OPERANDS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "attention/attention.h"
#include "core/status.h"
#include "xla/ffi/api/ffi.h"

namespace aqua {

using Ints = xla::ffi::Buffer<xla::ffi::S32>;

// Arguments, then results, then attributes: window_most, of any layer, 0: one attends to all; scale
// and softcap, of the scores.
struct Operands {
  xla::ffi::AnyBuffer pool;
  Ints layer, tables, positions;
  xla::ffi::AnyBuffer queries, keys, values, pool_out, attended;
  int64_t window_most;
  float scale, softcap;
};

inline bool HasShape(const xla::ffi::AnyBuffer& buffer, std::initializer_list<int64_t> expected) {
  const auto dimensions = buffer.dimensions();
  return std::equal(dimensions.begin(), dimensions.end(), expected.begin(), expected.end());
}

// One element type, float32 or bfloat16, and the pool in place.
inline Status CheckElements(const Operands& given) {
  const xla::ffi::DataType type = given.pool.element_type();
  const auto is_other = [type](const xla::ffi::AnyBuffer& buffer) {
    return buffer.element_type() != type;
  };
  if ((type != xla::ffi::DataType::F32 && type != xla::ffi::DataType::BF16) ||
      is_other(given.queries) || is_other(given.keys) || is_other(given.values) ||
      is_other(given.attended)) {
    return AQUA_ERROR(AQUA_INVALID, "expected pool and rows all of float32 or all of bfloat16");
  }
  if (given.pool.untyped_data() != given.pool_out.untyped_data()) {
    return AQUA_ERROR(AQUA_INVALID, "the pool is not aliased to the first result");
  }
  return {};
}

// The shape of the call that the operands make, all but its window, which is the layer's; or how
// they do not fit together.
inline Result<AttentionShape> ShapeOf(const Operands& given) {
  const auto pool = given.pool.dimensions(), tables = given.tables.dimensions();
  const auto queries = given.queries.dimensions();
  if (pool.size() != 6 || tables.size() != 2 || queries.size() != 4 || pool[2] != 2) {
    return AQUA_ERROR(AQUA_INVALID,
                      "expected a pool [pages, layers, 2, page_tokens, kv_heads, head_dim], tables "
                      "[rows, table_pages], queries [rows, kv_heads, group, head_dim]");
  }
  AttentionShape shape = {};
  shape.rows = queries[0];
  shape.table_pages = tables[1];
  shape.pages = pool[0];
  shape.layers = pool[1];
  shape.page_tokens = pool[3];
  shape.kv_heads = pool[4];
  shape.group = queries[2];
  shape.head_dim = pool[5];
  shape.window_most = given.window_most;
  shape.scale = given.scale;
  shape.softcap = given.softcap;
  if (!HasShape(given.queries, {shape.rows, shape.kv_heads, shape.group, shape.head_dim}) ||
      !HasShape(given.keys, {shape.rows, shape.kv_heads, shape.head_dim}) ||
      !HasShape(given.values, {shape.rows, shape.kv_heads, shape.head_dim}) ||
      !HasShape(given.attended, {shape.rows, shape.kv_heads, shape.group, shape.head_dim}) ||
      tables[0] != shape.rows ||
      given.positions.element_count() != static_cast<size_t>(shape.rows) ||
      given.layer.element_count() != 2) {
    return AQUA_ERROR(AQUA_INVALID,
                      "operands of different sizes: expected %lld rows, %lld KV heads, head_dim "
                      "%lld and a layer of 2, as the queries and the pool have them",
                      static_cast<long long>(shape.rows), static_cast<long long>(shape.kv_heads),
                      static_cast<long long>(shape.head_dim));
  }
  AQUA_RETURN_IF_ERROR(CheckElements(given));
  return shape;
}

}  // namespace aqua
#endif  // AQUA_ATTENTION_OPERANDS_H_
