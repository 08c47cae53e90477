#include "core/transfers.h"

#include <new>
#include <utility>

#include "core/runs.h"

namespace aqua {
namespace {

using Lock = std::unique_lock<std::mutex>;

long long Long(int64_t value) { return value; }  // for %lld

Status CheckEnds(const Store& source, const Store& target, int32_t pool) {
  if (source.page_bytes != target.page_bytes) {
    return AQUA_ERROR(AQUA_INVALID,
                      "pages of \"%s\" have %lld bytes, of \"%s\" %lld: expected equal sizes",
                      source.label.c_str(), Long(source.page_bytes), target.label.c_str(),
                      Long(target.page_bytes));
  }
  if (source.parts.size() != target.parts.size()) {
    return AQUA_ERROR(AQUA_INVALID, "\"%s\" has %zu parts, \"%s\" %zu: expected as many",
                      source.label.c_str(), source.parts.size(), target.label.c_str(),
                      target.parts.size());
  }
  if (pool != 0 && pool != source.handle && pool != target.handle) {
    return AQUA_ERROR(AQUA_INVALID,
                      "pool %d of a plan from store %d to store %d: expected one of them, or 0",
                      pool, source.handle, target.handle);
  }
  return {};
}

Job MakeJob(const Plan& plan, const Store& source, const Store& target, int part) {
  Job job;
  job.source_device = source.parts[part].device;
  job.target_device = target.parts[part].device;
  job.ranges.reserve(plan.copies.size());
  for (const CopyRun& run : plan.copies) {
    job.ranges.push_back({source.Page(part, run.source), target.Page(part, run.target),
                          run.count * source.page_bytes});
  }
  return job;
}

aqua_completion CompletionOf(const Ticket& ticket) {
  aqua_completion completion = {};
  completion.ticket = ticket.id;
  completion.bytes = ticket.status.ok() ? ticket.bytes : 0;
  completion.opened_ns = ticket.opened_ns;
  completion.started_ns = ticket.started_ns;
  completion.finished_ns = ticket.finished_ns;
  FillError(ticket.status, &completion.error);
  return completion;
}

// Of an error that is no ticket's.
aqua_completion NobodysCompletion(const Status& status) {
  aqua_completion completion = {};
  completion.finished_ns = NowNanoseconds();
  FillError(status, &completion.error);
  return completion;
}

}  // namespace

Transfers::Transfers(StoreTable* stores, int64_t first_ticket)
    : stores_(stores), next_ticket_(first_ticket) {}

Transfers::~Transfers() {
  while (!Close(kWaitSecondsMax).ok()) {
  }
}

Status Transfers::Start(std::unique_ptr<Copier> copier) {
  Lock lock(mutex_);
  if (phase_ != Phase::kClosed) {
    return AQUA_ERROR(AQUA_INVALID, "the transfer threads run already: call aqua_close before");
  }
  alarm_ = std::make_shared<Alarm>([this](int64_t ticket, int part) { Expired(ticket, part); });
  copier_ = std::move(copier);
  phase_ = Phase::kRunning;
  return {};
}

Status Transfers::Close(double seconds) {
  const Clock::time_point deadline = DeadlineAfter(seconds);
  Lock lock(mutex_);
  if (phase_ == Phase::kRunning) {
    phase_ = Phase::kClosing;
    FailOpen(Order::Which::kUnreached, "the library was closed before the pool reached the ticket",
             &lock);
  }
  changed_.wait_until(lock, deadline, [&] {
    return phase_ == Phase::kClosed || (phase_ == Phase::kClosing && order_.open_count() == 0);
  });
  if (phase_ == Phase::kClosing && order_.open_count() > 0) {
    FailOpen(Order::Which::kNotBegun, "the library was closed before the ticket's turn came",
             &lock);
  }
  if (phase_ == Phase::kClosing && order_.open_count() == 0) {
    phase_ = Phase::kJoining;
    const auto copier = std::move(copier_);
    const auto alarm = std::move(alarm_);
    lock.unlock();
    copier->Join();  // no job is left
    alarm->Join();
    lock.lock();
    phase_ = Phase::kClosed;
    changed_.notify_all();
  }
  if (phase_ == Phase::kClosed) return {};
  return AQUA_ERROR(AQUA_TIMEOUT, "after %g s %zu tickets still run: call aqua_close again",
                    seconds, order_.open_count());
}

Result<int64_t> Transfers::Open(int32_t source, int32_t target, const int32_t* sources,
                                const int32_t* targets, int32_t count, int32_t pool) {
  const Result<std::shared_ptr<Store>> from = stores_->Find(source);
  AQUA_RETURN_IF_ERROR(from.status());
  const Result<std::shared_ptr<Store>> to = stores_->Find(target);
  AQUA_RETURN_IF_ERROR(to.status());
  const Store& read = *from.value();
  const Store& written = *to.value();
  AQUA_RETURN_IF_ERROR(CheckEnds(read, written, pool));
  const PlanEnds ends = {read.label.c_str(), written.label.c_str(), read.pages, written.pages,
                         source == target};
  Result<Plan> plan = MakePlan(ends, sources, targets, count);
  AQUA_RETURN_IF_ERROR(plan.status());

  const auto ticket = std::make_shared<Ticket>();
  ticket->direction = pool == target && pool != source ? Direction::kIn : Direction::kOut;
  ticket->source = from.value();
  ticket->target = to.value();
  ticket->stores = {source, target, pool};
  if (pool != 0) ticket->pool = pool == source ? from.value() : to.value();
  ticket->bytes = count * read.page_bytes * static_cast<int64_t>(read.parts.size());
  ticket->parts.resize(read.parts.size());
  for (size_t part = 0; part < ticket->parts.size(); ++part) {
    ticket->parts[part].job = MakeJob(plan.value(), read, written, static_cast<int>(part));
    ticket->parts[part].reached = pool == 0;
  }
  Plan merged = std::move(plan).value();
  ticket->reads = std::move(merged.reads);
  ticket->writes = std::move(merged.writes);
  return Admit(ticket, {});
}

Result<int64_t> Transfers::OpenFence(int32_t pool, const int64_t* tickets, int32_t count,
                                     double seconds) {
  const Result<std::shared_ptr<Store>> store = stores_->Find(pool);
  AQUA_RETURN_IF_ERROR(store.status());
  if (count < 0 || count > kTicketsMax || (count > 0 && tickets == nullptr)) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "a fence on %d tickets at %p: expected 0 to %lld", count,
                      static_cast<const void*>(tickets), Long(kTicketsMax));
  }
  if (!(seconds >= 0 && seconds <= kWaitSecondsMax)) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "a fence of %g s: expected 0 to %g", seconds,
                      kWaitSecondsMax);
  }
  const auto ticket = std::make_shared<Ticket>();
  ticket->direction = Direction::kFence;
  ticket->seconds = seconds;
  ticket->stores = {0, 0, pool};
  ticket->pool = store.value();
  ticket->parts.resize(store.value()->parts.size());
  return Admit(ticket, std::vector<int64_t>(tickets, tickets + count));
}

Status Transfers::Abandon(int64_t id, const std::string& why) {
  Aftermath after;
  Lock lock(mutex_);
  const std::shared_ptr<Ticket> open = order_.Find(id);
  if (!order_.LeaveQueues(id)) {
    return AQUA_ERROR(open ? AQUA_INVALID : AQUA_STALE, "ticket %lld %s", Long(id),
                      open                          ? "waits for no pool: it will complete"
                      : id > 0 && id < next_ticket_ ? "is complete"
                                                    : "was never opened");
  }
  if (open) {
    const Status status =
        AQUA_ERROR(AQUA_STALE, "ticket %lld was abandoned: %s", Long(id), why.c_str());
    order_.Fail({open}, Order::Which::kUnreached, status, &after);
  }
  Carry(std::move(after), &lock);
  return {};
}

Result<int64_t> Transfers::Retire(int32_t handle, const std::string& why) {
  Aftermath after;
  Lock lock(mutex_);
  const Result<std::shared_ptr<Store>> store = stores_->Find(handle);
  AQUA_RETURN_IF_ERROR(store.status());
  AQUA_RETURN_IF_ERROR(stores_->Retire(handle));
  const Status status = AQUA_ERROR(AQUA_STALE, "store %d (\"%s\") has retired: %s", handle,
                                   store.value()->label.c_str(), why.c_str());
  int64_t busy = 0;
  const auto tickets = order_.OpenOn(handle);
  order_.Fail(tickets, Order::Which::kUnreached, status, &after);
  for (const auto& ticket : tickets) busy += ticket->parts_left > 0;
  order_.DropQueues(handle);
  Carry(std::move(after), &lock);
  return busy;
}

Result<int64_t> Transfers::Busy(int32_t store) const {
  if (!stores_->WasRegistered(store)) {
    return AQUA_ERROR(AQUA_STALE, "store %d was never registered", store);
  }
  Lock lock(mutex_);
  return static_cast<int64_t>(order_.OpenOn(store).size());
}

int64_t Transfers::open_count() const {
  Lock lock(mutex_);
  return static_cast<int64_t>(order_.open_count());
}

int64_t Transfers::Wait(double seconds, aqua_completion* completions, int32_t count) {
  return completions_.Wait(seconds, completions, count);
}

void Transfers::Wake() { completions_.Wake(); }

Status Transfers::Reach(const void* base, Direction direction, int32_t ticket,
                        std::shared_ptr<Gate> gate) {
  return Pass(base, direction, ticket, std::move(gate), {});
}

Status Transfers::ReachFence(const void* base, int32_t ticket, std::function<void()> when_open) {
  return Pass(base, Direction::kFence, ticket, nullptr, std::move(when_open));
}

Result<int64_t> Transfers::Admit(const std::shared_ptr<Ticket>& ticket,
                                 const std::vector<int64_t>& awaited) {
  ticket->parts_left = static_cast<int>(ticket->parts.size());
  ticket->opened_ns = NowNanoseconds();
  Aftermath after;
  Lock lock(mutex_);
  AQUA_RETURN_IF_ERROR(CheckAdmission(*ticket, awaited));
  ticket->id = next_ticket_;
  order_.Admit(ticket, awaited, &after);
  ++next_ticket_;
  Carry(std::move(after), &lock);
  return ticket->id;
}

Status Transfers::CheckAdmission(const Ticket& ticket, const std::vector<int64_t>& awaited) const {
  if (phase_ != Phase::kRunning) {
    return AQUA_ERROR(AQUA_CLOSED, "no transfer threads run: call aqua_start before");
  }
  for (const auto* store : {&ticket.source, &ticket.target, &ticket.pool}) {
    if (*store && (*store)->retired) {  // since it was found
      return AQUA_ERROR(AQUA_STALE, "store %d has retired", (*store)->handle);
    }
  }
  for (int64_t other : awaited) {
    if (other < 1 || other >= next_ticket_) {
      return AQUA_ERROR(AQUA_STALE,
                        "a fence on ticket %lld: expected one opened before, up to %lld",
                        Long(other), Long(next_ticket_ - 1));
    }
  }
  const size_t open = order_.open_count();
  const int64_t unread = completions_.unread();
  if (static_cast<int64_t>(open) + unread >= kTicketsMax) {
    return AQUA_ERROR(AQUA_EXHAUSTED,
                      "%zu tickets are open, completions of %lld unread, at most %lld can be: call "
                      "aqua_wait",
                      open, Long(unread), Long(kTicketsMax));
  }
  if (ticket.pool && order_.longest_queue(ticket.pool->handle) >= size_t{kTicketsMax}) {
    return AQUA_ERROR(AQUA_EXHAUSTED, "%lld tickets wait for pool \"%s\" to reach them",
                      Long(kTicketsMax), ticket.pool->label.c_str());
  }
  return {};
}

Status Transfers::Pass(const void* base, Direction direction, int32_t ticket,
                       std::shared_ptr<Gate> gate, std::function<void()> when_open) {
  const auto [store, part] = stores_->FindPart(base);
  if (!store) {
    return AQUA_ERROR(AQUA_STALE, "ticket %d of an array at %p: no live store has a part there",
                      ticket, base);
  }
  Aftermath after;
  Lock lock(mutex_);
  Result<std::shared_ptr<Ticket>> taken = order_.TakeReached(*store, part, direction, ticket);
  if (!taken.ok()) {
    if (store->retired) return taken.status();  // since it was found
    if (when_open) after.openings.push_back(std::move(when_open));
    order_.Fail(order_.OpenOn(store->handle), Order::Which::kUnreached, taken.status(), &after);
    if (after.completed.empty()) completions_.Post(NobodysCompletion(taken.status()));
    Carry(std::move(after), &lock);
    return {};
  }
  const PartOf job = {std::move(taken).value(), part};
  TicketPart& state = job.ticket->parts[part];
  if (state.stage == TicketPart::Stage::kDone) {  // failed before it was reached
    if (when_open) after.openings.push_back(std::move(when_open));
  } else {
    state.job.gate = std::move(gate);
    if (job.ticket->is_fence()) {
      if (job.ticket->started_ns == 0) job.ticket->started_ns = NowNanoseconds();
      state.when_open = std::move(when_open);
      state.time_out = {DeadlineAfter(job.ticket->seconds), job.ticket->id, part};
      if (state.waits_for > 0) alarm_->Set(state.time_out);
    }
    order_.Reached(job, &after);
  }
  Carry(std::move(after), &lock);
  return {};
}

// Lets go of the mutex and takes it again.
void Transfers::FailOpen(Order::Which which, const char* why, Lock* lock) {
  const Status status = AQUA_ERROR(AQUA_CLOSED, "%s", why);
  Aftermath after;
  order_.Fail(order_.Open(), which, status, &after);
  Carry(std::move(after), lock);
  lock->lock();
}

void Transfers::Finished(const PartOf& job, Status status, int64_t started_ns) {
  Aftermath after;
  Lock lock(mutex_);
  int64_t& first_ns = job.ticket->started_ns;
  if (started_ns != 0 && (first_ns == 0 || started_ns < first_ns)) first_ns = started_ns;
  order_.Finish(job, std::move(status), &after);
  Carry(std::move(after), &lock);
}

void Transfers::Expired(int64_t id, int part) {
  Aftermath after;
  Lock lock(mutex_);
  const std::shared_ptr<Ticket> ticket = order_.Find(id);
  if (!ticket) return;
  const TicketPart& state = ticket->parts[part];
  if (state.stage != TicketPart::Stage::kOpen) return;
  const Status status = AQUA_ERROR(
      AQUA_TIMEOUT, "fence %lld on part %d of \"%s\": after %g s it still waits for %lld tickets",
      Long(id), part, ticket->pool->label.c_str(), ticket->seconds, Long(state.waits_for));
  order_.Finish({ticket, part}, status, &after);
  Carry(std::move(after), &lock);
}

// Does what became due under the mutex, without it. Leaves it free.
void Transfers::Carry(Aftermath after, Lock* lock) {
  const std::shared_ptr<Copier> copier = copier_;
  const std::shared_ptr<Alarm> alarm = alarm_;
  lock->unlock();
  for (const PartOf& begun : after.begun) {
    try {
      Job job = std::move(begun.ticket->parts[begun.part].job);
      job.done = [this, begun](Status status, int64_t started_ns) {
        Finished(begun, std::move(status), started_ns);
      };
      copier->Start(std::move(job));
    } catch (const std::bad_alloc&) {
      Finished(begun, AQUA_ERROR(AQUA_EXHAUSTED, "out of memory on starting a copy"), 0);
    }
  }
  for (const Alarm::Entry& entry : after.silenced) alarm->Cancel(entry);
  // Before their completions: who has read the last of those finds the memory gone.
  after.stores.clear();
  if (!after.completed.empty()) {
    lock->lock();
    for (const auto& ticket : after.completed) {
      order_.Forget(ticket->id);
      completions_.Post(CompletionOf(*ticket));
    }
    changed_.notify_all();
    lock->unlock();
  }
  for (const auto& open : after.openings) open();  // last: XLA may go on inside
}

}  // namespace aqua
