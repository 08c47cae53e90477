#include "core/runs.h"

#include <algorithm>

namespace aqua {
namespace {

struct Pair {
  int32_t source;
  int32_t target;
};

Status CheckRange(const char* end, const char* label, int64_t pages, const int32_t* indices,
                  int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    if (indices[i] < 0 || indices[i] >= pages) {
      return AQUA_ERROR(AQUA_OUT_OF_RANGE, "%s page %d (entry %d) of \"%s\": expected 0 to %lld",
                        end, indices[i], i, label, static_cast<long long>(pages - 1));
    }
  }
  return {};
}

// `pages` ascending; equal neighbours count once.
Runs MergeSorted(const std::vector<int32_t>& pages) {
  Runs runs;
  for (int32_t page : pages) {
    if (!runs.empty() && page < runs.back().first + runs.back().count) continue;
    if (!runs.empty() && page == runs.back().first + runs.back().count) {
      ++runs.back().count;
    } else {
      runs.push_back({page, 1});
    }
  }
  return runs;
}

}  // namespace

Result<Plan> MakePlan(const PlanEnds& ends, const int32_t* sources, const int32_t* targets,
                      int32_t count) {
  // A target is named once, so more copies than target pages cannot be right: this bounds `count`.
  if (count < 1 || count > ends.target_pages) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "a plan of %d copies to \"%s\": expected 1 to %lld", count,
                      ends.target_label, static_cast<long long>(ends.target_pages));
  }
  if (sources == nullptr || targets == nullptr) {
    return AQUA_ERROR(AQUA_INVALID, "a plan of %d copies without page numbers: expected two arrays",
                      count);
  }
  AQUA_RETURN_IF_ERROR(
      CheckRange("source", ends.source_label, ends.source_pages, sources, count));
  AQUA_RETURN_IF_ERROR(
      CheckRange("target", ends.target_label, ends.target_pages, targets, count));

  std::vector<Pair> pairs(count);
  for (int32_t i = 0; i < count; ++i) pairs[i] = {sources[i], targets[i]};
  const auto by_target = [](const Pair& a, const Pair& b) { return a.target < b.target; };
  if (!std::is_sorted(pairs.begin(), pairs.end(), by_target)) {
    std::sort(pairs.begin(), pairs.end(), by_target);
  }

  Plan plan;
  for (const Pair& pair : pairs) {
    if (!plan.copies.empty()) {
      CopyRun& last = plan.copies.back();
      if (pair.target == last.target + last.count - 1) {
        return AQUA_ERROR(AQUA_INVALID, "page %d of \"%s\" is a target twice: expected once",
                          pair.target, ends.target_label);
      }
      if (pair.target == last.target + last.count && pair.source == last.source + last.count) {
        ++last.count;
        continue;
      }
    }
    plan.copies.push_back({pair.source, pair.target, 1});
  }

  std::vector<int32_t> pages(count);
  for (int32_t i = 0; i < count; ++i) pages[i] = pairs[i].target;
  plan.writes = MergeSorted(pages);
  for (int32_t i = 0; i < count; ++i) pages[i] = pairs[i].source;
  std::sort(pages.begin(), pages.end());
  plan.reads = MergeSorted(pages);
  if (ends.same_store && Overlap(plan.reads, plan.writes)) {
    return AQUA_ERROR(AQUA_INVALID,
                      "a page of \"%s\" is source and target of one plan: open two plans in the "
                      "order that is meant",
                      ends.source_label);
  }
  return plan;
}

bool Overlap(const Runs& left, const Runs& right) {
  auto a = left.begin();
  auto b = right.begin();
  while (a != left.end() && b != right.end()) {
    if (a->first + a->count <= b->first) {
      ++a;
    } else if (b->first + b->count <= a->first) {
      ++b;
    } else {
      return true;
    }
  }
  return false;
}

}  // namespace aqua
