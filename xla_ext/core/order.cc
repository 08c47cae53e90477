#include "core/order.h"

#include <algorithm>
#include <utility>

#include "core/clock.h"
#include "core/runs.h"

namespace aqua {
namespace {

using Stage = TicketPart::Stage;

constexpr int64_t kOperandMask = 0x7fffffff;  // what an int32 operand carries of a ticket

const char* HandlerName(Direction direction) {
  switch (direction) {
    case Direction::kOut: return "aqua_page_out";
    case Direction::kIn: return "aqua_page_in";
    case Direction::kFence: return "aqua_fence";
  }
  return "?";
}

// Whether `later` must not run before `earlier` is done. A ticket whose jobs are done holds no
// stores and is in nobody's way.
bool Conflict(const Ticket& earlier, const Ticket& later) {
  if (earlier.is_fence() || later.is_fence()) return false;
  return (earlier.target == later.target && Overlap(earlier.writes, later.writes)) ||
         (earlier.source == later.target && Overlap(earlier.reads, later.writes)) ||
         (earlier.target == later.source && Overlap(earlier.writes, later.reads));
}

}  // namespace

void Order::Admit(const TicketPtr& ticket, const std::vector<int64_t>& awaited, Aftermath* after) {
  after->begun.reserve(ticket->parts.size());
  try {
    Link(ticket, awaited);
  } catch (...) {
    Unlink(*ticket);
    throw;
  }
  for (size_t part = 0; part < ticket->parts.size(); ++part) {
    TryBegin({ticket, static_cast<int>(part)}, after);
  }
  Settle(after);
}

Result<Order::TicketPtr> Order::TakeReached(const Store& store, int part, Direction direction,
                                            int32_t ticket) {
  const auto queues = queues_.find(store.handle);
  if (store.retired || queues == queues_.end() || queues->second[part].empty()) {
    return AQUA_ERROR(AQUA_STALE, "%s with ticket %d on part %d of \"%s\": %s",
                      HandlerName(direction), ticket, part, store.label.c_str(),
                      store.retired ? "the store has retired" : "no ticket waits for it");
  }
  Queue& queue = queues->second[part];
  const TicketPtr next = queue.front();
  const auto operand = static_cast<int32_t>(next->id & kOperandMask);
  if (next->direction != direction || (ticket != -1 && ticket != operand)) {
    return AQUA_ERROR(AQUA_INVALID,
                      "%s with ticket %d on part %d of \"%s\", whose next is %s with ticket %d: "
                      "enqueue programs in the order in which tickets were opened",
                      HandlerName(direction), ticket, part, store.label.c_str(),
                      HandlerName(next->direction), operand);
  }
  queue.pop_front();
  return next;
}

void Order::Reached(const PartOf& job, Aftermath* after) {
  job.ticket->parts[job.part].reached = true;
  TryBegin(job, after);
  Settle(after);
}

void Order::Finish(const PartOf& job, Status status, Aftermath* after) {
  FinishOne(job, std::move(status), after);
  Settle(after);
}

void Order::Fail(const std::vector<TicketPtr>& tickets, Which which, const Status& status,
                 Aftermath* after) {
  for (const TicketPtr& ticket : tickets) {
    for (size_t part = 0; part < ticket->parts.size(); ++part) {
      const TicketPart& state = ticket->parts[part];
      if (state.stage != Stage::kOpen) continue;
      if (which == Which::kUnreached && state.reached) continue;
      FinishOne({ticket, static_cast<int>(part)}, status, after);
    }
  }
  Settle(after);
}

bool Order::LeaveQueues(int64_t ticket) {
  bool was_queued = false;
  for (auto& [pool, queues] : queues_) {
    for (Queue& queue : queues) {
      const auto is_it = [ticket](const TicketPtr& each) { return each->id == ticket; };
      const auto place = std::find_if(queue.begin(), queue.end(), is_it);
      if (place == queue.end()) continue;
      queue.erase(place);
      was_queued = true;
    }
  }
  return was_queued;
}

void Order::DropQueues(int32_t pool) { queues_.erase(pool); }

void Order::Forget(int64_t ticket) { open_.erase(ticket); }

std::vector<Order::TicketPtr> Order::Open() const {
  std::vector<TicketPtr> found;
  found.reserve(open_.size());
  for (const auto& [id, ticket] : open_) found.push_back(ticket);
  return found;
}

std::vector<Order::TicketPtr> Order::OpenOn(int32_t store) const {
  std::vector<TicketPtr> found = Open();
  const auto elsewhere = [store](const TicketPtr& ticket) {
    const auto& stores = ticket->stores;
    return std::find(stores.begin(), stores.end(), store) == stores.end();
  };
  found.erase(std::remove_if(found.begin(), found.end(), elsewhere), found.end());
  return found;
}

Order::TicketPtr Order::Find(int64_t ticket) const {
  const auto found = open_.find(ticket);
  return found == open_.end() ? nullptr : found->second;
}

size_t Order::longest_queue(int32_t pool) const {
  const auto queues = queues_.find(pool);
  if (queues == queues_.end()) return 0;
  size_t longest = 0;
  for (const Queue& queue : queues->second) longest = std::max(longest, queue.size());
  return longest;
}

// Appends the ticket to every list it belongs to, so that Unlink finds it at their ends.
void Order::Link(const TicketPtr& ticket, const std::vector<int64_t>& awaited) {
  const int parts = static_cast<int>(ticket->parts.size());
  for (const auto& [id, earlier] : open_) {
    if (!Conflict(*earlier, *ticket)) continue;
    for (int part = 0; part < parts; ++part) {
      if (earlier->parts[part].stage == Stage::kDone) continue;
      earlier->parts[part].followers.push_back({ticket, part});
      ++ticket->parts[part].waits_for;
    }
  }
  for (int64_t id : awaited) {
    const TicketPtr earlier = Find(id);
    if (!earlier || earlier->parts_left == 0) continue;
    for (int part = 0; part < parts; ++part) {
      earlier->fences.push_back({ticket, part});
      ++ticket->parts[part].waits_for;
    }
  }
  open_.emplace(ticket->id, ticket);
  if (!ticket->pool) return;
  std::vector<Queue>& queues = queues_[ticket->pool->handle];
  queues.resize(parts);
  for (Queue& queue : queues) queue.push_back(ticket);
}

void Order::Unlink(const Ticket& ticket) {
  open_.erase(ticket.id);
  const auto drop = [&ticket](std::vector<PartOf>* list) {
    while (!list->empty() && list->back().ticket.get() == &ticket) list->pop_back();
  };
  for (const auto& [id, earlier] : open_) {
    drop(&earlier->fences);
    for (TicketPart& part : earlier->parts) drop(&part.followers);
  }
  if (!ticket.pool) return;
  const auto queues = queues_.find(ticket.pool->handle);
  if (queues == queues_.end()) return;
  for (Queue& queue : queues->second) {
    if (!queue.empty() && queue.back().get() == &ticket) queue.pop_back();
  }
}

void Order::TryBegin(const PartOf& job, Aftermath* after) {
  TicketPart& state = job.ticket->parts[job.part];
  if (state.stage != Stage::kOpen || !state.reached || state.waits_for > 0) return;
  if (job.ticket->is_fence()) {
    FinishOne(job, {}, after);
  } else {
    state.stage = Stage::kRunning;
    after->begun.push_back(job);
  }
}

void Order::FinishOne(const PartOf& job, Status status, Aftermath* after) {
  Ticket& ticket = *job.ticket;
  TicketPart& state = ticket.parts[job.part];
  state.stage = Stage::kDone;
  state.job = {};
  if (!status.ok() && ticket.status.ok()) ticket.status = std::move(status);
  for (const PartOf& follower : state.followers) Release(follower);
  state.followers.clear();
  if (state.when_open) {
    after->openings.push_back(std::exchange(state.when_open, nullptr));
    after->silenced.push_back(state.time_out);
  }
  if (--ticket.parts_left > 0) return;
  ticket.finished_ns = NowNanoseconds();
  for (const PartOf& fence : ticket.fences) Release(fence);
  ticket.fences.clear();
  for (auto* store : {&ticket.source, &ticket.target, &ticket.pool}) {
    if (*store) after->stores.push_back(std::move(*store));
  }
  after->completed.push_back(job.ticket);
}

// There is one thing less that `job` waits for.
void Order::Release(const PartOf& job) {
  if (--job.ticket->parts[job.part].waits_for == 0) ready_.push_back(job);
}

// A list instead of recursion: a chain of fences may be long.
void Order::Settle(Aftermath* after) {
  while (!ready_.empty()) {
    const PartOf job = std::move(ready_.back());
    ready_.pop_back();
    TryBegin(job, after);
  }
}

}  // namespace aqua
