#include "tests/world.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "aqua.h"
#include "tests/check.h"

namespace aqua::harness {
namespace {

constexpr int64_t kPageBytes[] = {64, 256, 4096, 4096, 65536};
// Rarely, and larger than what one thread takes at once.
constexpr int64_t kLargePageBytes = (int64_t{5} << 18) + 8;
constexpr int kPagesMin = 4, kPagesSpread = 20;
constexpr int kSteps = 48;

long long Long(int64_t value) { return value; }

}  // namespace

World::World(uint64_t seed, bool closings, Collector* collector)
    : closings_(closings), collector_(collector), random_(seed), next_stamp_(seed << 32) {
  parts_ = 1 + Pick(3);
  page_bytes_ = Pick(40) == 0 ? kLargePageBytes : kPageBytes[Pick(5)];
}

void World::Run() {
  for (int i = 1 + Pick(2); i > 0; --i) AddPool();
  for (int i = 1 + Pick(2); i > 0; --i) AddArena();
  for (int step = 0; step < kSteps; ++step) {
    const int dice = Pick(100);
    if (dice < 70) {
      OpenCopy();
    } else if (dice < 90) {
      OpenFence();
    } else if (dice < 94) {
      OpenWrongPlan();
    } else if (dice < 96) {
      RetireOne();
    } else if (dice < 98) {
      AddArena();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(Pick(500)));
    }
  }
  for (Place& place : places_) {
    if (place.is_pool()) place.threads->Finish();
  }
  CheckCompletions();
  CheckBytes();
  GiveBack();
}

std::vector<int32_t> World::PickPages(int first, int end, int count) {
  std::vector<int32_t> pages(end - first);
  std::iota(pages.begin(), pages.end(), first);
  if (Pick(2) == 0) {  // neighbours, which merge
    const int start = Pick(static_cast<int>(pages.size()) - count + 1);
    return std::vector<int32_t>(pages.begin() + start, pages.begin() + start + count);
  }
  std::shuffle(pages.begin(), pages.end(), random_);
  pages.resize(count);
  return pages;
}

size_t World::PickPlace(bool pool) {
  std::vector<size_t> fitting;
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].is_pool() == pool && !places_[i].retired) fitting.push_back(i);
  }
  return fitting.empty() ? kNone : fitting[Pick(static_cast<int>(fitting.size()))];
}

Stamp World::NewStamps(int count) {
  next_stamp_ += count;
  return next_stamp_ - count;
}

// ---- Stores

void World::AddPool() {
  Place place = {};
  place.pages = kPagesMin + Pick(kPagesSpread);
  place.shared_from = 1 + Pick(place.pages - 1);
  const int64_t part_bytes = place.pages * page_bytes_;
  place.own = std::make_unique<std::byte[]>(part_bytes * parts_);
  const Stamp stamps = NewStamps(parts_ * place.pages);
  std::vector<void*> bases;
  std::vector<std::byte*> addresses;
  for (int part = 0; part < parts_; ++part) {
    std::byte* const base = place.own.get() + part * part_bytes;
    bases.push_back(base);
    addresses.push_back(base);
    for (int page = 0; page < place.pages; ++page) {
      FillPage(stamps + part * place.pages + page, base + page * page_bytes_, page_bytes_);
    }
  }
  const std::vector<int32_t> devices(parts_, -1);
  aqua_error error;
  place.handle = static_cast<int32_t>(aqua_store_register(
      "pool", parts_, bases.data(), devices.data(), place.pages, page_bytes_, 0, &error));
  CHECK_THAT(place.handle > 0, "%s", error.text);
  place.number = model_.AddStore(parts_, place.pages, stamps);
  place.threads = std::make_unique<PoolThreads>(std::move(addresses), random_());
  places_.push_back(std::move(place));
}

void World::AddArena() {
  if (places_.size() >= 8) return;
  Place place = {};
  place.pages = kPagesMin + Pick(kPagesSpread);
  place.shared_from = 0;
  const int64_t part_bytes = place.pages * page_bytes_;
  aqua_error error;
  place.memory = aqua_memory_allocate(1 + Pick(3), part_bytes * parts_, 0, &error);
  CHECK_THAT(place.memory > 0, "%s", error.text);
  const int64_t address = aqua_memory_address(place.memory, &error);
  CHECK_THAT(address > 0, "%s", error.text);
  std::vector<void*> bases;
  for (int part = 0; part < parts_; ++part) {
    bases.push_back(reinterpret_cast<void*>(address + part * part_bytes));
  }
  const std::vector<int32_t> devices(parts_, -1);
  place.handle =
      static_cast<int32_t>(aqua_store_register("arena", parts_, bases.data(), devices.data(),
                                               place.pages, page_bytes_, place.memory, &error));
  CHECK_THAT(place.handle > 0, "%s", error.text);
  const Stamp stamps = NewStamps(parts_ * place.pages);
  std::vector<std::byte> page_of(page_bytes_);
  for (int part = 0; part < parts_; ++part) {
    for (int page = 0; page < place.pages; ++page) {
      FillPage(stamps + part * place.pages + page, page_of.data(), page_bytes_);
      CHECK_THAT(aqua_store_write(place.handle, part, page, page_of.data(), &error) == page_bytes_,
                 "%s", error.text);
    }
  }
  place.number = model_.AddStore(parts_, place.pages, stamps);
  places_.push_back(std::move(place));
}

void World::RetireOne() {
  const size_t chosen = PickPlace(Pick(6) == 0);
  if (chosen == kNone) return;
  Place& place = places_[chosen];
  place.retired = true;
  if (place.is_pool()) place.threads->ExpectEnd();
  aqua_error error;
  CHECK_THAT(aqua_store_retire(place.handle, "the harness is done with it", &error) >= 0, "%s",
             error.text);
  if (place.memory != 0) {  // while copies on it may be under way
    CHECK_THAT(aqua_memory_free(place.memory, &error) == 0, "%s", error.text);
  }
}

// ---- Plans

void World::OpenCopy() {
  const size_t source = PickPlace(Pick(2) == 0);
  const size_t target = PickPlace(Pick(2) == 0);
  if (source == kNone || target == kNone) return;
  Place& from = places_[source];
  Place& to = places_[target];
  Copy copy = {0, source, target, kNone, {}, {}, parts_};
  if (from.is_pool() && (!to.is_pool() || Pick(2) == 0)) {
    copy.gate = source;
  } else if (to.is_pool()) {
    copy.gate = target;
  }
  // Programs write below shared_from, ordered with tickets of the same pool alone.
  const bool foreign_source = from.is_pool() && copy.gate != source;
  const bool foreign_target = to.is_pool() && copy.gate != target;
  const int source_first = foreign_source ? from.shared_from : 0;
  const int target_first = foreign_target ? to.shared_from : 0;
  if (source == target) {  // two halves of one store
    const int half = 1 + Pick(from.pages - 1);
    const int count = 1 + Pick(std::min(half, from.pages - half));
    copy.sources = PickPages(0, half, count);
    copy.targets = PickPages(half, from.pages, count);
    if (Pick(2) == 0) std::swap(copy.sources, copy.targets);
  } else {
    const int count = 1 + Pick(std::min(from.pages - source_first, to.pages - target_first));
    copy.sources = PickPages(source_first, from.pages, count);
    copy.targets = PickPages(target_first, to.pages, count);
    if (Pick(4) == 0) copy.sources.assign(count, copy.sources[0]);  // one page to many
  }
  copy.ticket = OpenRetrying(copy);
  if (copy.gate != kNone) {
    PoolThreads& threads = *places_[copy.gate].threads;
    const auto program = std::make_shared<Program>();
    program->ticket = copy.ticket;
    program->direction = copy.gate == source ? Direction::kOut : Direction::kIn;
    const bool abandoned = Pick(12) == 0;
    program->parts = abandoned ? Pick(parts_) : parts_;
    if (program->parts > 0) threads.Enqueue(program);
    if (abandoned) {
      copy.parts_run = program->parts;
      threads.AwaitReached(program);
      aqua_error error;
      CHECK_THAT(aqua_ticket_abandon(copy.ticket, "the harness gave it up", &error) == 0, "%s",
                 error.text);
    }
  }
  events_.push_back({true, std::move(copy), {}});
}

// A refusal because the library is closed lasts until it is started again.
int64_t World::OpenRetrying(const Copy& copy) {
  const Place& from = places_[copy.source];
  const Place& to = places_[copy.target];
  const int32_t gate = copy.gate == kNone ? 0 : places_[copy.gate].handle;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    aqua_error error;
    const int64_t ticket =
        aqua_copy_open(from.handle, to.handle, copy.sources.data(), copy.targets.data(),
                       static_cast<int32_t>(copy.sources.size()), gate, &error);
    if (ticket > 0) return ticket;
    CHECK_THAT(closings_ && error.code == AQUA_CLOSED, "%s", error.text);
    CHECK_THAT(std::chrono::steady_clock::now() < deadline, "%s", error.text);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

// A fence on whatever touches some pages of the pool, and a program behind it that writes them; or
// an impatient fence, behind which nothing is written.
void World::OpenFence() {
  const size_t pool = PickPlace(true);
  if (pool == kNone) return;
  Place& place = places_[pool];
  Fence fence = {0, pool, closings_ || Pick(4) > 0, {}};
  std::set<int32_t> pages;
  if (fence.patient && !closings_) {
    for (int32_t page : PickPages(0, place.shared_from, 1 + Pick(place.shared_from))) {
      pages.insert(page);
      fence.writes.push_back({page, NewStamps(parts_)});
    }
  }
  std::vector<int64_t> awaited;
  for (const Event& event : events_) {
    const int64_t ticket = event.is_copy ? event.copy.ticket : event.fence.ticket;
    bool touches = Pick(30) == 0;
    const auto meets = [&](size_t store, const std::vector<int32_t>& touched) {
      return store == pool && std::any_of(touched.begin(), touched.end(),
                                          [&](int32_t page) { return pages.count(page) > 0; });
    };
    if (event.is_copy) {
      touches |= meets(event.copy.source, event.copy.sources);
      touches |= meets(event.copy.target, event.copy.targets);
    }
    if (touches) awaited.push_back(ticket);
  }
  const double seconds = fence.patient ? 1000 : 1e-6 * Pick(1000);
  aqua_error error;
  fence.ticket = aqua_fence_open(place.handle, awaited.data(), static_cast<int32_t>(awaited.size()),
                                 seconds, &error);
  if (fence.ticket < 0 && closings_ && error.code == AQUA_CLOSED) return;
  CHECK_THAT(fence.ticket > 0, "%s", error.text);
  const auto program = std::make_shared<Program>();
  program->ticket = fence.ticket;
  program->direction = Direction::kFence;
  program->parts = parts_;
  std::byte* const base = place.own.get();
  const int64_t part_bytes = place.pages * page_bytes_;
  program->body = [this, writes = fence.writes, base, part_bytes](int part) {
    for (const auto& [page, stamp] : writes) {
      FillPage(stamp + part, base + part * part_bytes + page * page_bytes_, page_bytes_);
    }
  };
  place.threads->Enqueue(program);
  events_.push_back({false, {}, std::move(fence)});
}

void World::OpenWrongPlan() {
  const size_t chosen = PickPlace(false);
  if (chosen == kNone) return;
  const int32_t handle = places_[chosen].handle;
  const int32_t pages = places_[chosen].pages;
  const struct {
    int32_t source, target;
    int32_t sources[2], targets[2];
    int32_t count, pool, code;
  } wrong[] = {
      {handle, handle, {0, 1}, {2, pages}, 2, 0, AQUA_OUT_OF_RANGE},
      {handle, handle, {-1, 1}, {2, 3}, 2, 0, AQUA_OUT_OF_RANGE},
      {handle, handle, {0, 1}, {2, 2}, 2, 0, AQUA_INVALID},
      {handle, handle, {0, 1}, {1, 2}, 2, 0, AQUA_INVALID},
      {handle, handle, {0, 1}, {2, 3}, 0, 0, AQUA_OUT_OF_RANGE},
      {handle, handle, {0, 1}, {2, 3}, INT32_MAX, 0, AQUA_OUT_OF_RANGE},
      {handle, INT32_MAX, {0, 1}, {2, 3}, 2, 0, AQUA_STALE},
      {0, handle, {0, 1}, {2, 3}, 2, 0, AQUA_STALE},
      {handle, handle, {0, 1}, {2, 3}, 2, INT32_MAX, AQUA_INVALID},
  };
  for (const auto& plan : wrong) {
    aqua_error error;
    const int64_t ticket = aqua_copy_open(plan.source, plan.target, plan.sources, plan.targets,
                                          plan.count, plan.pool, &error);
    CHECK_THAT(ticket == -1 && error.code == plan.code, "ticket %lld, code %d: %s", Long(ticket),
               error.code, error.text);
  }
}

// ---- What came of it

void World::CheckCompletions() {
  for (const Event& event : events_) {
    const int64_t ticket = event.is_copy ? event.copy.ticket : event.fence.ticket;
    const aqua_completion done = collector_->Await(ticket);
    const int32_t code = done.error.code;
    bool may_fail = closings_ && code == AQUA_CLOSED;
    int64_t bytes = 0;
    if (event.is_copy) {
      const Copy& copy = event.copy;
      const bool abandoned = copy.parts_run < parts_;
      const bool retired = places_[copy.source].retired || places_[copy.target].retired;
      may_fail |= (abandoned || retired) && code == AQUA_STALE;
      CHECK_THAT(!abandoned || code != AQUA_OK, "ticket %lld was abandoned", Long(ticket));
      if (code == AQUA_OK) bytes = page_bytes_ * parts_ * static_cast<int64_t>(copy.sources.size());
      CHECK_THAT(code != AQUA_OK || done.started_ns > 0, "ticket %lld began at 0", Long(ticket));
    } else {
      may_fail |= places_[event.fence.pool].retired && code == AQUA_STALE;
      may_fail |= !event.fence.patient && code == AQUA_TIMEOUT;
    }
    CHECK_THAT(code == AQUA_OK || may_fail, "ticket %lld: code %d: %s", Long(ticket), code,
               done.error.text);
    CHECK_THAT(done.bytes == bytes, "ticket %lld: %lld bytes, expected %lld", Long(ticket),
               Long(done.bytes), Long(bytes));
    const bool in_order = done.opened_ns <= done.finished_ns &&
                          (done.started_ns == 0 || (done.opened_ns <= done.started_ns &&
                                                    done.started_ns <= done.finished_ns));
    CHECK_THAT(in_order, "ticket %lld: opened %lld, began %lld, ended %lld", Long(ticket),
               Long(done.opened_ns), Long(done.started_ns), Long(done.finished_ns));
  }
}

void World::CheckBytes() {
  for (const Event& event : events_) {
    if (!event.is_copy) {
      for (const auto& [page, stamp] : event.fence.writes) {
        for (int part = 0; part < parts_; ++part) {
          model_.Write(places_[event.fence.pool].number, part, page, stamp + part);
        }
      }
      continue;
    }
    const Copy& copy = event.copy;
    const int32_t code = collector_->Await(copy.ticket).error.code;
    for (int part = 0; part < parts_; ++part) {
      Ran ran = code == AQUA_OK ? Ran::kYes : Ran::kPerhaps;
      // Given up on purpose: the parts are known, unless something else failed it too.
      const bool retired = places_[copy.source].retired || places_[copy.target].retired;
      if (copy.parts_run < parts_ && !retired && !closings_) {
        ran = part < copy.parts_run ? Ran::kYes : Ran::kNo;
      }
      model_.Copy(places_[copy.source].number, places_[copy.target].number, part, copy.sources,
                  copy.targets, ran);
    }
  }
  std::vector<std::byte> found(page_bytes_);
  for (const Place& place : places_) {
    if (place.retired) continue;
    for (int part = 0; part < parts_; ++part) {
      for (int32_t page = 0; page < place.pages; ++page) {
        aqua_error error;
        CHECK_THAT(aqua_store_read(place.handle, part, page, found.data(), &error) == page_bytes_,
                   "%s", error.text);
        const auto& candidates = model_.Candidates(place.number, part, page);
        const bool right = std::any_of(candidates.begin(), candidates.end(), [&](Stamp stamp) {
          return HoldsPage(stamp, found.data(), page_bytes_);
        });
        CHECK_THAT(right, "store %d, part %d, page %d is wrong (%zu candidates)", place.handle,
                   part, page, candidates.size());
      }
    }
  }
}

void World::GiveBack() {
  for (Place& place : places_) {
    aqua_error error;
    CHECK_THAT(aqua_store_busy(place.handle, &error) == 0, "store %d is busy", place.handle);
    if (place.retired) continue;
    CHECK_THAT(aqua_store_retire(place.handle, "the end", &error) == 0, "%s", error.text);
    if (place.memory == 0) continue;
    CHECK_THAT(aqua_memory_free(place.memory, &error) == 0, "%s", error.text);
  }
}

}  // namespace aqua::harness
