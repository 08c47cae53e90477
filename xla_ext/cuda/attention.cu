// Launches of paged attention: which kernel for which element, head_dim and number of queries.
#include "cuda/attention.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/attention_kernel.cuh"

namespace aqua {
namespace {

__global__ void __launch_bounds__(kBlockThreads)
    WriteRows(const __grid_constant__ AttentionOperands given) {
  WriteRow(given);
}

template <typename Element, int kLanes, int kVectors, int kQueries, bool kIsPrefill>
__global__ void __launch_bounds__(kBlockThreads)
    Attend(const __grid_constant__ AttentionOperands given,
           const __grid_constant__ ArenaBases arenas) {
  extern __shared__ float shared[];
  AttentionTile<Element, kLanes, kVectors, kQueries> tile(given, arenas, shared);
  if constexpr (kIsPrefill) {
    tile.RunAll();
  } else {
    tile.RunSegment();
  }
}

template <typename Element>
__global__ void __launch_bounds__(kBlockThreads)
    MergeSegments(const __grid_constant__ AttentionOperands given) {
  MergeQuery<Element>(given);
}

struct Launch {
  const AttentionOperands& given;
  const ArenaBases& arenas;
  bool is_prefill;
  cudaStream_t stream;
};

template <typename Element, int kLanes, int kVectors, int kQueries>
cudaError_t LaunchTiles(const Launch& launch) {
  static_assert(SharedFloats(kQueriesMax, kHeadMax) * sizeof(float) <= 48 << 10,
                "more shared memory has to be asked for");
  const AttentionOperands& given = launch.given;
  const int head_tiles = (given.group + given.heads - 1) / given.heads;
  const dim3 grid((given.rows + given.tile_rows - 1) / given.tile_rows, given.kv_heads * head_tiles,
                  launch.is_prefill ? 1 : given.segments_max);
  const size_t shared_bytes = SharedFloats(kQueries, given.head_dim) * sizeof(float);
  if constexpr (kQueries == kQueriesMax) {  // of prefill there are always more than half of them
    if (launch.is_prefill) {
      Attend<Element, kLanes, kVectors, kQueries, true>
          <<<grid, kBlockThreads, shared_bytes, launch.stream>>>(given, launch.arenas);
      return cudaGetLastError();
    }
  }
  Attend<Element, kLanes, kVectors, kQueries, false>
      <<<grid, kBlockThreads, shared_bytes, launch.stream>>>(given, launch.arenas);
  return cudaGetLastError();
}

template <typename Element, int kLanes, int kVectors>
cudaError_t LaunchQueries(const Launch& launch) {
  const int queries = launch.given.heads * launch.given.tile_rows;
  if (launch.is_prefill) return LaunchTiles<Element, kLanes, kVectors, kQueriesMax>(launch);
  if (queries <= 1) return LaunchTiles<Element, kLanes, kVectors, 1>(launch);
  if (queries <= 2) return LaunchTiles<Element, kLanes, kVectors, 2>(launch);
  if (queries <= 4) return LaunchTiles<Element, kLanes, kVectors, 4>(launch);
  return LaunchTiles<Element, kLanes, kVectors, kQueriesMax>(launch);
}

template <typename Element>
cudaError_t LaunchElement(const Launch& launch) {
  const int vectors = launch.given.head_dim / Element::kInVector;
  if (vectors <= 4) return LaunchQueries<Element, 4, 1>(launch);
  if (vectors <= 8) return LaunchQueries<Element, 8, 1>(launch);
  if (vectors <= 16) return LaunchQueries<Element, 16, 1>(launch);
  if (vectors <= 32) return LaunchQueries<Element, 32, 1>(launch);
  if constexpr (Element::kInVector * 32 < kHeadMax) {
    return LaunchQueries<Element, 32, 2>(launch);
  } else {
    return cudaErrorInvalidValue;
  }
}

template <typename Function>
bool Load(Function* function) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, function) == cudaSuccess;
}

template <typename Element, int kLanes, int kVectors>
bool LoadTiles() {
  return Load(Attend<Element, kLanes, kVectors, 1, false>) &&
         Load(Attend<Element, kLanes, kVectors, 2, false>) &&
         Load(Attend<Element, kLanes, kVectors, 4, false>) &&
         Load(Attend<Element, kLanes, kVectors, kQueriesMax, false>) &&
         Load(Attend<Element, kLanes, kVectors, kQueriesMax, true>);
}

template <typename Element>
bool LoadElement() {
  return Load(MergeSegments<Element>) && LoadTiles<Element, 4, 1>() && LoadTiles<Element, 8, 1>() &&
         LoadTiles<Element, 16, 1>() && LoadTiles<Element, 32, 1>();
}

}  // namespace

cudaError_t LoadAttention() {
  const bool is_loaded = Load(WriteRows) && LoadElement<Float32>() && LoadElement<Bfloat16>() &&
                         LoadTiles<Float32, 32, 2>();
  return is_loaded ? cudaSuccess : cudaGetLastError();
}

cudaError_t LaunchAttention(const AttentionOperands& given, const ArenaBases& arenas,
                            bool is_bfloat16, bool is_prefill, cudaStream_t stream) {
  if (given.rows == 0) return cudaSuccess;
  WriteRows<<<given.rows, kBlockThreads, 0, stream>>>(given);
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  const Launch launch = {given, arenas, is_prefill, stream};
  error = is_bfloat16 ? LaunchElement<Bfloat16>(launch) : LaunchElement<Float32>(launch);
  if (error != cudaSuccess || is_prefill || given.segments_max == 1) return error;
  const dim3 grid(given.rows, given.kv_heads * given.group);
  if (is_bfloat16) {
    MergeSegments<Bfloat16><<<grid, kBlockThreads, 0, stream>>>(given);
  } else {
    MergeSegments<Float32><<<grid, kBlockThreads, 0, stream>>>(given);
  }
  return cudaGetLastError();
}

}  // namespace aqua
